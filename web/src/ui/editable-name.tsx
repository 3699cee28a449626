import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { patchRun } from "../api/calls";
import type { Run } from "../contract";
import { putRun } from "../state/runs";
import { toastError } from "../state/toasts";
import { Button } from "./button";

/** A run's name that can be changed in place: Enter keeps it, Esc does not. */
export function EditableName({ run, children }: { run: Run; children: ComponentChildren }) {
  const editing = useSignal(false);
  const input = useRef<HTMLInputElement>(null);
  const text = useRef<HTMLSpanElement>(null);
  const request = useRef<AbortController | null>(null);
  const byKeyboard = useRef(false); // after Enter and Esc the focus must not be lost with the input
  useEffect(() => () => request.current?.abort(), []);
  useEffect(() => {
    if (editing.value) input.current?.select();
    else if (byKeyboard.current) text.current?.querySelector("button")?.focus();
    byKeyboard.current = false;
  }, [editing.value]);

  const save = async () => {
    const name = input.current?.value.trim() ?? "";
    if (!editing.value) return;
    editing.value = false;
    if (name === "" || name === run.name) return;
    request.current?.abort();
    request.current = new AbortController();
    try {
      putRun(await patchRun(run.id, { name }, request.current.signal));
    } catch (error) {
      toastError(error);
    }
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    if (event.key === "Enter") void save();
    editing.value = false;
    byKeyboard.current = true;
  };

  if (!editing.value) {
    return (
      <span class="editable" ref={text}>
        {children}
        <Button
          kind="quiet"
          icon="edit"
          label={`Rename ${run.name}`}
          onClick={() => (editing.value = true)}
        />
      </span>
    );
  }
  return (
    <input
      ref={input}
      class="input name-input"
      aria-label="Name of the run"
      maxLength={200}
      defaultValue={run.name}
      onBlur={() => void save()}
      onKeyDown={onKeyDown}
    />
  );
}
