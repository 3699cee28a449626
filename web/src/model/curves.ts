/** All curves of a run, filled from history and then from the stream, without a gap and without a duplicate. */

import type { RunSeries, StampedEvent } from "../contract";
import { Curve } from "./curve";

export class Curves {
  private byKey = new Map<string, Curve>();
  /** The newest event that is counted in. */
  lastSeq = 0;
  lastStep = 0;

  get(key: string): Curve {
    let curve = this.byKey.get(key);
    if (curve === undefined) {
      curve = new Curve();
      this.byKey.set(key, curve);
    }
    return curve;
  }

  keys(): string[] {
    return [...this.byKey.entries()].filter(([, curve]) => curve.length > 0).map(([key]) => key);
  }

  /** The steps that any curve spans; null before the first point. */
  span(): [first: number, last: number] | null {
    let span: [number, number] | null = null;
    for (const curve of this.byKey.values()) {
      const { x } = curve.points();
      const first = x[0];
      const last = x[x.length - 1];
      if (first === undefined || last === undefined) continue;
      span = span === null ? [first, last] : [Math.min(span[0], first), Math.max(span[1], last)];
    }
    return span;
  }

  /** Takes history over; keys that it does not have are emptied. */
  load(history: RunSeries): void {
    for (const curve of this.byKey.values()) curve.load({ x: [], y: [] });
    this.lastStep = 0;
    for (const [key, series] of Object.entries(history.series)) {
      this.get(key).load(series);
      this.lastStep = Math.max(this.lastStep, series.x[series.x.length - 1] ?? 0);
    }
    this.lastSeq = history.last_seq;
  }

  /** Adds what is new in these events; returns whether any curve changed. */
  add(events: StampedEvent[]): boolean {
    let changed = false;
    for (const event of events) {
      if (event.seq <= this.lastSeq) continue;
      this.lastSeq = event.seq;
      const step = event.step;
      if (event.kind === "receipt" && typeof step === "number") this.rewind(step + 1);
      if ((event.kind !== "metrics" && event.kind !== "eval") || typeof step !== "number") continue;
      if (step < this.lastStep) this.rewind(event.kind === "metrics" ? step : step + 1);
      this.lastStep = step;
      for (const [key, value] of Object.entries(valuesOf(event))) {
        this.get(key).push(step, value);
        changed = true;
      }
    }
    return changed;
  }

  /** An attempt went on from an older checkpoint: what lies beyond belongs to no run any more. */
  private rewind(step: number): void {
    for (const curve of this.byKey.values()) curve.dropFrom(step);
  }
}

function valuesOf(event: StampedEvent): Record<string, number | null> {
  return (event.values ?? {}) as Record<string, number | null>;
}
