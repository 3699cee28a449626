import { describe, expect, it } from "vitest";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatMetric,
  formatRate,
  formatShare,
  formatTime,
  groupDigits,
  humanize,
} from "../src/model/format";

describe("formatMetric", () => {
  it.each([
    [2.34567, "2.346"],
    [2, "2.000"],
    [0, "0"],
    [0.00085123, "0.0008512"],
    [0.0002, "0.0002"],
    [1.2e-7, "1.20e-7"],
    [12345.6, "12\u202f346"],
    [3e9, "3.00e9"],
    [-1.5, "-1.500"],
    [null, "–"],
    [undefined, "–"],
  ])("%s reads %s", (value, text) => expect(formatMetric(value)).toBe(text));
});

describe("counts and rates", () => {
  it.each([
    [950, "950"],
    [999.6, "1k"],
    [12_345, "12.3k"],
    [4_560_000, "4.56M"],
    [-1500, "-1.5k"],
  ])("%s reads %s", (value, text) => expect(formatCount(value)).toBe(text));

  it("turns slow rates over", () => {
    expect(formatRate(2.314, "step")).toBe("2.31 steps/s");
    expect(formatRate(0.25, "step")).toBe("4 s/step");
    expect(formatRate(0, "step")).toBe("–");
  });

  it("groups digits", () => {
    expect(groupDigits(1234567)).toBe("1\u202f234\u202f567");
    expect(groupDigits(999)).toBe("999");
    expect(groupDigits(1234.5678)).toBe("1\u202f234.5678");
  });
});

describe("formatDuration", () => {
  it.each([
    [0, "0 s"],
    [59.4, "59 s"],
    [59.6, "1 min 00 s"],
    [185, "3 min 05 s"],
    [8040, "2 h 14 min"],
    [356_400, "4 d 3 h"],
    [-5, "0 s"],
    [null, "–"],
    [Number.POSITIVE_INFINITY, "–"],
  ])("%s reads %s", (value, text) => expect(formatDuration(value)).toBe(text));
});

describe("sizes, shares, times, names", () => {
  it("uses binary units", () => {
    expect(formatBytes(900)).toBe("900 B");
    expect(formatBytes(31_457_280)).toBe("30 MiB");
    expect(formatBytes(1023.9 * 1024)).toBe("1 MiB");
  });

  it("does not round something to nothing", () => {
    expect(formatShare(0.004)).toBe("<1\u202f%");
    expect(formatShare(0)).toBe("0\u202f%");
    expect(formatShare(0.5)).toBe("50\u202f%");
  });

  it("shows the date only where it is not today", () => {
    const noon = new Date(2026, 0, 5, 12, 0, 0);
    expect(formatTime(noon.toISOString(), noon.getTime())).toBe("12:00:00");
    expect(formatTime(noon.toISOString(), noon.getTime() + 48 * 3_600_000)).toBe("2026-01-05 12:00:00");
    expect(formatTime("soon")).toBe("soon");
  });

  it("makes words of names", () => expect(humanize("image_generation")).toBe("Image generation"));
});
