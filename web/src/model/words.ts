/** What phases and troubles are called before people. */

import type { Failure, Run, RunTrouble, TroubleEvent } from "../contract";

const PHASES: Record<string, string> = {
  setup: "setting up",
  data: "preparing data",
  model: "building the model",
  restoring: "restoring a checkpoint",
  waiting: "waiting for room on the disk",
  saving: "saving a checkpoint",
  verified: "checkpoint verified",
  exited: "processes gone",
  memory_free: "memory free",
  backing_off: "waiting before the next attempt",
};

/** A phase in words; one that this version does not know by its name. */
export function phaseWord(phase: string): string {
  return PHASES[phase] ?? phase.replaceAll("_", " ");
}

const FAILURES: Record<Failure, string> = {
  crash: "crash",
  out_of_memory: "out of memory",
  non_finite: "not finite",
  damaged_checkpoint: "damaged checkpoint",
  hang: "hang",
  gpu_lost: "GPU lost",
  refused: "refused",
  interrupted: "interrupted",
};

const ANSWERS: Record<TroubleEvent["action"], string> = {
  none: "noted",
  skip: "steps skipped",
  restart: "started again",
  rollback: "rolled back",
  pause: "paused",
  terminate: "SIGTERM sent",
  kill: "SIGKILL sent",
};

/** What went wrong and what was done about it, e.g. `crash, started again`. */
export function troubleWord(trouble: {
  action: RunTrouble["action"];
  failure?: Failure | null | undefined;
}): string {
  const { action, failure } = trouble;
  const what = failure ? FAILURES[failure] : null;
  if (what !== null && action === "none") return what;
  const answer = (ANSWERS as Record<string, string>)[action] ?? action;
  return what === null ? answer : `${what}, ${answer}`;
}

/** `1st`, `2nd`, `3rd`, `11th`. */
export function ordinal(number: number): string {
  const tens = number % 100;
  const ending = tens >= 11 && tens <= 13 ? "th" : (["th", "st", "nd", "rd"][number % 10] ?? "th");
  return `${number}${ending}`;
}

/** Where a run stands in the queue and why it is not on; null where it does not wait. */
export function waitingWord(run: Run): string | null {
  if (run.waiting === null) return null;
  return `${ordinal(run.waiting.position)} in the queue: ${run.waiting.reason}`;
}

/** What the keeper said to a failure beside the error that is the state's reason, e.g. why it was not tried again. */
export function afterwards(run: Pick<Run, "reason" | "trouble">): string {
  const [reason, told] = [run.reason ?? "", run.trouble?.reason ?? ""];
  if (reason === "" || !told.startsWith(`${reason}; `)) return "";
  const rest = told.slice(reason.length + 2);
  return `${rest.charAt(0).toUpperCase()}${rest.slice(1)}`;
}
