import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { actOnRun, restoreRun } from "../api/calls";
import type { Run } from "../contract";
import type { Action } from "../model/states";
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
  /** What is asked before; without it the action is taken at once. */
  question?: string;
}

export const ACTIONS: Record<Action, ActionText> = {
  stop: { label: "Stop", icon: "stop", done: "Stopping: a checkpoint is written first" },
  pause: { label: "Pause", icon: "pause", done: "Pausing: a checkpoint is written first" },
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
  const inMenu = allowed.filter((action) => !shown.includes(action));
  const question = asking.value;
  return (
    <div class="actions">
      {allowed
        .filter((action) => shown.includes(action))
        .map((action) => (
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
            label: ACTIONS[action].label,
            icon: ACTIONS[action].icon,
            danger: action === "delete" || action === "cancel",
            onSelect: () => act(action),
          }))}
        />
      )}
      {question !== null && (
        <Confirm
          title={`${ACTIONS[question].label} “${run.name}”?`}
          confirm={ACTIONS[question].label}
          danger
          onConfirm={() => act(question, true)}
          onClose={() => (asking.value = null)}
        >
          {ACTIONS[question].question}
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

function useActions(run: Run, onDeleted?: () => void) {
  const busy = useSignal<Action | null>(null);
  const asking = useSignal<Action | null>(null);
  const request = useRef(new AbortController());
  useEffect(() => () => request.current.abort(), []);

  const act = async (action: Action, sure = false) => {
    if (ACTIONS[action].question !== undefined && !sure) {
      asking.value = action;
      return;
    }
    busy.value = action;
    try {
      await actOnRun(run.id, action, run.attempt, request.current.signal);
      const undo = { label: "Undo", run: () => void restore(run) };
      toast(`${run.name}: ${ACTIONS[action].done}`, "info", action === "delete" ? undo : undefined);
      if (action === "delete") onDeleted?.();
    } catch (error) {
      toastError(error);
    } finally {
      busy.value = null;
    }
  };
  return { act, busy, asking };
}
