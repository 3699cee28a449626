import { describe, expect, it } from "vitest";
import type { RunPhase, RunState, StampedEvent } from "../src/contract";
import { endOf, escalation } from "../src/model/ending";

const START = Date.parse("2026-01-31T12:00:00.000Z");

/** Events one second apart: `state:…`, `phase:…`, with an attempt in front where it is not the first. */
function told(...words: string[]): StampedEvent[] {
  return words.map((word, i) => {
    const [kind = "", value = "", attempt = "1"] = word.split(":");
    const time = new Date(START + 1000 * i).toISOString();
    return { seq: i + 1, time, attempt: Number(attempt), kind, [kind]: value };
  });
}

function phase(name: string, fields: Partial<RunPhase> = {}): RunPhase {
  return { phase: name, since: "", ...fields };
}

function statuses(state: RunState, events: StampedEvent[], newest: RunPhase | null = null, attempt = 1) {
  const end = endOf({ state, phase: newest, attempt }, events);
  return end && Object.fromEntries(end.steps.map((step) => [step.phase, step.status]));
}

describe("endOf", () => {
  it("begins with the request, which the trainer has not seen yet", () => {
    expect(statuses("stopping", told("state:running", "phase:training"))).toEqual({
      requested: "current",
      draining: "ahead",
      saving: "ahead",
      verified: "ahead",
      exited: "ahead",
      memory_free: "ahead",
    });
  });

  it("shows how far it is", () => {
    const events = told(
      "state:running",
      "phase:requested",
      "state:stopping",
      "phase:draining",
      "phase:saving",
    );
    expect(statuses("stopping", events)).toMatchObject({
      requested: "done",
      draining: "done",
      saving: "current",
      verified: "ahead",
    });
  });

  it("waits for the processes once the checkpoint is verified", () => {
    const events = told(
      "state:stopping",
      "phase:requested",
      "phase:saving",
      "phase:verified",
      "phase:closing",
    );
    expect(statuses("stopping", events)).toMatchObject({ verified: "done", exited: "current" });
  });

  it("waits for the memory once the processes are gone", () => {
    const events = told("state:stopping", "phase:requested", "phase:exited");
    expect(statuses("stopping", events)).toMatchObject({ exited: "done", memory_free: "current" });
  });

  it("says what was not needed: a cancelled run saves nothing", () => {
    const events = told(
      "state:stopping",
      "phase:requested",
      "phase:draining",
      "phase:exited",
      "phase:memory_free",
    );
    expect(statuses("cancelled", events)).toEqual({
      requested: "done",
      draining: "done",
      saving: "skipped",
      verified: "skipped",
      exited: "done",
      memory_free: "done",
    });
  });

  it("takes the row's phase where that is ahead of the events", () => {
    expect(statuses("pausing", told("phase:requested"), phase("saving"))).toMatchObject({
      saving: "current",
    });
  });

  it("counts from the request", () => {
    const events = told(
      "state:running",
      "phase:requested",
      "state:stopping",
      "phase:draining",
      "phase:exited",
    );
    const end = endOf({ state: "stopped", phase: null, attempt: 1 }, events);
    expect(end?.steps.map(({ afterS }) => afterS)).toEqual([0, 2, null, null, 3, null]);
  });

  it("does not call free what nobody saw free", () => {
    const events = told(
      "state:stopping",
      "phase:requested",
      "phase:saving",
      "phase:verified",
      "phase:exited",
    );
    expect(statuses("stopped", events)).toMatchObject({ exited: "done", memory_free: "unseen" });
  });

  it("waits for the trainer's answer with the server's word alone", () => {
    const newest = phase("requested", {
      detail: "stop was asked; now: evaluating",
      deadline: "2026-01-31T12:01:00.000Z",
    });
    const events = told("state:running", "phase:evaluating");
    expect(statuses("stopping", events, newest)).toMatchObject({ requested: "current", draining: "ahead" });
    expect(endOf({ state: "stopping", phase: newest, attempt: 1 }, events)).toMatchObject({
      detail: newest.detail,
      deadline: newest.deadline,
    });
  });

  it("leaves earlier ends and failures out", () => {
    const events = told(
      "phase:requested:1",
      "phase:exited:1",
      "state:paused:1",
      "state:running:2",
      "state:stopping:2",
      "phase:requested:2",
    );
    expect(statuses("stopping", events, null, 2)).toMatchObject({ requested: "current", exited: "ahead" });
  });

  it("leaves out how the same attempt had failed before it was asked to end", () => {
    const events = told("phase:exited", "phase:memory_free", "state:recovering", "state:stopping");
    expect(statuses("stopping", events)).toMatchObject({ requested: "current", exited: "ahead" });
  });

  it("is nothing where nobody asked, or where nothing was told", () => {
    expect(statuses("failed", told("state:running", "phase:exited", "state:failed"))).toBeNull();
    expect(statuses("running", told("state:running"))).toBeNull();
    expect(statuses("stopped", [])).toBeNull();
  });

  it("keeps the deadline through the phases until no process is left", () => {
    const deadline = "2026-01-31T12:01:00.000Z";
    const [request, ...rest] = told("phase:requested", "phase:draining");
    const events = [{ ...(request as StampedEvent), deadline }, ...rest];
    expect(endOf({ state: "stopping", phase: phase("draining"), attempt: 1 }, events)?.deadline).toBe(
      deadline,
    );
    expect(endOf({ state: "stopping", phase: phase("exited"), attempt: 1 }, events)?.deadline).toBeNull();
    const later = "2026-01-31T12:02:00.000Z";
    const own = phase("draining", { deadline: later });
    expect(endOf({ state: "stopping", phase: own, attempt: 1 }, events)?.deadline).toBe(later);
  });
});

describe("escalation", () => {
  const deadline = new Date(START).toISOString();
  it("counts down to SIGTERM, then to SIGKILL", () => {
    expect(escalation(deadline, 15, START - 41_500)).toBe(
      "SIGTERM in 42 s if it has not ended by then, SIGKILL 15 s later",
    );
    expect(escalation(deadline, 15, START + 5000)).toBe("SIGTERM is sent, SIGKILL in 10 s");
    expect(escalation(deadline, 15, START + 15_000)).toBe("SIGKILL is sent to every process of the run");
  });
  it("does without the second one where that is not known", () => {
    expect(escalation(deadline, null, START - 1000)).toContain("then SIGKILL");
    expect(escalation(deadline, null, START + 99_000)).toBe("SIGTERM is sent, SIGKILL follows");
  });
});
