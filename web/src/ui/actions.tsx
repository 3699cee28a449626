import { useSignal } from "@preact/signals";
import { actOnRun, restoreRun } from "../api/calls";
import type { Run } from "../contract";
import { type Action, guardOf } from "../model/states";
import { putRun } from "../state/runs";
import { toast, toastError } from "../state/toasts";
import { Button } from "./button";
import { Confirm } from "./dialog";
import type { IconName } from "./icons";
import { Menu } from "./menu";

interface ActionText {
  label: string;
  icon: IconName;
  done: string;
  /** Said instead of `done` where the run waits in the queue. */
  doneInQueue?: string;
  /** What is asked before; without it the action is taken at once. */
  question?: string;
}

const ACTIONS: Record<Action, ActionText> = {
  stop: {
    label: "Stop",
    icon: "stop",
    done: "Stopping: a checkpoint is written first",
    doneInQueue: "Taken out of the queue",
  },
  pause: {
    label: "Pause",
    icon: "pause",
    done: "Pausing: a checkpoint is written first",
    doneInQueue: "Held: it keeps its place until it is resumed",
  },
  resume: { label: "Resume", icon: "resume", done: "Resuming from the newest checkpoint" },
  checkpoint: {
    label: "Checkpoint now",
    icon: "checkpoint",
    done: "A checkpoint is written at the next step",
  },
  sample: { label: "Sample now", icon: "sample", done: "Samples are made at the next step" },
  cancel: {
    label: "Cancel",
    icon: "cancel",
    done: "Cancelling",
    question: "A cancelled run cannot be resumed. To go on with it later, stop or pause it instead.",
  },
  delete: {
    label: "Delete",
    icon: "delete",
    done: "Deleted",
    question: "Its folder, with curves, samples and checkpoints, goes to the server's trash.",
  },
};

const STOP_WITHOUT_SAVING: ActionText = {
  label: "Stop without saving",
  icon: "stop",
  done: "Stopping without a checkpoint",
  question: "What was learned since the last checkpoint is learned again when the run is resumed.",
};

/** A run that is stopping already can only be stopped sooner. */
function textOf(run: Run, action: Action): ActionText {
  return action === "stop" && run.state === "stopping" ? STOP_WITHOUT_SAVING : ACTIONS[action];
}

const ORDER: Action[] = ["resume", "pause", "stop", "checkpoint", "sample", "cancel", "delete"];

interface RunActionsProps {
  run: Run;
  /** Those that get a button; the others are in the menu behind it. */
  shown: Action[];
  iconsOnly?: boolean;
  onDeleted?: () => void;
}

/** What may be asked of a run in its state. */
export function RunActions({ run, shown, iconsOnly = false, onDeleted }: RunActionsProps) {
  const { act, busy, asking } = useActions(run, onDeleted);
  const allowed = ORDER.filter((action) => run.actions.includes(action));
  // a second click on Stop must not meet the button that gives up the checkpoint
  const buttons = run.state === "stopping" ? [] : allowed.filter((action) => shown.includes(action));
  const inMenu = allowed.filter((action) => !buttons.includes(action));
  const asked = asking.value;
  const question = asked === null ? null : textOf(run, asked);
  return (
    <div class="actions">
      {buttons.map((action) => (
        <Button
          key={action}
          icon={ACTIONS[action].icon}
          kind={iconsOnly ? "quiet" : action === "resume" ? "primary" : "plain"}
          busy={busy.value === action}
          onClick={() => act(action)}
          {...(iconsOnly
            ? { label: `${ACTIONS[action].label} ${run.name}` }
            : { children: ACTIONS[action].label })}
        />
      ))}
      {inMenu.length > 0 && (
        <Menu
          label={`More for ${run.name}`}
          items={inMenu.map((action) => ({
            label: textOf(run, action).label,
            icon: textOf(run, action).icon,
            danger: action === "delete" || action === "cancel",
            onSelect: () => act(action),
          }))}
        />
      )}
      {asked !== null && question !== null && (
        <Confirm
          title={`${question.label} “${run.name}”?`}
          confirm={question.label}
          danger
          onConfirm={() => act(asked, true)}
          onClose={() => (asking.value = null)}
        >
          {question.question}
        </Confirm>
      )}
    </div>
  );
}

/** Not tied to a component: the one that offered it went with the run. */
async function restore(run: Run): Promise<void> {
  try {
    putRun(await restoreRun(run.id, new AbortController().signal));
  } catch (error) {
    toastError(error);
  }
}

function doneText(run: Run, action: Action): string {
  const { done, doneInQueue } = textOf(run, action);
  return run.state === "queued" ? (doneInQueue ?? done) : done;
}

/** What is asked of a run and of each button's work with it. What was asked is told even when the button that asked it
 * has gone meanwhile. */
export function useActions(run: Run, onDeleted?: () => void) {
  const busy = useSignal<Action | null>(null);
  const asking = useSignal<Action | null>(null);

  const act = async (action: Action, sure = false) => {
    if (textOf(run, action).question !== undefined && !sure) {
      asking.value = action;
      return;
    }
    busy.value = action;
    try {
      const options = { attempt: guardOf(run), save: run.state !== "stopping" };
      await actOnRun(run.id, action, options, new AbortController().signal);
      const undo = { label: "Undo", run: () => void restore(run) };
      toast(`${run.name}: ${doneText(run, action)}`, "info", action === "delete" ? undo : undefined);
      if (action === "delete") onDeleted?.();
    } catch (error) {
      toastError(error);
    } finally {
      busy.value = null;
    }
  };
  return { act, busy, asking };
}
