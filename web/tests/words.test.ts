import { describe, expect, it } from "vitest";
import { guardOf, isTroubleTold } from "../src/model/states";
import { afterwards, ordinal, phaseWord, troubleWord, waitingWord } from "../src/model/words";
import { run } from "./a-run";

describe("words", () => {
  it("counts places", () => {
    expect([1, 2, 3, 4, 11, 12, 13, 21, 102, 111].map(ordinal)).toEqual(
      "1st 2nd 3rd 4th 11th 12th 13th 21st 102nd 111th".split(" "),
    );
  });

  it("says where a run waits and why", () => {
    const waiting = { position: 2, reason: "no slot is free" };
    expect(waitingWord(run("a", { waiting }))).toBe("2nd in the queue: no slot is free");
    expect(waitingWord(run("a"))).toBeNull();
  });

  it("says what went wrong and what was done", () => {
    expect(troubleWord({ failure: "crash", action: "restart" })).toBe("crash, started again");
    expect(troubleWord({ failure: "out_of_memory", action: "none" })).toBe("out of memory");
    expect(troubleWord({ failure: null, action: "kill" })).toBe("SIGKILL sent");
    expect(troubleWord({ action: "sing" })).toBe("sing");
  });

  it("leaves phases that it does not know as they are", () => {
    expect(phaseWord("memory_free")).toBe("memory free");
    expect(phaseWord("counting_sheep")).toBe("counting sheep");
  });
});

describe("afterwards", () => {
  const trouble = {
    time: "",
    action: "none",
    failure: null,
    reason: "ValueError: no; not tried again: it has no data",
  };
  it("says what comes beside the error", () => {
    expect(afterwards({ reason: "ValueError: no", trouble })).toBe("Not tried again: it has no data");
  });
  it("is silent where the trouble is another", () => {
    expect(afterwards({ reason: "the disk is full", trouble })).toBe("");
    expect(afterwards({ reason: null, trouble })).toBe("");
    expect(afterwards({ reason: "ValueError: no", trouble: null })).toBe("");
  });
});

describe("isTroubleTold", () => {
  const trouble = { reason: "ValueError: no" };
  it("is so where the state's reason has it", () => {
    expect(isTroubleTold({ state: "failed", reason: "ValueError: no; not tried again" }, trouble)).toBe(true);
    expect(isTroubleTold({ state: "failed", reason: "the disk is full" }, trouble)).toBe(false);
    expect(isTroubleTold({ state: "failed", reason: null }, trouble)).toBe(false);
  });
  it("is not so while the run goes on", () => {
    expect(isTroubleTold({ state: "running", reason: "ValueError: no" }, trouble)).toBe(false);
  });
});

describe("guardOf", () => {
  it("means this attempt, but any while they follow each other by themselves", () => {
    expect(guardOf({ state: "running", attempt: 3 })).toBe(3);
    expect(guardOf({ state: "recovering", attempt: 3 })).toBeNull();
  });
});
