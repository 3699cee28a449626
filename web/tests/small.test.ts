import { describe, expect, it } from "vitest";
import { backoff } from "../src/model/backoff";
import { mixShares } from "../src/model/mix";
import { secondsUntil } from "../src/model/states";
import { toYaml } from "../src/model/yaml";

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
  it("passes over what is no weight", () => expect(mixShares([1, "x", -2, null])).toEqual([1, 0, 0, 0]));
  it("has nothing to share without weights", () => expect(mixShares([0, 0])).toEqual([0, 0]));
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
