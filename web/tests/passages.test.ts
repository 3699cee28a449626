import { describe, expect, it } from "vitest";
import { compare, type Passage, splitMarks } from "../src/model/passages";

const differing = (parts: Passage[]) =>
  parts.filter(({ kind }) => kind === "differs").map(({ text }) => text);
const whole = (parts: Passage[]) => parts.map(({ text }) => text).join("");

describe("splitMarks", () => {
  it("cuts a text at its special tokens", () => {
    expect(splitMarks("<|user|>Hi<|/user|>")).toEqual([
      { text: "<|user|>", kind: "mark" },
      { text: "Hi", kind: "plain" },
      { text: "<|/user|>", kind: "mark" },
    ]);
  });

  it("leaves other angle brackets alone", () => {
    expect(splitMarks("a < b | c > d")).toEqual([{ text: "a < b | c > d", kind: "plain" }]);
  });
});

describe("compare", () => {
  it("marks the words that the other text does not have in their place", () => {
    const found = compare("the birch canoe slid on smooth blanks", "the canoe slid on the smooth planks");
    expect(differing(found.said)).toEqual(["birch", "blanks"]);
    expect(differing(found.expected)).toEqual(["the", "planks"]);
    expect(found.isSame).toBe(false);
  });

  it("keeps every character of both", () => {
    const [said, expected] = ["a  b\n<|x|>c, d", " a b c  e "];
    const found = compare(said, expected);
    expect([whole(found.said), whole(found.expected)]).toEqual([said, expected]);
  });

  it("passes over case, punctuation and special tokens", () => {
    const found = compare("so it is <|eos|>", "So, it is.");
    expect(found.isSame).toBe(true);
    expect([...differing(found.said), ...differing(found.expected)]).toEqual([]);
    expect(found.said.some(({ kind }) => kind === "mark")).toBe(true);
  });

  it("marks nothing where texts have little in common: to underline all would say nothing", () => {
    const found = compare("uh the the the", "a ship sailed over the sea");
    expect([...differing(found.said), ...differing(found.expected)]).toEqual([]);
  });

  it("does not take two silences for agreement, nor compare what is endless", () => {
    expect(compare("", "").isSame).toBe(false);
    const long = "word ".repeat(500);
    expect(differing(compare(long, `${long}more`).expected)).toEqual([]);
    expect(compare(long, long).isSame).toBe(true);
  });
});
