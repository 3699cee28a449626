import { describe, expect, it } from "vitest";
import { backoff } from "../src/model/backoff";
import { effectiveWeight, isFed, mixShares } from "../src/model/mix";
import { secondsUntil } from "../src/model/states";
import { toYaml } from "../src/model/yaml";
import { emptyWord } from "../src/pages/new-run/options";

describe("backoff", () => {
  it("doubles, is spread out, and never waits longer than its limit", () => {
    expect(backoff(0, 1)).toBe(500);
    expect(backoff(0, 0)).toBe(250);
    expect(backoff(2, 1)).toBe(2000);
    expect(backoff(50, 1)).toBe(10_000);
  });
});

describe("mixShares", () => {
  it("makes shares of weights", () => expect(mixShares([1, 3])).toEqual([0.25, 0.75]));
  it("has nothing to share without weights", () => expect(mixShares([0, 0])).toEqual([0, 0]));
});

describe("effectiveWeight", () => {
  it("follows the data where none is given", () => {
    expect([effectiveWeight(null, true), effectiveWeight(null, false)]).toEqual([1, 0]);
  });
  it("is what was given otherwise, whatever data there is", () => {
    expect([effectiveWeight(2.5, false), effectiveWeight(0, true)]).toEqual([2.5, 0]);
  });
  it("passes over what is no weight", () => {
    expect([effectiveWeight("x", true), effectiveWeight(-2, true)]).toEqual([0, 0]);
  });
});

describe("isFed", () => {
  const info = { name: "asr", label: "Speech", categories: ["voice_asr", "calls"], metrics: [] };
  it("looks for a source of one of the modality's categories", () => {
    expect(isFed(info, [{ category: "code" }, { category: "calls" }])).toBe(true);
    expect(isFed(info, [{ category: "code" }, "nonsense", null])).toBe(false);
    expect(isFed(info, undefined)).toBe(false);
  });
});

describe("emptyWord", () => {
  it("says what an empty weight does", () => {
    expect(emptyWord("modalities.asr.weight")).toBe("auto");
    expect(emptyWord("modalities.asr.batch_size")).toBe("none");
  });
  it("says that resources left empty follow the machine", () => {
    expect(emptyWord("resources.gpus")).toBe("auto");
  });
});

describe("secondsUntil", () => {
  it("counts down to zero and not below", () => {
    const deadline = "2026-01-31T12:00:10.000Z";
    expect(secondsUntil(deadline, Date.parse(deadline) - 10_000)).toBe(10);
    expect(secondsUntil(deadline, Date.parse(deadline) + 10_000)).toBe(0);
  });
});

describe("toYaml", () => {
  it("writes nested data readably", () => {
    const data = {
      a: { b: 1, c: [] },
      list: [{ name: "x", path: "demo:y" }, "plain word"],
      yes: "yes",
      none: null,
      e: {},
    };
    expect(toYaml(data)).toBe(
      [
        "a:",
        "  b: 1",
        "  c: []",
        "list:",
        "  - name: x",
        '    path: "demo:y"',
        "  - plain word",
        'yes: "yes"',
        "none: null",
        "e: {}",
      ].join("\n"),
    );
  });
});
