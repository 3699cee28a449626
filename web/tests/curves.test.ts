import { describe, expect, it } from "vitest";
import type { RunSeries, StampedEvent } from "../src/contract";
import { Curves } from "../src/model/curves";

const HISTORY: RunSeries = {
  run: "r",
  x: "step",
  series: { "text/loss": { x: [1, 2, 3], y: [3, 2, 1], num_points: 3 } },
  keys: ["text/loss"],
  last_seq: 10,
};

function metrics(seq: number, step: number, values: Record<string, number | null>): StampedEvent {
  return { seq, step, values, kind: "metrics", time: "", attempt: 1 };
}

function loaded(): Curves {
  const curves = new Curves();
  curves.load(HISTORY);
  return curves;
}

describe("Curves", () => {
  it("goes on after history without a gap and without a duplicate", () => {
    const curves = loaded();
    const events = [
      metrics(9, 2, { "text/loss": 2 }),
      metrics(10, 3, { "text/loss": 1 }),
      metrics(11, 4, { "text/loss": 0.5 }),
    ];
    expect(curves.add(events)).toBe(true);
    expect(curves.get("text/loss").points()).toEqual({ x: [1, 2, 3, 4], y: [3, 2, 1, 0.5] });
    expect(curves.lastSeq).toBe(11);
  });

  it("says that nothing changed when all is known", () => {
    expect(loaded().add([metrics(10, 3, { "text/loss": 7 })])).toBe(false);
  });

  it("takes held-out values from evaluations and keeps the number of other events", () => {
    const curves = loaded();
    const evaluation: StampedEvent = { ...metrics(11, 3, { "eval/text/loss": 1.5 }), kind: "eval" };
    const other: StampedEvent = { seq: 12, time: "", attempt: 1, kind: "phase", phase: "saving" };
    curves.add([evaluation, other]);
    expect(curves.get("eval/text/loss").points()).toEqual({ x: [3], y: [1.5] });
    expect(curves.get("text/loss").length).toBe(3);
    expect(curves.lastSeq).toBe(12);
  });

  it("drops from every curve what lies beyond the checkpoint that an attempt went on from", () => {
    const curves = loaded();
    curves.add([
      metrics(11, 4, { "image_generation/loss": 9 }),
      {
        seq: 12,
        time: "",
        attempt: 2,
        kind: "receipt",
        checkpoint: "c",
        step: 2,
        restored: [],
        reset: [],
        missing: [],
      },
      metrics(13, 3, { "text/loss": 1 }),
    ]);
    expect(curves.get("image_generation/loss").length).toBe(0);
    expect(curves.get("text/loss").points()).toEqual({ x: [1, 2, 3], y: [3, 2, 1] });
  });

  it("drops it also where no receipt tells of it", () => {
    const curves = loaded();
    curves.add([metrics(11, 5, { "image_generation/loss": 9 }), metrics(12, 3, { "text/loss": 8 })]);
    expect(curves.get("image_generation/loss").length).toBe(0);
    expect(curves.get("text/loss").points()).toEqual({ x: [1, 2, 3], y: [3, 2, 8] });
  });

  it("knows the steps that all curves span together", () => {
    const curves = loaded();
    expect(new Curves().span()).toBeNull();
    curves.add([metrics(11, 9, { "image_generation/loss": 1 })]);
    expect(curves.span()).toEqual([1, 9]);
  });

  it("forgets old curves when history is fetched anew", () => {
    const curves = loaded();
    curves.add([metrics(11, 4, { "old/loss": 1 })]);
    curves.load(HISTORY);
    expect(curves.get("old/loss").length).toBe(0);
    expect(curves.keys()).toEqual(["text/loss"]);
  });
});
