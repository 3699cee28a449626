import { fieldAt, type JsonSchema } from "../../model/form";
import { listText } from "../../model/sources";
import { toYaml } from "../../model/yaml";
import { Button } from "../../ui/button";
import { Icon } from "../../ui/icons";
import { Notice } from "../../ui/notice";
import type { Draft } from "./draft";
import { emptyWord } from "./options";

/** What is about to be started, what the server says to it, and the button. */
export function Summary({ draft, root }: { draft: Draft; root: JsonSchema }) {
  const changes = draft.changes.value;
  const verdict = draft.verdict.value;
  const general = [...draft.errors.value].filter(([path]) => !hasField(root, path));
  return (
    <aside class="card summary" aria-label="Summary">
      <h2>Summary</h2>
      <p>
        Preset <b>{draft.preset.value.name}</b>
        {changes.length === 0
          ? ", as it is."
          : ` with ${changes.length} ${changes.length === 1 ? "change" : "changes"}:`}
      </p>
      {changes.length > 0 && (
        <dl class="changes">
          {changes.map(({ path, from, to }) => (
            <div key={path}>
              <dt>{path}</dt>
              <dd class="number">
                <span class="muted">{text(path, from)}</span> → <b>{text(path, to)}</b>
              </dd>
            </div>
          ))}
        </dl>
      )}
      {general.map(([path, messages]) => (
        <Notice key={path} tone="error">
          {path !== "" && <b>{path}: </b>}
          {messages.join("; ")}
        </Notice>
      ))}
      {draft.failure.value !== null && <Notice tone="error">{draft.failure.value}</Notice>}
      <Verdict draft={draft} />
      <Button kind="primary" type="submit" icon="resume" busy={draft.sending.value}>
        Start run
      </Button>
      {verdict?.config && (
        <details>
          <summary>Whole configuration</summary>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls is reached by keyboard */}
          <pre class="code" tabIndex={0}>
            {toYaml(verdict.config)}
          </pre>
        </details>
      )}
    </aside>
  );
}

function Verdict({ draft }: { draft: Draft }) {
  const count = [...draft.errors.value.values()].flat().length;
  const valid = draft.verdict.value?.valid === true && count === 0;
  return (
    <p class={`verdict ${count > 0 ? "bad" : valid ? "good" : ""}`} role="status">
      {count > 0 && (
        <>
          <Icon name="warning" /> {count} {count === 1 ? "problem" : "problems"} to solve
        </>
      )}
      {valid && (
        <>
          <Icon name="check" /> Ready to start
        </>
      )}
    </p>
  );
}

function hasField(root: JsonSchema, path: string): boolean {
  return path === "name" || path === "priority" || (path !== "" && fieldAt(root, path) !== null);
}

function text(path: string, value: unknown): string {
  if (Array.isArray(value)) return listText(value, emptyWord(path));
  return value === null || value === undefined || value === "" ? emptyWord(path) : String(value);
}
