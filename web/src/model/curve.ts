/** One metric over the steps of a run: bounded in memory, in order, with gaps where a value was not finite. */

export interface Points {
  x: number[];
  /** null: the value was not finite; the line breaks here. */
  y: (number | null)[];
}

/** Points of one thinning group; of each group at most three stay. */
const GROUP = 8;

export class Curve {
  private xs: number[] = [];
  private ys: (number | null)[] = [];
  /** Grows with every change; whoever draws compares it. */
  version = 0;

  constructor(readonly capacity: number = 8192) {}

  get length(): number {
    return this.xs.length;
  }

  /** Replaces everything, e.g. by history from the server. */
  load(points: Points): void {
    this.xs = [];
    this.ys = [];
    for (let i = 0; i < points.x.length; i++) this.append(points.x[i] ?? 0, points.y[i] ?? null);
    this.version += 1;
  }

  /** Adds the next point. A step that comes again (a resumed attempt) replaces what was there from it on. */
  push(x: number, y: number | null): void {
    this.append(x, y);
    this.version += 1;
  }

  /** Forgets everything from a step on, because the run went back to before it. */
  dropFrom(x: number): void {
    while (this.xs.length > 0 && (this.xs[this.xs.length - 1] as number) >= x) {
      this.xs.pop();
      this.ys.pop();
      this.version += 1;
    }
  }

  private append(x: number, y: number | null): void {
    this.dropFrom(x);
    this.xs.push(x);
    this.ys.push(y !== null && Number.isFinite(y) ? y : null);
    if (this.xs.length > this.capacity) this.thin();
  }

  /** Halves the older points at least, keeping each group's smallest, largest and first non-finite one. */
  private thin(): void {
    const keep: number[] = [];
    for (let start = 0; start < this.xs.length; start += GROUP) {
      keep.push(...extremes(this.ys, start, Math.min(start + GROUP, this.xs.length)));
    }
    const last = this.xs.length - 1;
    if (keep[keep.length - 1] !== last) keep.push(last);
    this.xs = keep.map((i) => this.xs[i] as number);
    this.ys = keep.map((i) => this.ys[i] as number | null);
  }

  points(): Points {
    return { x: this.xs, y: this.ys };
  }

  /** The newest value, null where it was not finite; undefined before the first. */
  latest(): number | null | undefined {
    return this.ys[this.ys.length - 1];
  }

  /** Steps at which the value was not finite. */
  nonFinite(): number[] {
    return this.xs.filter((_, i) => this.ys[i] === null);
  }

  /** The best value and its step. */
  best(better: "lower" | "higher"): { x: number; y: number } | null {
    let found: { x: number; y: number } | null = null;
    for (let i = 0; i < this.xs.length; i++) {
      const y = this.ys[i];
      if (y === null || y === undefined) continue;
      if (found === null || (better === "lower" ? y < found.y : y > found.y)) {
        found = { x: this.xs[i] as number, y };
      }
    }
    return found;
  }
}

function extremes(ys: (number | null)[], start: number, end: number): number[] {
  let low = -1;
  let high = -1;
  let broken = -1;
  for (let i = start; i < end; i++) {
    const y = ys[i];
    if (y === null || y === undefined) {
      if (broken < 0) broken = i;
      continue;
    }
    if (low < 0 || y < (ys[low] as number)) low = i;
    if (high < 0 || y > (ys[high] as number)) high = i;
  }
  return [...new Set([low, high, broken])].filter((i) => i >= 0).sort((a, b) => a - b);
}

/** A short curve is smoothed less: over a half-life as long as the curve, a mean shows where it was, not where it is. */
export function fittingHalfLife(halfLife: number, numPoints: number): number {
  return Math.min(halfLife, numPoints / 16);
}

/**
 * Exponential moving mean over points, corrected for its start, so that the first value stands for itself.
 * `halfLife` is in points; gaps stay gaps and are passed over.
 */
export function smooth(ys: (number | null)[], halfLife: number): (number | null)[] {
  if (halfLife <= 0) return ys;
  const decay = 0.5 ** (1 / halfLife);
  let sum = 0;
  let weight = 0;
  return ys.map((y) => {
    if (y === null) return null;
    sum = decay * sum + (1 - decay) * y;
    weight = decay * weight + (1 - decay);
    return sum / weight;
  });
}
