import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { JsonSchema } from "../src/model/form";
import { listText, parseSources, sourcesText } from "../src/model/sources";

const golden = new URL("../../tests/contract/golden/", import.meta.url);
const schema = JSON.parse(readFileSync(new URL("run_config.json", golden), "utf8")) as JsonSchema;

/** A source as the server resolves it. */
const WHOLE = {
  name: "words",
  category: "document",
  path: "demo:text",
  config: null,
  split: "train",
  eval_split: null,
  format: null,
  local: null,
  streaming: true,
  fields: {},
  chat_template: null,
  loss_on: "all",
  weight: 2.5,
  sample_repeat: 1,
};

describe("sourcesText", () => {
  it("leaves out what is as by default, a source a line", () => {
    expect(sourcesText(schema, [WHOLE, { ...WHOLE, name: "more", eval_split: "heldout" }])).toBe(
      '[\n  {"name": "words", "category": "document", "path": "demo:text", "eval_split": null, "weight": 2.5},\n' +
        '  {"name": "more", "category": "document", "path": "demo:text", "weight": 2.5}\n]',
    );
  });

  it("is empty where there is none", () => {
    expect(sourcesText(schema, [])).toBe("");
    expect(sourcesText(schema, undefined)).toBe("");
  });

  it("comes back as it was", () => {
    const { value, problem } = parseSources(sourcesText(schema, [WHOLE]));
    expect(problem).toBeNull();
    expect(value).toEqual([
      { name: "words", category: "document", path: "demo:text", eval_split: null, weight: 2.5 },
    ]);
  });
});

describe("parseSources", () => {
  it("says what is wrong, and sends it all the same", () => {
    expect(parseSources("[{")).toMatchObject({
      value: "[{",
      problem: expect.stringContaining("is not JSON"),
    });
    expect(parseSources("{}").problem).toContain("is not a list");
    expect(parseSources("  ")).toEqual({ value: [], problem: null });
  });
});

describe("listText", () => {
  it("names what has a name", () => {
    expect(listText([{ name: "a" }, { name: "b" }], "none")).toBe("a, b");
    expect(listText([1, "x"], "none")).toBe("1, x");
    expect(listText([], "none")).toBe("none");
  });
});
