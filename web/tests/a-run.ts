import type { Run } from "../src/contract";

/** A row for tests. */
export function run(id: string, fields: Partial<Run> = {}): Run {
  return {
    id,
    name: id,
    preset: null,
    tags: [],
    priority: 0,
    parent: null,
    state: "running",
    reason: null,
    phase: null,
    waiting: null,
    trouble: null,
    attempt: 1,
    created_at: `2026-01-0${id.length}T00:00:00.000Z`,
    started_at: null,
    updated_at: "",
    ended_at: null,
    step: 0,
    max_steps: null,
    tokens: 0,
    samples: 0,
    steps_per_s: null,
    eta_s: null,
    latest: {},
    last_seq: 0,
    bad_samples: 0,
    actions: [],
    ...fields,
  };
}
