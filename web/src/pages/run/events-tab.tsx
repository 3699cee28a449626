import { useSignal } from "@preact/signals";
import type { StampedEvent } from "../../contract";
import { describe, type Level } from "../../model/events";
import { formatTime, groupDigits } from "../../model/format";
import { now } from "../../state/clock";
import type { RunFeed } from "../../state/run-feed";
import { Icon, type IconName } from "../../ui/icons";
import { Empty } from "../../ui/notice";

const ICONS: Record<Level, IconName> = {
  info: "dot",
  good: "check",
  warning: "warning",
  error: "cross",
  unknown: "question",
};

const SHOWN = 300;

/** What happened, newest first. */
export function EventsTab({ feed }: { feed: RunFeed }) {
  const onlyTrouble = useSignal(false);
  const all = feed.events.value.map((event) => ({ event, line: describe(event) }));
  const wanted = onlyTrouble.value
    ? all.filter(({ line }) => line.level === "warning" || line.level === "error")
    : all;
  const shown = wanted.slice(-SHOWN).reverse();
  return (
    <section aria-label="Events">
      <div class="section-head">
        <span class="muted small number">{groupDigits(wanted.length)} events, newest first</span>
        <button
          type="button"
          class="chip"
          aria-pressed={onlyTrouble.value}
          onClick={() => (onlyTrouble.value = !onlyTrouble.value)}
        >
          Warnings and errors only
        </button>
      </div>
      {shown.length === 0 ? (
        <Empty title={onlyTrouble.value ? "No warnings, no errors" : "No events yet"} />
      ) : (
        <ol class="card events">
          {shown.map(({ event, line }) => (
            <li key={event.seq} class={`event ${line.level}`}>
              <Icon name={ICONS[line.level]} />
              <div class="event-text">
                <b>{line.title}</b> <span>{line.text}</span>
              </div>
              <Stamp event={event} />
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

function Stamp({ event }: { event: StampedEvent }) {
  return (
    <time
      class="muted small number"
      dateTime={event.time}
      title={`event ${event.seq}, attempt ${event.attempt}`}
    >
      {formatTime(event.time, now.value)}
    </time>
  );
}
