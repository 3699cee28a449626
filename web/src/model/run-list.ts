/** The table of runs, kept in step with the server: a fetched list, then changes one by one. */

import type { Run } from "../contract";

export type RunList = ReadonlyMap<string, Run>;

export const EMPTY: RunList = new Map();

/** A fresh list from the server; runs that changed while it was on its way keep what came over the stream. */
export function replaceAll(list: RunList, items: Run[], changedMeanwhile: ReadonlySet<string>): RunList {
  const next = new Map<string, Run>();
  for (const run of items) next.set(run.id, run);
  for (const id of changedMeanwhile) {
    const run = list.get(id);
    if (run === undefined) next.delete(id);
    else next.set(id, run);
  }
  return next;
}

export function put(list: RunList, run: Run): RunList {
  return new Map(list).set(run.id, run);
}

export function remove(list: RunList, id: string): RunList {
  if (!list.has(id)) return list;
  const next = new Map(list);
  next.delete(id);
  return next;
}

/** Newest first. */
export function ordered(list: RunList): Run[] {
  return [...list.values()].sort((a, b) => {
    if (a.created_at !== b.created_at) return a.created_at < b.created_at ? 1 : -1;
    return a.id < b.id ? 1 : -1;
  });
}
