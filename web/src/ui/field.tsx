import { useSignal } from "@preact/signals";
import { useId } from "preact/hooks";
import { type FieldSpec, inputText, parseInput } from "../model/form";

interface FieldProps {
  field: FieldSpec;
  label: string;
  value: unknown;
  preset: unknown;
  errors: string[];
  /** Stands where the option is left empty. */
  emptyWord: string;
  /** Label and help are for those who cannot see the table that the field is in. */
  isCompact: boolean;
  onChange: (value: unknown) => void;
  onReset: () => void;
}

/** One option with its help, its limits, how it differs from the preset, and what is wrong with it. */
export function OptionField(props: FieldProps) {
  const { field, label, value, preset, errors, emptyWord, isCompact, onReset } = props;
  const id = useId();
  const changed = !Object.is(value, preset);
  const back = shown(preset, emptyWord);
  return (
    <div class={`field${changed ? " changed" : ""}${isCompact ? " compact" : ""}`} data-field={field.path}>
      <div class="field-head">
        <label class="field-label" for={id}>
          {label}
        </label>
        {changed && (
          <button type="button" class="text-button" onClick={onReset} title={`Back to ${back}`}>
            preset: {back}
          </button>
        )}
      </div>
      <Control {...props} id={id} />
      {errors.map((error) => (
        <p key={error} class="field-error" id={`${id}-error`}>
          {error}
        </p>
      ))}
      <p class={isCompact ? "sr-only" : "field-help"} id={`${id}-help`}>
        <Help text={field.help} />
        {field.limits !== "" && <span class="limits"> {field.limits}</span>}
      </p>
    </div>
  );
}

/** Help whose names of options stand between backticks. */
function Help({ text }: { text: string }) {
  return <>{text.split("`").map((part, i) => (i % 2 === 0 ? part : <code key={part}>{part}</code>))}</>;
}

function shown(value: unknown, emptyWord: string): string {
  return value === null || value === undefined ? emptyWord : String(value);
}

function Control({ field, value, errors, emptyWord, onChange, id }: FieldProps & { id: string }) {
  const described = errors.length > 0 ? `${id}-error ${id}-help` : `${id}-help`;
  const shared = { id, "aria-describedby": described, "aria-invalid": errors.length > 0 || undefined };
  if (field.kind === "boolean") {
    return (
      <select {...shared} class="input" onChange={(event) => onChange(event.currentTarget.value === "true")}>
        <option value="true" selected={value === true}>
          yes
        </option>
        <option value="false" selected={value === false}>
          no
        </option>
      </select>
    );
  }
  if (field.kind === "choice") {
    return (
      <select {...shared} class="input" onChange={(event) => onChange(event.currentTarget.value)}>
        {field.choices.map((choice) => (
          <option key={choice} value={choice} selected={value === choice}>
            {choice}
          </option>
        ))}
      </select>
    );
  }
  return <TextControl {...shared} field={field} value={value} emptyWord={emptyWord} onChange={onChange} />;
}

interface TextControlProps {
  id: string;
  "aria-describedby": string;
  "aria-invalid": boolean | undefined;
  field: FieldSpec;
  value: unknown;
  emptyWord: string;
  onChange: (value: unknown) => void;
}

/** Keeps what was typed (`2e-3`) for as long as it means the value; another value from outside replaces it. */
function TextControl({ field, value, emptyWord, onChange, ...shared }: TextControlProps) {
  const typed = useSignal(inputText(value));
  const text = Object.is(parseInput(field, typed.value), value) ? typed.value : inputText(value);
  const onInput = (event: Event & { currentTarget: HTMLInputElement }) => {
    typed.value = event.currentTarget.value;
    onChange(parseInput(field, event.currentTarget.value));
  };
  return (
    <input
      {...shared}
      class="input number"
      type="text"
      inputMode={field.kind === "text" ? "text" : "decimal"}
      autocomplete="off"
      spellcheck={false}
      placeholder={field.nullable ? emptyWord : ""}
      value={text}
      onInput={onInput}
    />
  );
}
