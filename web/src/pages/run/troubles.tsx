import type { Run, RunTrouble, StampedEvent } from "../../contract";
import { describe } from "../../model/events";
import { formatTime, groupDigits } from "../../model/format";
import { runPath } from "../../model/routes";
import { isTroubleTold } from "../../model/states";
import { troubleWord } from "../../model/words";
import { now } from "../../state/clock";
import type { RunFeed } from "../../state/run-feed";
import { Link } from "../../ui/link";
import { Notice } from "../../ui/notice";

const MOST = 2;

/** The newest trouble since a person started the run, for as long as that is so. */
export function Trouble({ run, trouble }: { run: Run; trouble: RunTrouble }) {
  if (isTroubleTold(run, trouble)) return null;
  return (
    <div class="troubles" data-trouble>
      <Notice tone={run.state === "failed" ? "error" : "warning"}>
        <b>Trouble: {troubleWord(trouble)}</b> {trouble.reason}{" "}
        <span class="muted number">{formatTime(trouble.time, now.value)}</span>{" "}
        <Link to={runPath(run.id, "events")} keepScroll>
          What happened
        </Link>
      </Notice>
    </div>
  );
}

/** The newest alerts of this attempt; the rest is in the events. */
export function Alerts({ run, feed }: { run: Run; feed: RunFeed }) {
  const found = feed.events.value.filter(
    (event) => event.attempt === run.attempt && isAlert(event) && !isTold(run, event),
  );
  const newest = found.slice(-MOST).reverse();
  if (newest.length === 0) return null;
  return (
    <div class="troubles">
      {newest.map((event) => {
        const line = describe(event);
        return (
          <Notice key={event.seq} tone={line.level === "error" ? "error" : "warning"}>
            <b>{line.title}</b> {line.text}{" "}
            <span class="muted number">{formatTime(event.time, now.value)}</span>
          </Notice>
        );
      })}
      {found.length > MOST && (
        <Link to={runPath(run.id, "events")} keepScroll>
          All {groupDigits(found.length)} in the events
        </Link>
      )}
    </div>
  );
}

/** Whether the reason of the run's state says it already. */
function isTold(run: Run, event: StampedEvent): boolean {
  return typeof event.message === "string" && (run.reason ?? "").includes(event.message);
}

function isAlert(event: StampedEvent): boolean {
  if (event.kind === "alert") return event.level !== "info";
  return event.kind === "non_finite";
}
