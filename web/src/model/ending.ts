/** How a run ends: from the request until no process and no memory of it is left. */

import type { RunPhase, RunState, StampedEvent } from "../contract";
import { formatDuration } from "./format";

/** A fact is done as soon as it is told; what is no fact lasts until the next one begins. */
const STEPS = [
  { phase: "requested", label: "requested", isFact: false },
  { phase: "draining", label: "draining", isFact: false },
  { phase: "saving", label: "saving", isFact: false },
  { phase: "verified", label: "verified", isFact: true },
  { phase: "exited", label: "exited", isFact: true },
  { phase: "memory_free", label: "memory free", isFact: true },
] as const;

const PLACES = new Map<string, number>(STEPS.map(({ phase }, i) => [phase, i]));
PLACES.set("closing", STEPS.findIndex(({ phase }) => phase === "exited") - 0.5);

/** `unseen`: the run has come to rest, and nobody said that this was so. */
export type StepStatus = "done" | "current" | "ahead" | "skipped" | "unseen";

export interface EndStep {
  phase: string;
  label: string;
  status: StepStatus;
  /** Seconds from the request until this was told; null where it was not. */
  afterS: number | null;
}

export interface End {
  steps: EndStep[];
  /** When the keeper sends SIGTERM; null where nobody set one. */
  deadline: string | null;
  /** What the trainer, or the server before the trainer answered, says to it. */
  detail: string | null;
}

const ENDING: ReadonlySet<RunState> = new Set(["stopping", "pausing"]);
const ASKED: ReadonlySet<RunState> = new Set(["stopping", "pausing", "stopped", "paused", "cancelled"]);
const AT_WORK: ReadonlySet<unknown> = new Set(["starting", "running", "recovering", "failed", "completed"]);

/** Whether a run in this state ends, or has ended, because it was asked to. */
export function endsOnRequest(state: RunState): boolean {
  return ASKED.has(state);
}

/** Whether this phase belongs to an end. */
export function isEndPhase(phase: string): boolean {
  return PLACES.has(phase);
}

/**
 * The end that the newest attempt is in or has come to; null where nobody asked for one.
 *
 * `phase` is the row's, which may be ahead of the events that the page has.
 */
export function endOf(
  run: { state: RunState; phase: RunPhase | null; attempt: number },
  events: StampedEvent[],
): End | null {
  if (!endsOnRequest(run.state)) return null;
  const told = endEvents(run.attempt, events);
  const isOver = !ENDING.has(run.state);
  const phases = told.filter((event) => event.kind === "phase").map((event) => String(event.phase));
  if (!isOver && run.phase !== null && isEndPhase(run.phase.phase)) phases.push(run.phase.phase);
  if (isOver && phases.length === 0) return null;
  const reached = Math.max(-1, ...phases.map((phase) => PLACES.get(phase) ?? -1));
  const began = told[0]?.time ?? null;
  const steps = STEPS.map(({ phase, label, isFact }, i) => {
    const time = told.find((event) => event.phase === phase)?.time ?? null;
    const isTold = phases.includes(phase);
    return {
      phase,
      label,
      status: statusOf(i, reached, isFact, isTold, isOver),
      afterS: seconds(began, time),
    };
  });
  if (!isOver && !steps.some(({ status }) => status === "current")) {
    const next = steps.find(({ status }) => status === "ahead");
    if (next !== undefined) next.status = "current";
  }
  return {
    steps,
    deadline: deadlineOf(run.phase, told),
    detail: isOver ? null : (run.phase?.detail ?? null),
  };
}

function statusOf(
  at: number,
  reached: number,
  isFact: boolean,
  isTold: boolean,
  isOver: boolean,
): StepStatus {
  if (at > reached) return isOver ? "unseen" : "ahead";
  if (!isTold) return "skipped";
  return at === reached && !isFact && !isOver ? "current" : "done";
}

/** What was said since the attempt was last at work. */
function endEvents(attempt: number, events: StampedEvent[]): StampedEvent[] {
  const last = events.findLastIndex((event) => event.kind === "state" && AT_WORK.has(event.state));
  return events
    .slice(last + 1)
    .filter((event) => event.attempt === attempt)
    .filter(
      (event) =>
        (event.kind === "phase" && isEndPhase(String(event.phase))) ||
        (event.kind === "state" && ENDING.has(event.state as RunState)),
    );
}

function deadlineOf(phase: RunPhase | null, told: StampedEvent[]): string | null {
  if (phase?.phase === "exited" || phase?.phase === "memory_free") return null;
  const newest = told.findLast((event) => typeof event.deadline === "string");
  return phase?.deadline ?? (newest === undefined ? null : String(newest.deadline));
}

function seconds(from: string | null, to: string | null): number | null {
  if (from === null || to === null) return null;
  return Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000);
}

/** What the keeper does to a trainer that does not end, and when. `termGraceS`: from SIGTERM until SIGKILL. */
export function escalation(deadline: string, termGraceS: number | null, now: number): string {
  const left = (Date.parse(deadline) - now) / 1000;
  if (left > 0) {
    const then = termGraceS === null ? "then SIGKILL" : `SIGKILL ${formatDuration(termGraceS)} later`;
    return `SIGTERM in ${formatDuration(Math.ceil(left))} if it has not ended by then, ${then}`;
  }
  if (termGraceS === null) return "SIGTERM is sent, SIGKILL follows";
  const untilKill = Math.ceil(left + termGraceS);
  if (untilKill > 0) return `SIGTERM is sent, SIGKILL in ${formatDuration(untilKill)}`;
  return "SIGKILL is sent to every process of the run";
}
