import { expect, describe as group, it } from "vitest";
import type { StampedEvent } from "../src/contract";
import { appendEvents, describe, isChosen } from "../src/model/events";

function event(kind: string, fields: Record<string, unknown> = {}, seq = 1): StampedEvent {
  return { seq, time: "2026-01-31T12:00:00.000Z", attempt: 1, kind, ...fields };
}

group("describe", () => {
  it("shows unknown kinds as unknown, with all they carry", () => {
    const line = describe(event("aurora", { colour: "green" }));
    expect(line).toEqual({ level: "unknown", title: "Unknown event: aurora", text: '{"colour":"green"}' });
  });

  it("tells of a bad sample which, why and how many", () => {
    const line = describe(
      event("bad_sample", {
        source: "pictures",
        index: 7,
        problem: "too_large",
        reason: "broken PNG",
        count: 2,
      }),
    );
    expect(line.level).toBe("warning");
    expect(`${line.title} ${line.text}`).toBe("Bad sample pictures[7]: too large broken PNG (2 so far)");
  });

  it("warns of a receipt that misses something", () => {
    const receipt = { checkpoint: "c", step: 300, restored: ["model"], reset: [], missing: ["optimizer"] };
    expect(describe(event("receipt", receipt))).toMatchObject({
      level: "warning",
      text: "restored model; missing optimizer",
    });
    expect(describe(event("receipt", { ...receipt, missing: [] })).level).toBe("good");
  });

  it.each([
    ["state", { state: "failed", reason: "why" }, "error"],
    ["state", { state: "completed" }, "good"],
    ["trouble", { action: "kill", reason: "deaf" }, "error"],
    ["phase", { phase: "waiting", detail: "0.1 GiB are free" }, "warning"],
    ["phase", { phase: "verified" }, "good"],
    ["non_finite", { step: 3, name: "text/loss", value: "nan" }, "error"],
    ["alert", { level: "warning", message: "look" }, "warning"],
    ["command", { id: 1, command: "stop", status: "ignored" }, "warning"],
    ["checkpoint", { step: 1, path: "p", reason: "final", bytes: 1, seconds: 1 }, "good"],
  ])("gives %s %j the level %s", (kind, fields, level) => {
    expect(describe(event(kind, fields)).level).toBe(level);
  });
});

group("isChosen", () => {
  const chosen = (choice: "everything" | "story" | "trouble") =>
    [
      event("state", { state: "running" }),
      event("phase", { phase: "saving" }),
      event("trouble", { action: "restart", failure: "crash", reason: "why" }),
      event("bad_sample", { source: "s", index: 1, reason: "r", count: 1 }),
    ]
      .filter((one) => isChosen(choice, one, describe(one)))
      .map(({ kind }) => kind);

  it("tells the story without what happens all the time", () => {
    expect(chosen("story")).toEqual(["state", "trouble"]);
  });
  it("finds what went wrong", () => expect(chosen("trouble")).toEqual(["trouble", "bad_sample"]));
  it("has everything otherwise", () => expect(chosen("everything")).toHaveLength(4));
});

group("appendEvents", () => {
  it("adds what is new and leaves metrics to the curves", () => {
    const list = appendEvents(
      [event("state", {}, 4)],
      [event("state", {}, 4), event("metrics", {}, 5), event("x", {}, 6)],
    );
    expect(list.map(({ seq }) => seq)).toEqual([4, 6]);
  });

  it("keeps the newest", () => {
    const events = [1, 2, 3].map((seq) => event("log", {}, seq));
    expect(appendEvents([], events, 2).map(({ seq }) => seq)).toEqual([2, 3]);
  });

  it("is the same list when nothing is new", () => {
    const list = [event("state", {}, 4)];
    expect(appendEvents(list, [event("state", {}, 3)])).toBe(list);
  });
});
