import { describe, expect, it } from "vitest";
import type { Sample } from "../src/contract";
import { groupSamples, splitMarks } from "../src/model/samples";

function sample(step: number, path: string, fields: Partial<Sample> = {}): Sample {
  return { step, path, modality: "text", mime: "text/plain", caption: "", attempt: 1, time: "", ...fields };
}

describe("groupSamples", () => {
  it("puts the newest step first and counts within it as people do", () => {
    const groups = groupSamples([sample(100, "t-10"), sample(100, "t-2"), sample(250, "t-1")]);
    expect(groups.map(({ step }) => step)).toEqual([250, 100]);
    expect(groups[1]?.samples.map(({ path }) => path)).toEqual(["t-2", "t-10"]);
  });

  it("shows the newer attempt's file once", () => {
    const groups = groupSamples([sample(100, "t", { attempt: 2 }), sample(100, "t", { attempt: 1 })]);
    expect(groups[0]?.samples.map(({ attempt }) => attempt)).toEqual([2]);
  });
});

describe("splitMarks", () => {
  it("cuts a text at its special tokens", () => {
    expect(splitMarks("<|user|>Hi<|/user|>")).toEqual([
      { text: "<|user|>", isMark: true },
      { text: "Hi", isMark: false },
      { text: "<|/user|>", isMark: true },
    ]);
  });

  it("leaves other angle brackets alone", () => {
    expect(splitMarks("a < b | c > d")).toEqual([{ text: "a < b | c > d", isMark: false }]);
  });
});
