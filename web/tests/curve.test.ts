import { describe, expect, it } from "vitest";
import { Curve, fittingHalfLife, smooth } from "../src/model/curve";

function filled(ys: (number | null)[], capacity?: number): Curve {
  const curve = new Curve(capacity);
  ys.forEach((y, i) => {
    curve.push(i + 1, y);
  });
  return curve;
}

describe("Curve", () => {
  it("keeps points in order and knows the newest", () => {
    const curve = filled([3, 2, 1]);
    expect(curve.points()).toEqual({ x: [1, 2, 3], y: [3, 2, 1] });
    expect(curve.latest()).toBe(1);
  });

  it("has no newest value before the first, and null where it was not finite", () => {
    expect(new Curve().latest()).toBeUndefined();
    expect(filled([1, null]).latest()).toBeNull();
  });

  it("takes values that are no numbers as gaps and tells their steps", () => {
    const curve = filled([1, Number.NaN, 2, Number.POSITIVE_INFINITY]);
    expect(curve.points().y).toEqual([1, null, 2, null]);
    expect(curve.nonFinite()).toEqual([2, 4]);
  });

  it("replaces what a resumed attempt does again", () => {
    const curve = filled([5, 4, 3, 2]);
    curve.push(3, 30);
    expect(curve.points()).toEqual({ x: [1, 2, 3], y: [5, 4, 30] });
  });

  it("does not double a step that comes twice", () => {
    const curve = filled([5]);
    curve.push(1, 6);
    expect(curve.points()).toEqual({ x: [1], y: [6] });
  });

  it("stays bounded and keeps extremes, gaps and the newest point", () => {
    const ys: (number | null)[] = Array.from({ length: 10_000 }, (_, i) => Math.sin(i));
    ys[1234] = 99;
    ys[2345] = -99;
    ys[3456] = null;
    const curve = filled(ys, 512);
    const { x, y } = curve.points();
    expect(curve.length).toBeLessThanOrEqual(512);
    expect(y).toContain(99);
    expect(y).toContain(-99);
    expect(curve.nonFinite()).toEqual([3457]);
    expect(x[x.length - 1]).toBe(10_000);
    expect(x).toEqual([...x].sort((a, b) => a - b));
  });

  it("changes its version with every change", () => {
    const curve = filled([1]);
    const before = curve.version;
    curve.push(2, 1);
    expect(curve.version).toBeGreaterThan(before);
  });

  it("finds the best value either way and passes gaps over", () => {
    const curve = filled([3, null, 1, 2]);
    expect(curve.best("lower")).toEqual({ x: 3, y: 1 });
    expect(curve.best("higher")).toEqual({ x: 1, y: 3 });
    expect(filled([null]).best("lower")).toBeNull();
  });
});

describe("fittingHalfLife", () => {
  it("is what was asked for on a long curve and short on a short one", () => {
    expect(fittingHalfLife(8, 1000)).toBe(8);
    expect(fittingHalfLife(8, 32)).toBe(2);
    expect(fittingHalfLife(0, 32)).toBe(0);
  });
});

describe("smooth", () => {
  it("begins with the first value itself and leaves a constant alone", () => {
    for (const y of smooth([4, 4, 4], 10)) expect(y).toBeCloseTo(4, 12);
  });

  it("weighs a value half after the half-life", () => {
    const decay = 0.5;
    const expected = (1 * decay + 3) / (decay + 1);
    expect(smooth([1, 3], 1)[1]).toBeCloseTo(expected, 12);
  });

  it("leaves gaps where they are and goes on behind them", () => {
    const [first, gap, last] = smooth([2, null, 2], 5);
    expect(first).toBeCloseTo(2, 12);
    expect(gap).toBeNull();
    expect(last).toBeCloseTo(2, 12);
  });

  it("does nothing without a half-life", () => {
    expect(smooth([1, 9], 0)).toEqual([1, 9]);
  });
});
