/** The colours of the seven modalities, in both themes: seen on a card, and told apart by every eye. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

const css = readFileSync(new URL("../src/styles/tokens.css", import.meta.url), "utf8");
const [light = "", dark = ""] = css.split(':root[data-theme="dark"]');

type Triple = [number, number, number];
type Matrix = [Triple, Triple, Triple];

/** What is left of linear RGB with one kind of cone missing (Machado, Oliveira, Fernandes 2009). */
const EYES: Record<string, Matrix> = {
  ordinary: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  protanopia: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deuteranopia: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritanopia: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

/** Linear RGB to cone responses, and their cube roots to lightness and two opponent axes (Oklab, Ottosson 2020). */
const TO_CONES: Matrix = [
  [0.4122214708, 0.5363325363, 0.0514459929],
  [0.2119034982, 0.6806995451, 0.1073969566],
  [0.0883024619, 0.2817188376, 0.6299787005],
];
const TO_LAB: Matrix = [
  [0.2104542553, 0.793617785, -0.0040720468],
  [1.9779984951, -2.428592205, 0.4505937099],
  [0.0259040371, 0.7827717662, -0.808675766],
];

const times = (matrix: Matrix, [x, y, z]: Triple) =>
  matrix.map(([a, b, c]) => a * x + b * y + c * z) as unknown as Triple;

function linear(theme: string, name: string): Triple {
  const [, hex = ""] = new RegExp(`${name}: #([0-9a-f]{6});`).exec(theme) ?? [];
  expect(hex, name).not.toBe("");
  return [0, 2, 4].map((at) => {
    const value = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }) as Triple;
}

const luminance = ([r, g, b]: Triple) => 0.2126 * r + 0.7152 * g + 0.0722 * b;

/** As WCAG 2 defines it. */
function contrast(a: Triple, b: Triple): number {
  const [low = 0, high = 0] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

function seen(eye: Matrix, color: Triple): Triple {
  const left = times(eye, color).map((value) => Math.min(1, Math.max(0, value))) as Triple;
  return times(TO_LAB, times(TO_CONES, left).map(Math.cbrt) as Triple);
}

const distance = (a: Triple, b: Triple) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);

describe.each([
  ["light", light],
  ["dark", dark],
])("the %s theme", (_, theme) => {
  const names = [1, 2, 3, 4, 5, 6, 7].map((i) => `--chart-${i}`);
  const colors = names.map((name) => linear(theme, name));

  it("shows every curve on a card", () => {
    for (const color of colors) expect(contrast(color, linear(theme, "--surface"))).toBeGreaterThan(3);
  });

  it.each(Object.keys(EYES))("keeps the modalities apart for %s sight", (kind) => {
    const lab = colors.map((color) => seen(EYES[kind] as Matrix, color));
    const pairs = lab.flatMap((a, i) => lab.slice(i + 1).map((b) => distance(a, b)));
    expect(pairs).toHaveLength(21);
    expect(Math.min(...pairs)).toBeGreaterThan(0.09);
  });
});
