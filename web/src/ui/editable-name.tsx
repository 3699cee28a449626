import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { renameRun } from "../api/calls";
import type { Run } from "../contract";
import { putRun } from "../state/runs";
import { toastError } from "../state/toasts";
import { Button } from "./button";

/** A run's name that can be changed in place: Enter keeps it, Esc does not. */
export function EditableName({ run, children }: { run: Run; children: ComponentChildren }) {
  const editing = useSignal(false);
  const input = useRef<HTMLInputElement>(null);
  const request = useRef<AbortController | null>(null);
  useEffect(() => () => request.current?.abort(), []);
  useEffect(() => {
    if (editing.value) input.current?.select();
  }, [editing.value]);

  const save = async () => {
    const name = input.current?.value.trim() ?? "";
    if (!editing.value) return;
    editing.value = false;
    if (name === "" || name === run.name) return;
    request.current?.abort();
    request.current = new AbortController();
    try {
      putRun(await renameRun(run.id, name, request.current.signal));
    } catch (error) {
      toastError(error);
    }
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter") void save();
    if (event.key === "Escape") editing.value = false;
  };

  if (!editing.value) {
    return (
      <span class="editable">
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
