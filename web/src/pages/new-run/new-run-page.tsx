import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { getPresets } from "../../api/calls";
import type { Preset, SchemaDocument } from "../../contract";
import { type FieldSpec, fieldAt, fieldsBelow, type JsonSchema } from "../../model/form";
import { humanize } from "../../model/format";
import { runPath } from "../../model/routes";
import { useResource } from "../../state/resource";
import { navigate } from "../../state/router";
import { putRun } from "../../state/runs";
import { schema, schemaError } from "../../state/schema";
import { OptionField } from "../../ui/field";
import { Link } from "../../ui/link";
import { Notice } from "../../ui/notice";
import { Draft } from "./draft";
import { Mix } from "./mix";
import { Option } from "./option";
import { GROUPS, MODALITY_FIELDS } from "./options";
import { Sources } from "./sources";
import { Summary } from "./summary";

/** A new run: a preset and what should be different. */
export function NewRunPage() {
  const presets = useResource(async (signal) => (await getPresets(signal)).items, "presets");
  useEffect(() => {
    document.title = "New run · Xoron";
  }, []);
  const error = presets.error.value ?? schemaError.value;
  const document_ = schema.value;
  const items = presets.data.value;
  return (
    <main class="page" id="main">
      <p class="crumbs">
        <Link to="/">Runs</Link>
        <span aria-hidden="true"> / </span>
        <span class="muted">New</span>
      </p>
      <div class="page-head">
        <h1>New run</h1>
      </div>
      {error !== null && <Notice tone="error">{error}</Notice>}
      {error === null && (items === null || document_ === null) && <p class="muted">Loading presets …</p>}
      {items !== null && document_ !== null && <NewRunForm presets={items} document_={document_} />}
    </main>
  );
}

interface FormProps {
  presets: Preset[];
  document_: SchemaDocument;
}

function NewRunForm({ presets, document_ }: FormProps) {
  const first = presets.find((preset) => preset.name === "demo") ?? presets[0];
  if (first === undefined) return <Notice tone="warning">The server has no presets.</Notice>;
  return <FilledForm presets={presets} document_={document_} first={first} />;
}

function FilledForm({ presets, document_, first }: FormProps & { first: Preset }) {
  const made = useRef<Draft | null>(null);
  made.current ??= new Draft(first);
  const draft = made.current;
  const form = useRef<HTMLFormElement>(null);
  const request = useRef(new AbortController());
  useEffect(() => () => request.current.abort(), []);
  useEffect(() => draft.start(), [draft]);

  const submit = async (event: Event) => {
    event.preventDefault();
    if (draft.sending.value) return;
    const run = await draft.submit(request.current.signal);
    if (run === null) {
      requestAnimationFrame(() => form.current?.querySelector<HTMLElement>("[aria-invalid]")?.focus());
      return;
    }
    putRun(run);
    navigate(runPath(run.id));
  };

  const root = document_.config as JsonSchema;
  return (
    <form class="new-run" ref={form} onSubmit={submit} noValidate>
      <div class="form-main">
        <Basics draft={draft} presets={presets} />
        {GROUPS.map((group) => (
          <fieldset class="card group" key={group.title}>
            <legend>{group.title}</legend>
            <div class="fields">
              {group.paths.map(({ path, label }) => (
                <Option key={path} draft={draft} root={root} path={path} label={label} />
              ))}
            </div>
          </fieldset>
        ))}
        <Sources draft={draft} root={root} modalities={document_.modalities} />
        <Mix draft={draft} root={root} modalities={document_.modalities} />
        <AllOptions draft={draft} root={root} shown={shownPaths(document_)} />
      </div>
      <Summary draft={draft} root={root} />
    </form>
  );
}

function shownPaths(document_: SchemaDocument): Set<string> {
  const modal = document_.modalities.flatMap((info) =>
    MODALITY_FIELDS.map(({ path }) => `modalities.${info.name}.${path}`),
  );
  return new Set([...GROUPS.flatMap((group) => group.paths.map(({ path }) => path)), ...modal]);
}

const PRIORITY: FieldSpec = {
  path: "priority",
  kind: "integer",
  nullable: false,
  choices: [],
  help: "Where it has to wait: runs of a higher priority are started first.",
  limits: "",
};

function Basics({ draft, presets }: { draft: Draft; presets: Preset[] }) {
  const errors = draft.errors.value.get("name") ?? [];
  const choose = (name: string) => {
    const preset = presets.find((entry) => entry.name === name);
    if (preset !== undefined) draft.preset.value = preset;
  };
  return (
    <fieldset class="card group">
      <legend>What</legend>
      <div class="fields wide">
        <div class="field" data-field="preset">
          <label class="field-label" for="preset">
            Preset
          </label>
          <select id="preset" class="input" onChange={(event) => choose(event.currentTarget.value)}>
            {presets.map(({ name }) => (
              <option key={name} value={name} selected={name === draft.preset.value.name}>
                {name}
              </option>
            ))}
          </select>
          <p class="field-help">Where every option starts from.</p>
        </div>
        <div class="field" data-field="name">
          <label class="field-label" for="name">
            Name
          </label>
          <input
            id="name"
            class="input"
            maxLength={200}
            placeholder="chosen for you"
            autocomplete="off"
            value={draft.name.value}
            aria-invalid={errors.length > 0 || undefined}
            onInput={(event) => (draft.name.value = event.currentTarget.value)}
          />
          {errors.map((error) => (
            <p key={error} class="field-error">
              {error}
            </p>
          ))}
          <p class="field-help">What the table calls it; it can be changed later.</p>
        </div>
        <OptionField
          field={PRIORITY}
          label="Priority"
          isCompact={false}
          emptyWord="none"
          value={draft.priority.value}
          preset={0}
          errors={draft.errors.value.get("priority") ?? []}
          onChange={(value) => (draft.priority.value = value)}
          onReset={() => (draft.priority.value = 0)}
        />
      </div>
    </fieldset>
  );
}

function AllOptions({ draft, root, shown }: { draft: Draft; root: JsonSchema; shown: Set<string> }) {
  const open = useSignal(false);
  const sections = Object.keys(root.properties ?? {});
  const hasError = [...draft.errors.value.keys()].some(
    (path) => !shown.has(path) && fieldAt(root, path) !== null,
  );
  return (
    <details
      class="card group all-options"
      open={open.value || hasError}
      onToggle={(event) => (open.value = event.currentTarget.open)}
    >
      <summary>All other options</summary>
      {(open.value || hasError) &&
        sections.map((section) => {
          const fields = fieldsBelow(root, section).filter((field) => !shown.has(field.path));
          return (
            fields.length > 0 && (
              <section key={section}>
                <h3>{humanize(section)}</h3>
                <div class="fields">
                  {fields.map(({ path }) => (
                    <Option key={path} draft={draft} root={root} path={path} label={labelOf(path)} />
                  ))}
                </div>
              </section>
            )
          );
        })}
    </details>
  );
}

/** `model.language.num_heads` as `language · num heads`: the section stands above. */
function labelOf(path: string): string {
  return path.split(".").slice(1).map(humanize).join(" · ");
}
