/** The mix of modalities: what each one's weight comes to. */

import type { ModalityInfo } from "../contract";
import { valueAt } from "./form";

/** Whether a source of the configuration's list `data.sources` feeds a modality. */
export function isFed(info: ModalityInfo, sources: unknown): boolean {
  if (!Array.isArray(sources)) return false;
  const categories: readonly unknown[] = info.categories;
  return sources.some((source) => categories.includes(valueAt(source, "category")));
}

/** A weight as a number: none given is 1 where there is data, else 0; what is no weight counts as none. */
export function effectiveWeight(weight: unknown, fed: boolean): number {
  if (weight === null || weight === undefined) return fed ? 1 : 0;
  return typeof weight === "number" && weight > 0 ? weight : 0;
}

/** Weights as shares of the micro-batches. */
export function mixShares(weights: number[]): number[] {
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => (sum === 0 ? 0 : weight / sum));
}
