import { describe, expect, it } from "vitest";
import type { Gpu } from "../src/contract";
import { gpuHolder, gpusWord, moveOf, queueKey, slotsWord } from "../src/model/queue";
import { isLive } from "../src/model/states";
import { run } from "./a-run";

const waiting = (id: string, priority = 0, reason = "no slot is free") =>
  run(id, { state: "queued", priority, waiting: { position: 1, reason } });

const gpu = (fields: Partial<Gpu> = {}): Gpu => ({
  uuid: "GPU-1",
  name: "H200",
  memory_total: 10,
  memory_used: 1,
  run: null,
  is_leased: false,
  ...fields,
});

describe("moveOf", () => {
  const items = [waiting("a"), waiting("b"), waiting("c")];

  it("exchanges places with the one above or below", () => {
    expect(moveOf(items, "c", "up")).toEqual({ runs: ["c", "b"], position: 2 });
    expect(moveOf(items, "a", "down")).toEqual({ runs: ["b", "a"], position: 2 });
  });

  it("goes to the front and leaves the others in their order", () => {
    expect(moveOf(items, "c", "first")).toEqual({ runs: ["c", "a", "b"], position: 1 });
  });

  it("stays where there is no way", () => {
    expect(moveOf(items, "a", "up")).toBeNull();
    expect(moveOf(items, "a", "first")).toBeNull();
    expect(moveOf(items, "c", "down")).toBeNull();
    expect(moveOf(items, "x", "down")).toBeNull();
  });
});

describe("queueKey", () => {
  const key = (...items: Parameters<typeof queueKey>[0]) => queueKey(items, (item) => isLive(item.state));

  it("changes with whatever the queue shows", () => {
    const before = key(waiting("a"), run("l"));
    expect(key(waiting("a"), waiting("b"), run("l"))).not.toBe(before);
    expect(key(waiting("a", 1), run("l"))).not.toBe(before);
    expect(key(waiting("a", 0, "2 GPUs, 1 is free"), run("l"))).not.toBe(before);
    expect(key(waiting("a"), run("l", { state: "stopped" }))).not.toBe(before);
  });

  it("is the same while a run only steps", () => {
    expect(key(waiting("a"), run("l", { step: 7 }))).toBe(key(run("l", { step: 8 }), waiting("a")));
  });
});

describe("words of the queue", () => {
  it("says how many slots are taken", () => {
    expect(slotsWord(1, 1)).toBe("1 of 1 slot taken");
    expect(slotsWord(0, 2)).toBe("0 of 2 slots taken");
  });

  it("says who has a GPU", () => {
    const nameOf = (id: string) => (id === "r" ? "my run" : undefined);
    expect(gpuHolder(gpu(), nameOf)).toBe("free");
    expect(gpuHolder(gpu({ run: "r", is_leased: true }), nameOf)).toBe("my run");
    expect(gpuHolder(gpu({ run: "gone", is_leased: true }), nameOf)).toBe("gone");
    expect(gpuHolder(gpu({ is_leased: true }), nameOf)).toBe("another program's run");
  });

  it("counts GPUs by name", () => {
    expect(gpusWord([])).toBe("none");
    expect(gpusWord([gpu(), gpu({ is_leased: true })])).toBe("2 × H200, 1 free");
  });
});
