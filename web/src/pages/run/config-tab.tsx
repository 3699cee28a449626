import { getConfig } from "../../api/calls";
import type { Run } from "../../contract";
import { toYaml } from "../../model/yaml";
import { useResource } from "../../state/resource";
import { toast, toastError } from "../../state/toasts";
import { Button } from "../../ui/button";
import { Notice } from "../../ui/notice";

/** The configuration of the newest attempt, every default filled in. */
export function ConfigTab({ run }: { run: Run }) {
  const { data, error } = useResource((signal) => getConfig(run.id, signal), `${run.id}/${run.attempt}`);
  if (error.value !== null) return <Notice tone="error">{error.value}</Notice>;
  if (data.value === null) return <p class="muted">Loading configuration …</p>;
  const text = toYaml(data.value);
  const copy = () =>
    navigator.clipboard.writeText(text).then(() => toast("Configuration copied"), toastError);
  return (
    <section aria-label="Configuration">
      <div class="section-head">
        <span class="muted small">
          {run.preset === null ? "no preset" : `from the preset “${run.preset}”`}, resolved
        </span>
        {window.isSecureContext && <Button onClick={() => void copy()}>Copy</Button>}
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls is reached by keyboard */}
      <pre class="card code" tabIndex={0}>
        {text}
      </pre>
    </section>
  );
}
