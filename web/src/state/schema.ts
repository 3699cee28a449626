/** The contract's own description of options and metrics; the same for the life of the page. */

import { signal } from "@preact/signals";
import { getSchema } from "../api/calls";
import { isAbort, messageOf } from "../api/http";
import type { SchemaDocument } from "../contract";

export const schema = signal<SchemaDocument | null>(null);
export const schemaError = signal<string | null>(null);

const RETRY_MS = 3000;

/** Fetches it once, trying again until the server answers. */
export function startSchema(): () => void {
  const controller = new AbortController();
  let timer = 0;
  const load = async () => {
    try {
      schema.value = await getSchema(controller.signal);
      schemaError.value = null;
    } catch (error) {
      if (isAbort(error)) return;
      schemaError.value = messageOf(error);
      timer = window.setTimeout(load, RETRY_MS);
    }
  };
  void load();
  return () => {
    controller.abort();
    window.clearTimeout(timer);
  };
}
