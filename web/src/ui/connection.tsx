import { formatAgo } from "../model/format";
import { now } from "../state/clock";
import { stream } from "../state/runs";

const WORDS = { connecting: "connecting", live: "live", waiting: "reconnecting" };

/** Whether what is seen is what is. */
export function Connection() {
  const status = stream.status.value;
  const last = stream.lastFrameAt.value;
  const since = last === null ? "" : `, last update ${formatAgo(Math.max(0, now.value - last))}`;
  return (
    <span class={`connection ${status}`}>
      <span class="connection-dot" aria-hidden="true" />
      <span>
        <span role="status">{WORDS[status]}</span>
        {status === "waiting" && since}
      </span>
    </span>
  );
}
