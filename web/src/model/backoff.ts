/** How long to wait before the next attempt to connect: doubling, bounded, spread out. */

/** Milliseconds before attempt `failures + 1`; `random` is in 0..1. */
export function backoff(failures: number, random: number, base = 500, limit = 10_000): number {
  const ceiling = Math.min(limit, base * 2 ** Math.min(failures, 30));
  return ceiling / 2 + (ceiling / 2) * random;
}
