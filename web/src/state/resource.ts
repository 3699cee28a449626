/** Something fetched for as long as a component shows it. */

import { type Signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { isAbort, isOutOfReach, messageOf } from "../api/http";

const RETRY_MS = 3000;

export interface Resource<T> {
  data: Signal<T | null>;
  error: Signal<string | null>;
}

/** Fetches when `key` changes, until the server answers, and again every `everyMs` while the page is looked at. */
export function useResource<T>(
  fetcher: (signal: AbortSignal) => Promise<T>,
  key: string | number,
  everyMs?: number,
): Resource<T> {
  const data = useSignal<T | null>(null);
  const error = useSignal<string | null>(null);
  useEffect(() => {
    const controller = new AbortController();
    let timer = 0;
    let isFetched = false;
    const load = async () => {
      let next = everyMs;
      try {
        if (!document.hidden || !isFetched) data.value = await fetcher(controller.signal);
        isFetched = true;
        error.value = null;
      } catch (reason) {
        if (isAbort(reason)) return;
        error.value = messageOf(reason);
        if (isOutOfReach(reason)) next ??= RETRY_MS;
      }
      if (next !== undefined && !controller.signal.aborted) timer = window.setTimeout(load, next);
    };
    void load();
    return () => {
      controller.abort();
      window.clearTimeout(timer);
    };
  }, [key]);
  return { data, error };
}
