import type { RunState } from "../contract";
import { TONES } from "../model/states";
import { Icon, type IconName } from "./icons";

const ICONS: Record<RunState, IconName> = {
  queued: "clock",
  starting: "dot",
  running: "dot",
  pausing: "pause",
  paused: "pause",
  stopping: "stop",
  stopped: "stop",
  cancelled: "cancel",
  recovering: "refresh",
  interrupted: "warning",
  completed: "check",
  failed: "cross",
};

/** A state as a word with a sign; colour only underlines it. */
export function StateBadge({ state }: { state: RunState }) {
  return (
    <span class={`badge ${TONES[state]}`} data-state={state}>
      <Icon name={ICONS[state]} />
      {state}
    </span>
  );
}
