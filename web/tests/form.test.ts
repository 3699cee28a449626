import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  errorsByField,
  type FieldSpec,
  fieldAt,
  fieldsBelow,
  inputText,
  type JsonSchema,
  overrides,
  parseInput,
  valueAt,
  withValue,
} from "../src/model/form";
import { GROUPS, MODALITY_FIELDS } from "../src/pages/new-run/options";

const golden = new URL("../../tests/contract/golden/", import.meta.url);
const schema = JSON.parse(readFileSync(new URL("run_config.json", golden), "utf8")) as JsonSchema;
const modalities = JSON.parse(readFileSync(new URL("modalities.json", golden), "utf8")) as { name: string }[];

function field(path: string): FieldSpec {
  const found = fieldAt(schema, path);
  if (found === null) throw new Error(`no field at ${path}`);
  return found;
}

describe("fieldAt", () => {
  it("reads type, limits, help and whether it may be empty", () => {
    expect(field("training.max_steps")).toMatchObject({ kind: "integer", nullable: true, limits: "≥ 1" });
    expect(field("training.learning_rate")).toMatchObject({ kind: "number", nullable: false, limits: "> 0" });
    expect(field("training.lr_schedule").choices).toEqual(["cosine", "linear", "constant", "wsd"]);
    expect(field("training.bf16").kind).toBe("boolean");
    expect(field("training.learning_rate").help).toContain("learning rate");
  });

  it("speaks of empty fields, not of null", () => {
    expect(field("training.max_steps").help).not.toMatch(/\bnull\b/);
  });

  it("has none for sections, lists and unknown names", () => {
    for (const path of ["training", "data.sources", "training.nothing", "nothing"]) {
      expect(fieldAt(schema, path)).toBeNull();
    }
  });

  it("has every option that the form shows up front", () => {
    const paths = [
      ...GROUPS.flatMap((group) => group.paths.map(({ path }) => path)),
      ...modalities.flatMap(({ name }) => MODALITY_FIELDS.map(({ path }) => `modalities.${name}.${path}`)),
    ];
    for (const path of paths) expect(fieldAt(schema, path), path).not.toBeNull();
  });
});

describe("fieldsBelow", () => {
  it("walks sections within sections", () => {
    const paths = fieldsBelow(schema, "model").map(({ path }) => path);
    expect(paths).toContain("model.language.moe.top_k");
    expect(paths).toContain("model.tokenizer");
  });
});

describe("values", () => {
  it("are found and set by path, without a change to the old tree", () => {
    const tree = { a: { b: 1 }, c: 2 };
    const next = withValue(tree, "a.d.e", 3);
    expect(valueAt(next, "a.d.e")).toBe(3);
    expect(valueAt(next, "a.b")).toBe(1);
    expect(tree).toEqual({ a: { b: 1 }, c: 2 });
    expect(valueAt(tree, "a.x.y")).toBeUndefined();
  });

  it("are read as typed, and what is no number goes to the server as it is", () => {
    expect(parseInput(field("training.learning_rate"), " 2e-3 ")).toBe(0.002);
    expect(parseInput(field("training.max_steps"), "")).toBeNull();
    expect(parseInput(field("training.seed"), "")).toBe("");
    expect(parseInput(field("training.max_steps"), "many")).toBe("many");
    expect(inputText(null)).toBe("");
  });

  it("become overrides only where they differ from the preset", () => {
    const preset = { training: { seed: 0, max_steps: 10 } };
    const edits = new Map<string, unknown>([
      ["training.seed", 0],
      ["training.max_steps", null],
    ]);
    expect(overrides(preset, edits)).toEqual({
      config: { training: { max_steps: null } },
      changes: [{ path: "training.max_steps", from: 10, to: null }],
    });
  });
});

describe("errorsByField", () => {
  it("puts messages to their fields, whatever the body wraps around", () => {
    const found = errorsByField([
      { field: "config.training.seed", message: "one" },
      { field: "training.seed", message: "two" },
      { field: "name", message: "three" },
    ]);
    expect(found.get("training.seed")).toEqual(["one", "two"]);
    expect(found.get("name")).toEqual(["three"]);
  });
});
