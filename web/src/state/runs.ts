/** Every run's row, live, and the stream that keeps it so. */

import { computed, signal } from "@preact/signals";
import { listRuns } from "../api/calls";
import { isAbort, messageOf } from "../api/http";
import { type ListKeeper, Stream } from "../api/socket";
import type { Run } from "../contract";
import { EMPTY, ordered, put, type RunList, remove, replaceAll } from "../model/run-list";

const list = signal<RunList>(EMPTY);

/** Whether the list was fetched at all. */
export const runsLoaded = signal(false);
export const runsError = signal<string | null>(null);
export const runs = computed(() => ordered(list.value));

export function runById(id: string): Run | undefined {
  return list.value.get(id);
}

/** Takes a row over that a call answered with. */
export function putRun(run: Run): void {
  list.value = put(list.value, run);
}

class Keeper implements ListKeeper {
  private fetching: AbortController | null = null;
  private changed = new Set<string>();

  onOpen(): void {
    void this.refresh();
  }

  onFailure(): void {
    void this.refresh();
  }

  onRun(run: Run): void {
    this.changed.add(run.id);
    list.value = put(list.value, run);
  }

  onRemoved(id: string): void {
    this.changed.add(id);
    list.value = remove(list.value, id);
  }

  async refresh(): Promise<void> {
    this.fetching?.abort();
    const fetching = new AbortController();
    this.fetching = fetching;
    this.changed.clear();
    try {
      const items = await listRuns(fetching.signal);
      list.value = replaceAll(list.value, items, this.changed);
      runsLoaded.value = true;
      runsError.value = null;
    } catch (error) {
      if (!isAbort(error)) runsError.value = messageOf(error);
    }
  }

  stop(): void {
    this.fetching?.abort();
  }
}

const keeper = new Keeper();
export const stream = new Stream(keeper);

export function startRuns(): () => void {
  const stop = stream.start();
  return () => {
    stop();
    keeper.stop();
  };
}
