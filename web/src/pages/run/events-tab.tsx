import { useSignal } from "@preact/signals";
import type { StampedEvent } from "../../contract";
import { describe, type EventChoice, type EventLine, isChosen, type Level } from "../../model/events";
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

const CHOICES: { choice: EventChoice; label: string; none: string }[] = [
  { choice: "everything", label: "Everything", none: "No events yet" },
  { choice: "story", label: "What happened", none: "Nothing happened yet" },
  { choice: "trouble", label: "Warnings and errors only", none: "No warnings, no errors" },
];

/** What happened, newest first, with a line between two attempts. */
export function EventsTab({ feed }: { feed: RunFeed }) {
  const chosen = useSignal<EventChoice>("everything");
  const wanted = feed.events.value
    .map((event) => ({ event, line: describe(event) }))
    .filter(({ event, line }) => isChosen(chosen.value, event, line));
  const shown = wanted.slice(-SHOWN).reverse();
  return (
    <section aria-label="Events">
      <div class="section-head">
        <span class="muted small number">{groupDigits(wanted.length)} events, newest first</span>
        <fieldset class="choice" aria-label="Which events">
          {CHOICES.map(({ choice, label }) => (
            <button
              key={choice}
              type="button"
              class="chip"
              aria-pressed={chosen.value === choice}
              onClick={() => (chosen.value = choice)}
            >
              {label}
            </button>
          ))}
        </fieldset>
      </div>
      {shown.length === 0 ? (
        <Empty title={CHOICES.find(({ choice }) => choice === chosen.value)?.none ?? ""} />
      ) : (
        <ol class="card events">
          {shown.map(({ event, line }, i) => (
            <Line key={event.seq} event={event} line={line} after={shown[i - 1]?.event} />
          ))}
        </ol>
      )}
    </section>
  );
}

interface LineProps {
  event: StampedEvent;
  line: EventLine;
  /** The event above it, which is newer. */
  after: StampedEvent | undefined;
}

function Line({ event, line, after }: LineProps) {
  const isFirst = after === undefined ? event.attempt > 1 : after.attempt !== event.attempt;
  return (
    <>
      {isFirst && <li class="event-attempt number">Attempt {event.attempt}</li>}
      <li class={`event ${line.level}`}>
        <Icon name={ICONS[line.level]} />
        <div class="event-text">
          <b>{line.title}</b> <span>{line.text}</span>
        </div>
        <Stamp event={event} />
      </li>
    </>
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
