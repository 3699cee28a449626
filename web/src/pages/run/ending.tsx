import { getConfig } from "../../api/calls";
import type { Run } from "../../contract";
import { type End, type EndStep, endOf, escalation, type StepStatus } from "../../model/ending";
import { valueAt } from "../../model/form";
import { formatDuration } from "../../model/format";
import { now } from "../../state/clock";
import { useResource } from "../../state/resource";
import type { RunFeed } from "../../state/run-feed";
import { stream } from "../../state/runs";
import { Icon, type IconName } from "../../ui/icons";

const ICONS: Record<StepStatus, IconName> = {
  done: "check",
  current: "dot",
  ahead: "circle",
  skipped: "minus",
  unseen: "question",
};

const WORDS: Record<StepStatus, string> = {
  done: "done",
  current: "under way",
  ahead: "to come",
  skipped: "not needed",
  unseen: "not seen",
};

/** The end of a run that was asked to end, step by step, and what happens when it takes too long. */
export function Ending({ run, feed }: { run: Run; feed: RunFeed | null }) {
  const end = endOf(run, feed?.events.value ?? []);
  if (end === null) return null;
  const isOver = run.state !== "stopping" && run.state !== "pausing";
  return (
    <section class={isOver ? "card ending over" : "card ending"} aria-label="How it ends">
      <ol class="end-steps">
        {end.steps.map((step) => (
          <Step key={step.phase} step={step} />
        ))}
      </ol>
      {!isOver && <Patience run={run} end={end} />}
    </section>
  );
}

function Step({ step }: { step: EndStep }) {
  return (
    <li
      class={`end-step ${step.status}`}
      data-phase={step.phase}
      aria-current={step.status === "current" ? "step" : undefined}
    >
      <Icon name={ICONS[step.status]} />
      <span>{step.label}</span>
      <span class="sr-only">, {WORDS[step.status]}</span>
      {step.afterS !== null && <span class="muted small number">{afterText(step.afterS)}</span>}
    </li>
  );
}

function afterText(seconds: number): string {
  return seconds < 10 ? `${seconds.toFixed(1)} s` : formatDuration(seconds);
}

/** What it is waiting for, and when the keeper will wait no longer. */
function Patience({ run, end }: { run: Run; end: End }) {
  const config = useResource((signal) => getConfig(run.id, signal), `${run.id}/${run.attempt}`);
  const grace = valueAt(config.data.value, "trouble.term_grace_s");
  const at = now.value + stream.clockOffset.value;
  const current = end.steps.find(({ status }) => status === "current");
  const what = end.detail ?? MEANINGS[current?.phase ?? ""] ?? run.reason;
  return (
    <p class="patience">
      <span role="status">{what}</span>
      {end.deadline !== null && (
        <span class="countdown number">
          {escalation(end.deadline, typeof grace === "number" ? grace : null, at)}
        </span>
      )}
    </p>
  );
}

const MEANINGS: Record<string, string> = {
  requested: "Asked; the trainer sees it between two micro-batches.",
  draining: "The step under way is finished or dropped.",
  saving: "The checkpoint is being written.",
  verified: "The checkpoint was read back and is whole.",
  exited: "The processes close and leave.",
  memory_free: "The processes are gone; the GPUs take their memory back.",
};
