/** Short messages that come and go. */

import { signal } from "@preact/signals";
import { isAbort, messageOf } from "../api/http";

export interface Toast {
  id: number;
  tone: "info" | "error";
  text: string;
  /** What a click on its button does. */
  action?: { label: string; run: () => void };
}

const SHOWN_MS = 6000;

export const toasts = signal<Toast[]>([]);
let nextId = 1;

export function toast(text: string, tone: Toast["tone"] = "info", action?: Toast["action"]): void {
  const id = nextId++;
  toasts.value = [...toasts.value.slice(-3), { id, tone, text, ...(action && { action }) }];
  window.setTimeout(() => dismiss(id), tone === "error" || action ? 2 * SHOWN_MS : SHOWN_MS);
}

/** Says what went wrong; an abort is nobody's news. */
export function toastError(error: unknown): void {
  if (!isAbort(error)) toast(messageOf(error), "error");
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((entry) => entry.id !== id);
}
