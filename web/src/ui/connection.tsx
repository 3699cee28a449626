import { formatAgo } from "../model/format";
import { now } from "../state/clock";
import { stream } from "../state/runs";

/** Whether what is seen is what is. */
export function Connection() {
  const status = stream.status.value;
  const last = stream.lastFrameAt.value;
  const since = last === null ? "" : `, last update ${formatAgo(Math.max(0, now.value - last))}`;
  const text = status === "live" ? "live" : status === "connecting" ? "connecting" : `reconnecting${since}`;
  return (
    <span class={`connection ${status}`} role="status">
      <span class="connection-dot" aria-hidden="true" />
      {text}
    </span>
  );
}
