import { useSignal } from "@preact/signals";
import type { ModalityInfo } from "../../contract";
import type { JsonSchema } from "../../model/form";
import { parseSources, sourcesText } from "../../model/sources";
import type { Draft } from "./draft";

const PATH = "data.sources";
const EXAMPLE =
  '[\n  {"name": "mine", "category": "document", "path": "/data/mine.jsonl", "eval_split": null}\n]';

interface SourcesProps {
  draft: Draft;
  root: JsonSchema;
  modalities: ModalityInfo[];
}

/** What is learned from: the list of data sets, as JSON. */
export function Sources({ draft, root, modalities }: SourcesProps) {
  const typed = useSignal("");
  const changed = draft.edits.value.has(PATH);
  const text = changed ? typed.value : sourcesText(root, draft.presetValueOf(PATH));
  const { problem } = parseSources(text);
  const errors = problem === null ? (draft.errors.value.get(PATH) ?? []) : [problem];
  const onInput = (event: Event & { currentTarget: HTMLTextAreaElement }) => {
    typed.value = event.currentTarget.value;
    draft.set(PATH, parseSources(event.currentTarget.value).value);
  };
  return (
    <fieldset class="card group">
      <legend>Data</legend>
      <div class={`field${changed ? " changed" : ""}`} data-field={PATH}>
        <div class="field-head">
          <label class="field-label" for="sources">
            Sources
          </label>
          {changed && (
            <button
              type="button"
              class="text-button"
              onClick={() => draft.reset(PATH)}
              title="Back to the preset's"
            >
              preset
            </button>
          )}
        </div>
        <textarea
          id="sources"
          class="input sources"
          rows={Math.min(10, Math.max(4, text.split("\n").length))}
          spellcheck={false}
          autocomplete="off"
          placeholder={EXAMPLE}
          aria-describedby={errors.length > 0 ? "sources-error sources-help" : "sources-help"}
          aria-invalid={errors.length > 0 || undefined}
          value={text}
          onInput={onInput}
        />
        {errors.map((error) => (
          <p key={error} class="field-error" id="sources-error">
            {error}
          </p>
        ))}
        <p class="field-help" id="sources-help">
          The data sets, as JSON: each has a name, a path on the server's machine or on the Hugging Face hub,
          and a category, which decides what learns from it. {modalities.map(categoriesOf).join("; ")}.
        </p>
      </div>
    </fieldset>
  );
}

function categoriesOf(info: ModalityInfo): string {
  return `${info.label}: ${info.categories.join(", ")}`;
}
