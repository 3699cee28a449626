/** Something fetched for as long as a component shows it. */

import { type Signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { isAbort, messageOf } from "../api/http";

export interface Resource<T> {
  data: Signal<T | null>;
  error: Signal<string | null>;
}

/** Fetches when `key` changes, and again every `everyMs` while the page is looked at. */
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
    const load = async () => {
      try {
        if (!document.hidden || data.peek() === null) data.value = await fetcher(controller.signal);
        error.value = null;
      } catch (reason) {
        if (isAbort(reason)) return;
        error.value = messageOf(reason);
      }
      if (everyMs !== undefined && !controller.signal.aborted) timer = window.setTimeout(load, everyMs);
    };
    void load();
    return () => {
      controller.abort();
      window.clearTimeout(timer);
    };
  }, [key]);
  return { data, error };
}
