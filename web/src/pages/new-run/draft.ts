/** What is being filled in: preset, name, edits; and what the server thinks of it, a moment after each change. */

import { computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import { createRun, validateRun } from "../../api/calls";
import { ApiError, isAbort, messageOf } from "../../api/http";
import type { CreateRun, Preset, ProblemField, Run, ValidationResult } from "../../contract";
import { type Change, errorsByField, overrides, type Tree, valueAt } from "../../model/form";

const PAUSE_MS = 250;

export class Draft {
  readonly preset: Signal<Preset>;
  readonly name = signal("");
  /** A number, or what was typed instead of one: the server says what is wrong with it. */
  readonly priority = signal<unknown>(0);
  readonly edits = signal<ReadonlyMap<string, unknown>>(new Map());
  readonly verdict = signal<ValidationResult | null>(null);
  readonly failure = signal<string | null>(null);
  readonly sending = signal(false);
  readonly body: ReadonlySignal<CreateRun>;
  readonly changes: ReadonlySignal<Change[]>;
  readonly errors: ReadonlySignal<Map<string, string[]>>;

  private refused = signal<ProblemField[]>([]);
  private key = newKey();

  constructor(preset: Preset) {
    this.preset = signal(preset);
    const laid = computed(() => overrides(this.preset.value.config, this.edits.value));
    this.changes = computed(() => laid.value.changes);
    this.body = computed(() => {
      const name = this.name.value.trim();
      const body: CreateRun = { preset: this.preset.value.name, config: laid.value.config };
      if (name !== "") body.name = name;
      if (this.priority.value !== 0) body.priority = this.priority.value as number;
      return body;
    });
    this.errors = computed(() => {
      const found = this.refused.value.length > 0 ? this.refused.value : (this.verdict.value?.errors ?? []);
      return errorsByField(found);
    });
  }

  valueOf(path: string): unknown {
    return this.edits.value.has(path) ? this.edits.value.get(path) : this.presetValueOf(path);
  }

  presetValueOf(path: string): unknown {
    return valueAt(this.preset.value.config as Tree, path);
  }

  set(path: string, value: unknown): void {
    this.edits.value = new Map(this.edits.value).set(path, value);
  }

  reset(path: string): void {
    const next = new Map(this.edits.value);
    next.delete(path);
    this.edits.value = next;
  }

  /** Asks the server about every change, once typing rests; returns how to stop that. */
  start(): () => void {
    let controller = new AbortController();
    let timer = 0;
    const stop = this.body.subscribe((body) => {
      this.refused.value = [];
      this.failure.value = null;
      this.key = newKey();
      controller.abort();
      controller = new AbortController();
      window.clearTimeout(timer);
      timer = window.setTimeout(() => void this.validate(body, controller.signal), PAUSE_MS);
    });
    return () => {
      stop();
      controller.abort();
      window.clearTimeout(timer);
    };
  }

  private async validate(body: CreateRun, signal: AbortSignal): Promise<void> {
    try {
      this.verdict.value = await validateRun(body, signal);
    } catch (error) {
      if (isAbort(error)) return;
      this.verdict.value = null;
      this.refuse(error);
    }
  }

  /** Creates the run; null where the server refused it, which is then shown. */
  async submit(signal: AbortSignal): Promise<Run | null> {
    this.sending.value = true;
    this.failure.value = null;
    try {
      return await createRun(this.body.value, this.key, signal);
    } catch (error) {
      if (!isAbort(error)) this.refuse(error);
      return null;
    } finally {
      this.sending.value = false;
    }
  }

  private refuse(error: unknown): void {
    this.refused.value = error instanceof ApiError ? error.errors : [];
    if (this.refused.value.length === 0) this.failure.value = messageOf(error);
  }
}

/** One key for one content of the form: a second click on "Start" makes no second run. */
function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
