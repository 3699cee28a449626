/** Weights of modalities as shares of the micro-batches; what is no weight counts as none. */
export function mixShares(weights: unknown[]): number[] {
  const clean = weights.map((weight) => (typeof weight === "number" && weight > 0 ? weight : 0));
  const sum = clean.reduce((total, weight) => total + weight, 0);
  return clean.map((weight) => (sum === 0 ? 0 : weight / sum));
}
