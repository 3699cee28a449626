/** The queue and how a run changes its place in it. */

import type { Gpu, Run } from "../contract";

export type Direction = "first" | "up" | "down";

export interface Move {
  /** Runs that exchange their places (and with them their priorities), the first one first. */
  runs: string[];
  /** Where it stands then; 1 is next. */
  position: number;
}

/** What a move asks of the server; null where the run stands there already or does not wait. */
export function moveOf(items: Run[], id: string, direction: Direction): Move | null {
  const at = items.findIndex((run) => run.id === id);
  const to = direction === "first" ? 0 : direction === "up" ? at - 1 : at + 1;
  if (items[at] === undefined || items[to] === undefined || to === at) return null;
  const between = items.slice(Math.min(at, to), Math.max(at, to) + 1).map((item) => item.id);
  const others = between.filter((other) => other !== id);
  return {
    runs: direction === "down" ? [...others, id] : [id, ...others],
    position: to + 1,
  };
}

/** Changes whenever the queue is to be fetched anew: when something waits, moves, begins or ends. */
export function queueKey(runs: Run[], isLive: (run: Run) => boolean): string {
  const waiting = runs
    .filter((run) => run.state === "queued")
    .map((run) => `${run.id} ${run.priority} ${run.waiting?.position} ${run.waiting?.reason}`);
  const live = runs.filter(isLive).map((run) => run.id);
  return `${waiting.sort().join("\n")}\n\n${live.sort().join("\n")}`;
}

/** E.g. `1 of 2 slots taken`. */
export function slotsWord(taken: number, maxRuns: number): string {
  return `${taken} of ${maxRuns} ${maxRuns === 1 ? "slot" : "slots"} taken`;
}

/** Who has a GPU, by the name of its run where it is one of this home's. */
export function gpuHolder(gpu: Gpu, nameOf: (id: string) => string | undefined): string {
  if (gpu.run !== null) return nameOf(gpu.run) ?? gpu.run;
  return gpu.is_leased ? "another program's run" : "free";
}

/** GPUs of one line, e.g. `2 × NVIDIA H200, 1 free`. */
export function gpusWord(gpus: Gpu[]): string {
  if (gpus.length === 0) return "none";
  const names = [...new Set(gpus.map((gpu) => gpu.name))];
  const counted = names.map((name) => {
    const count = gpus.filter((gpu) => gpu.name === name).length;
    return count === 1 ? name : `${count} × ${name}`;
  });
  return `${counted.join(", ")}, ${gpus.filter((gpu) => !gpu.is_leased).length} free`;
}
