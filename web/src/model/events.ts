/** Events as lines for people; kinds that this version does not know are shown as such. */

import type {
  AlertEvent,
  BadSampleEvent,
  CheckpointEvent,
  CommandEvent,
  EvalEvent,
  LogEvent,
  NonFiniteEvent,
  PhaseEvent,
  ReceiptEvent,
  SampleEvent,
  StampedEvent,
  StateEvent,
  TroubleEvent,
} from "../contract";
import { formatBytes, formatDuration, formatMetric } from "./format";
import { phaseWord, troubleWord } from "./words";

export type Level = "info" | "good" | "warning" | "error" | "unknown";

export interface EventLine {
  level: Level;
  title: string;
  text: string;
}

type Body =
  | AlertEvent
  | BadSampleEvent
  | CheckpointEvent
  | CommandEvent
  | EvalEvent
  | LogEvent
  | NonFiniteEvent
  | PhaseEvent
  | ReceiptEvent
  | SampleEvent
  | StateEvent
  | TroubleEvent;

/** What an event says. */
export function describe(event: StampedEvent): EventLine {
  const body = event as unknown as Body;
  switch (body.kind) {
    case "state":
      return line(stateLevel(body), `State: ${body.state}`, body.reason ?? "");
    case "phase":
      return line(phaseLevel(body), `Phase: ${phaseWord(body.phase)}`, body.detail ?? "");
    case "command":
      return line(
        body.status === "ignored" ? "warning" : "info",
        `Command ${body.command}`,
        commandText(body),
      );
    case "checkpoint":
      return line("good", `Checkpoint at step ${body.step}`, checkpointText(body));
    case "sample":
      return line("info", `Sample at step ${body.step}`, `${body.modality}: ${body.caption}`);
    case "eval":
      return line("info", `Evaluation at step ${body.step}`, evalText(body));
    case "receipt":
      return line(
        body.missing.length > 0 ? "warning" : "good",
        `Resumed from step ${body.step}`,
        receiptText(body),
      );
    case "non_finite":
      return line("error", `${body.name} was ${body.value} at step ${body.step}`, nonFiniteText(body));
    case "trouble":
      return line("error", `Trouble: ${troubleWord(body)}`, body.reason);
    case "bad_sample":
      return line(
        "warning",
        `Bad sample ${body.source}[${body.index}]: ${(body.problem ?? "unreadable").replaceAll("_", " ")}`,
        `${body.reason} (${body.count} so far)`,
      );
    case "alert":
      return line(body.level, "Alert", body.message);
    case "log":
      return line(body.level === "debug" ? "info" : body.level, "Log", body.message);
    default:
      return line("unknown", `Unknown event: ${event.kind}`, rest(event));
  }
}

function line(level: Level, title: string, text: string): EventLine {
  return { level, title, text };
}

function stateLevel(body: StateEvent): Level {
  if (body.state === "failed" || body.state === "interrupted") return "error";
  if (body.state === "recovering") return "warning";
  return body.state === "completed" ? "good" : "info";
}

function phaseLevel(body: PhaseEvent): Level {
  if (body.phase === "waiting") return "warning";
  return body.phase === "verified" || body.phase === "memory_free" ? "good" : "info";
}

function commandText(body: CommandEvent): string {
  return body.detail ? `${body.status}: ${body.detail}` : body.status;
}

function checkpointText(body: CheckpointEvent): string {
  return `${body.reason}, ${formatBytes(body.bytes)} in ${body.seconds.toFixed(1)} s`;
}

function evalText(body: EvalEvent): string {
  const values = Object.entries(body.values).map(
    ([name, value]) =>
      `${name.replace(/^eval\//, "")} ${value === null ? "not finite" : formatMetric(value)}`,
  );
  return `${values.join(", ")} (${formatDuration(body.seconds)})`;
}

function receiptText(body: ReceiptEvent): string {
  const parts = [`restored ${body.restored.join(", ") || "nothing"}`];
  if (body.reset.length > 0) parts.push(`reset ${body.reset.join(", ")}`);
  if (body.missing.length > 0) parts.push(`missing ${body.missing.join(", ")}`);
  return parts.join("; ");
}

function nonFiniteText(body: NonFiniteEvent): string {
  const ids = body.sample_ids ?? [];
  const where = body.modality ? `while training ${body.modality}` : "";
  return [where, ids.length > 0 ? `samples ${ids.join(", ")}` : ""].filter(Boolean).join("; ");
}

function rest(event: StampedEvent): string {
  const { seq: _seq, time: _time, attempt: _attempt, kind: _kind, ...fields } = event;
  return JSON.stringify(fields);
}

export type EventChoice = "everything" | "story" | "trouble";

const STORY: ReadonlySet<string> = new Set([
  "state",
  "trouble",
  "alert",
  "receipt",
  "checkpoint",
  "command",
  "non_finite",
]);

/** Whether an event is one of those that were asked for. */
export function isChosen(choice: EventChoice, event: StampedEvent, { level }: EventLine): boolean {
  if (choice === "story") return STORY.has(event.kind);
  return choice === "everything" || level === "warning" || level === "error";
}

/** Kinds of which one page holds a handful; metrics are thousands and are drawn instead. */
export function isListed(event: StampedEvent): boolean {
  return event.kind !== "metrics";
}

/** Adds events that are new, in order, keeping the newest `limit`. */
export function appendEvents(list: StampedEvent[], events: StampedEvent[], limit = 2000): StampedEvent[] {
  const last = list[list.length - 1]?.seq ?? 0;
  const fresh = events.filter((event) => event.seq > last && isListed(event));
  return fresh.length === 0 ? list : [...list, ...fresh].slice(-limit);
}
