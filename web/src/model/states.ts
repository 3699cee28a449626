/** What the states of a run mean to the eye. */

import type { Run, RunState, RunTrouble } from "../contract";

export type Tone = "live" | "waiting" | "good" | "bad" | "quiet";

export const TONES: Record<RunState, Tone> = {
  queued: "waiting",
  starting: "live",
  running: "live",
  pausing: "waiting",
  paused: "waiting",
  stopping: "waiting",
  stopped: "quiet",
  cancelled: "quiet",
  recovering: "waiting",
  interrupted: "bad",
  completed: "good",
  failed: "bad",
};

const LIVE: ReadonlySet<RunState> = new Set(["starting", "running", "pausing", "stopping", "recovering"]);

/** Whether a process is at work on it. */
export function isLive(state: RunState): boolean {
  return LIVE.has(state);
}

export type Action = Run["actions"][number];

/** How far a run is, 0 to 1; null where epochs decide. */
export function progress(run: Run): number | null {
  if (run.max_steps === null || run.max_steps <= 0) return null;
  return Math.min(1, run.step / run.max_steps);
}

/** Seconds from the first start to its end or to now; null before it started. */
export function elapsed(run: Run, now: number): number | null {
  if (run.started_at === null) return null;
  const end = run.ended_at === null ? now : Date.parse(run.ended_at);
  return Math.max(0, (end - Date.parse(run.started_at)) / 1000);
}

/** Seconds that are left until a deadline, not below zero. */
export function secondsUntil(deadline: string, now: number): number {
  return Math.max(0, (Date.parse(deadline) - now) / 1000);
}

/** Whether the reason of the run's state says already what its trouble says. */
export function isTroubleTold(
  run: Pick<Run, "state" | "reason">,
  trouble: Pick<RunTrouble, "reason">,
): boolean {
  if (run.state !== "failed" && run.state !== "recovering" && run.state !== "interrupted") return false;
  const reason = run.reason ?? "";
  return reason !== "" && (reason.includes(trouble.reason) || trouble.reason.includes(reason));
}

/** The attempt that a request is meant for; null while attempts follow each other by themselves, and any is meant. */
export function guardOf(run: Pick<Run, "state" | "attempt">): number | null {
  return run.state === "recovering" ? null : run.attempt;
}
