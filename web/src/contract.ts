// Generated from tests/contract/golden by `npm run types`; do not edit.

/**
 * Why an attempt did not come to the end that was wanted.
 */
export type Failure =
  | "crash"
  | "out_of_memory"
  | "non_finite"
  | "damaged_checkpoint"
  | "hang"
  | "gpu_lost"
  | "refused"
  | "interrupted";
/**
 * Where a run stands; the value is what the field `state` holds everywhere.
 */
export type RunState =
  | "queued"
  | "starting"
  | "running"
  | "pausing"
  | "paused"
  | "stopping"
  | "stopped"
  | "cancelled"
  | "recovering"
  | "interrupted"
  | "completed"
  | "failed";
/**
 * The verbs a trainer understands.
 */
export type CommandKind = "stop" | "pause" | "cancel" | "checkpoint" | "sample";

/**
 * A complete checkpoint.
 */
export interface Checkpoint {
  attempt: number;
  bytes: number;
  created_at: string;
  path: string;
  step: number;
}
/**
 * `GET /runs/{id}/checkpoints`.
 */
export interface CheckpointPage {
  items: Checkpoint[];
}
/**
 * `POST /runs` and `POST /validate`.
 */
export interface CreateRun {
  /**
   * Laid over the preset, key by key.
   */
  config?: {
    [k: string]: unknown;
  };
  name?: string | null;
  /**
   * Where to start from; `GET /presets` lists them.
   */
  preset?: string | null;
  /**
   * Runs of a higher one are started first.
   */
  priority?: number;
  /**
   * @maxItems 20
   */
  tags?: string[];
}
/**
 * WebSocket: nothing more will come of this run.
 */
export interface EndFrame {
  run: string;
  type: "end";
}
/**
 * `GET /runs/{id}/events`.
 */
export interface EventPage {
  items: {
    [k: string]: unknown;
  }[];
  /**
   * Ask again with `after` set to this.
   */
  last_seq: number;
}
/**
 * WebSocket: the next events of a run.
 */
export interface EventsFrame {
  events: {
    [k: string]: unknown;
  }[];
  run: string;
  type: "events";
}
/**
 * A GPU that runs may lease.
 */
export interface Gpu {
  /**
   * By whomever: a run of this home, or of another on this machine.
   */
  is_leased: boolean;
  memory_total: number;
  memory_used: number;
  name: string;
  /**
   * The run that has leased it.
   */
  run: string | null;
  uuid: string;
}
/**
 * WebSocket: every 15 seconds.
 */
export interface HeartbeatFrame {
  time: string;
  type: "heartbeat";
}
/**
 * `GET /runs/{id}/logs`.
 */
export interface LogPage {
  /**
   * Ask again with `after` set to this.
   */
  end: number;
  /**
   * Byte at which `text` begins.
   */
  offset: number;
  text: string;
}
/**
 * One metric in numbers.
 */
export interface MetricSummary {
  best: number | null;
  count: number;
  latest: number | null;
  mean_last_100: number | null;
  non_finite: number;
}
/**
 * One modality of `GET /runs/{id}/metrics`.
 */
export interface ModalityMetrics {
  /**
   * Share of micro-batches so far.
   */
  actual_share: number | null;
  enabled: boolean;
  eval: {
    [k: string]: MetricSummary;
  };
  label: string;
  metrics: {
    [k: string]: MetricSummary;
  };
  micro_batches: number;
  /**
   * Share of micro-batches that the configuration asks for.
   */
  planned_share: number;
  samples_per_s: number | null;
  tokens_per_s: number | null;
}
/**
 * `PATCH /runs/{id}`; what is left out stays.
 */
export interface PatchRun {
  name?: string | null;
  priority?: number | null;
  tags?: string[] | null;
}
/**
 * A named starting point, resolved.
 */
export interface Preset {
  config: {
    [k: string]: unknown;
  };
  name: string;
}
/**
 * `GET /presets`.
 */
export interface PresetPage {
  items: Preset[];
}
/**
 * One field at fault.
 */
export interface ProblemField {
  field: string;
  message: string;
  value?: unknown;
}
/**
 * Every error's body, `application/problem+json` (RFC 9457).
 */
export interface Problem {
  detail: string;
  errors?: ProblemField[];
  status: number;
  title: string;
  type?: string;
}
/**
 * A run, as lists and pages show it.
 */
export interface Run {
  /**
   * What may be asked of it in this state.
   */
  actions: ("stop" | "pause" | "resume" | "cancel" | "checkpoint" | "sample" | "delete")[];
  attempt: number;
  bad_samples: number;
  created_at: string;
  /**
   * When it came to rest; null while it is live or queued.
   */
  ended_at: string | null;
  eta_s: number | null;
  id: string;
  /**
   * Number of its newest event.
   */
  last_seq: number;
  /**
   * The newest value of each modality's headline metric.
   */
  latest: {
    [k: string]: number | null;
  };
  /**
   * Steps at which it is complete; null where epochs decide.
   */
  max_steps: number | null;
  name: string;
  parent: string | null;
  phase: RunPhase | null;
  preset: string | null;
  priority: number;
  /**
   * Why it is in this state, for a person to read.
   */
  reason: string | null;
  samples: number;
  /**
   * When the first attempt began.
   */
  started_at: string | null;
  state: RunState;
  step: number;
  steps_per_s: number | null;
  tags: string[];
  tokens: number;
  trouble: RunTrouble | null;
  /**
   * When it last said something.
   */
  updated_at: string;
  /**
   * Where it stands in the queue; null where it does not wait.
   */
  waiting: Waiting | null;
}
/**
 * What a live run is doing.
 */
export interface RunPhase {
  deadline?: string | null;
  detail?: string | null;
  phase: string;
  since: string;
}
/**
 * The newest trouble of a run since a person last started it.
 */
export interface RunTrouble {
  action: string;
  failure: Failure | null;
  reason: string;
  time: string;
}
/**
 * Why a queued run does not run yet.
 */
export interface Waiting {
  /**
   * 1 is next.
   */
  position: number;
  reason: string;
}
/**
 * `GET /queue` and `PUT /queue`.
 */
export interface Queue {
  gpus: Gpu[];
  /**
   * Runs that wait, the next one first.
   */
  items: Run[];
  /**
   * Runs that take a slot now.
   */
  live: string[];
  max_runs: number;
}
/**
 * `PUT /queue`.
 */
export interface QueueOrder {
  /**
   * Waiting runs that exchange their places, the first one first.
   *
   * @minItems 1
   */
  runs: string[];
}
/**
 * WebSocket: a run was deleted.
 */
export interface RemovedFrame {
  run: string;
  type: "removed";
}
/**
 * WebSocket: the client was too slow; fetch what is missing and go on after `after`.
 */
export interface ResetFrame {
  after: number;
  run: string;
  type: "reset";
}
/**
 * `POST /runs/{id}/resume`.
 */
export interface ResumeRun {
  /**
   * E.g. `checkpoints/step-00000300`; null: the newest.
   */
  checkpoint?: string | null;
  /**
   * Laid over the configuration that it ran with.
   */
  config?: {
    [k: string]: unknown;
  };
  /**
   * 409 when the run is at another attempt by now.
   */
  expected_attempt?: number | null;
}
/**
 * `POST /runs/{id}/pause`, `/cancel`, `/checkpoint`, `/sample`.
 */
export interface RunCommand {
  /**
   * 409 when the run is at another attempt by now.
   */
  expected_attempt?: number | null;
}
/**
 * WebSocket: a run's row has changed.
 */
export interface RunFrame {
  run: Run;
  type: "run";
}
/**
 * `GET /runs/{id}/metrics`.
 */
export interface RunMetrics {
  attempt: number;
  modalities: {
    [k: string]: ModalityMetrics;
  };
  other: {
    [k: string]: MetricSummary;
  };
  run: string;
  samples: number;
  step: number;
  tokens: number;
}
/**
 * `GET /runs`.
 */
export interface RunPage {
  items: Run[];
  next_cursor: string | null;
}
/**
 * One curve: parallel lists; where points were thinned, the smallest and largest of each bucket are kept.
 */
export interface Series {
  /**
   * Points in the range before thinning.
   */
  num_points: number;
  x: number[];
  y: (number | null)[];
}
/**
 * `GET /runs/{id}/series`.
 */
export interface RunSeries {
  /**
   * Every metric that the run has.
   */
  keys: string[];
  /**
   * The newest event that is counted in; a stream goes on after it.
   */
  last_seq: number;
  run: string;
  series: {
    [k: string]: Series;
  };
  x: "step" | "tokens" | "samples" | "time";
}
/**
 * One file of a sample; files that differ in their suffix only are one sample.
 */
export interface Sample {
  attempt: number;
  caption: string;
  expected: string | null;
  mime: string;
  modality: string;
  /**
   * Below `/runs/{id}/`, e.g. `samples/step-00000100/text-0.txt`.
   */
  path: string;
  step: number;
  time: string;
}
/**
 * `GET /runs/{id}/samples`.
 */
export interface SamplePage {
  items: Sample[];
}
/**
 * One metric, as pages and reports describe it.
 */
export interface MetricInfo {
  better?: "lower" | "higher" | "neither";
  label: string;
  name: string;
  unit?: string;
}
/**
 * One modality, as pages and reports describe it.
 */
export interface ModalityInfo {
  /**
   * Categories of sources that feed it.
   */
  categories: string[];
  label: string;
  /**
   * The first is its headline. Each is also evaluated, as `eval/<name>`, where it makes sense.
   */
  metrics: MetricInfo[];
  name: string;
}
/**
 * `GET /schema`: all that a form, a chart or a table needs to know.
 */
export interface SchemaDocument {
  /**
   * JSON Schema of a run's configuration.
   */
  config: {
    [k: string]: unknown;
  };
  contract_version: number;
  modalities: ModalityInfo[];
  transitions: {
    [k: string]: RunState[];
  };
}
/**
 * `POST /runs/{id}/stop`.
 */
export interface StopRun {
  /**
   * 409 when the run is at another attempt by now.
   */
  expected_attempt?: number | null;
  /**
   * Write a checkpoint before ending.
   */
  save?: boolean;
}
/**
 * `GET /system`.
 */
export interface SystemInfo {
  cpu_count: number;
  cpu_percent: number;
  disk_free: number;
  gpus: Gpu[];
  home: string;
  hostname: string;
  live_runs: number;
  max_runs: number;
  memory_total: number;
  memory_used: number;
  torch_installed: boolean;
  version: string;
}
/**
 * `POST /validate`.
 */
export interface ValidationResult {
  config: {
    [k: string]: unknown;
  } | null;
  errors: ProblemField[];
  valid: boolean;
}
/**
 * Something a person should look at.
 */
export interface AlertEvent {
  kind: "alert";
  level: "info" | "warning" | "error";
  message: string;
}
/**
 * A sample that could not be read; training goes on with the next. Of many alike, the first few are told.
 */
export interface BadSampleEvent {
  /**
   * Bad samples of this source so far in this run.
   */
  count: number;
  index: number;
  kind: "bad_sample";
  problem?:
    | "unreadable"
    | "empty"
    | "wrong_type"
    | "missing_file"
    | "too_large"
    | "too_long"
    | "too_short"
    | "not_finite"
    | "silent"
    | "no_frames"
    | "killed_worker";
  reason: string;
  source: string;
}
/**
 * A checkpoint that is complete on disk.
 */
export interface CheckpointEvent {
  bytes: number;
  kind: "checkpoint";
  /**
   * Relative to the run directory.
   */
  path: string;
  reason: "periodic" | "requested" | "best" | "ending" | "final";
  seconds: number;
  step: number;
}
/**
 * The trainer's answer to a command file.
 */
export interface CommandEvent {
  command: CommandKind;
  detail?: string | null;
  id: number;
  kind: "command";
  status: "accepted" | "done" | "ignored";
}
/**
 * Values on held-out data, under `eval/…` names.
 */
export interface EvalEvent {
  kind: "eval";
  samples: number;
  seconds: number;
  step: number;
  tokens: number;
  values: {
    [k: string]: number | null;
  };
}
/**
 * A line of the trainer's own log that belongs to the run's story.
 */
export interface LogEvent {
  kind: "log";
  level: "debug" | "info" | "warning" | "error";
  message: string;
}
/**
 * Values of one optimizer step; a non-finite value is null here and told by a `non_finite` event.
 */
export interface MetricsEvent {
  kind: "metrics";
  /**
   * Samples of all modalities consumed since the run began.
   */
  samples: number;
  step: number;
  /**
   * Text tokens consumed since the run began.
   */
  tokens: number;
  values: {
    [k: string]: number | null;
  };
}
/**
 * A value that was not a number, with what was being trained on.
 */
export interface NonFiniteEvent {
  kind: "non_finite";
  modality?: string | null;
  name: string;
  sample_ids?: string[];
  step: number;
  value: "nan" | "inf" | "-inf";
}
/**
 * What the run is doing within its state; `deadline` is when the keeper will no longer wait.
 */
export interface PhaseEvent {
  deadline?: string | null;
  detail?: string | null;
  kind: "phase";
  phase:
    | "setup"
    | "data"
    | "model"
    | "restoring"
    | "training"
    | "evaluating"
    | "sampling"
    | "waiting"
    | "requested"
    | "draining"
    | "saving"
    | "verified"
    | "closing"
    | "exited"
    | "memory_free"
    | "backing_off";
}
/**
 * What an attempt took over from the checkpoint it began with, field by field.
 */
export interface ReceiptEvent {
  checkpoint: string;
  /**
   * SHA-256 of every restored field, as it stands in memory afterwards.
   */
  hashes?: {
    [k: string]: string;
  };
  kind: "receipt";
  /**
   * Looked for in the checkpoint in vain.
   */
  missing: string[];
  /**
   * Left at their start values, which the configuration asks for.
   */
  reset: string[];
  restored: string[];
  step: number;
}
/**
 * One file of a sample, under `samples/`; files that differ in their suffix only are one sample.
 */
export interface SampleEvent {
  /**
   * What was asked of the model.
   */
  caption: string;
  /**
   * The truth, where there is one.
   */
  expected?: string | null;
  kind: "sample";
  mime: string;
  modality: string;
  /**
   * Relative to the run directory.
   */
  path: string;
  step: number;
}
/**
 * A record as it stands in the file. Kinds and fields this version does not know are kept as they are.
 */
export interface StampedEvent {
  attempt: number;
  kind: string;
  seq: number;
  time: string;
  [k: string]: unknown;
}
/**
 * A change of state, with the reason a person would want to read.
 */
export interface StateEvent {
  kind: "state";
  reason?: string | null;
  state: RunState;
}
/**
 * Something went wrong and this is what was done about it.
 */
export interface TroubleEvent {
  action: "none" | "skip" | "restart" | "rollback" | "pause" | "terminate" | "kill";
  /**
   * What went wrong with the attempt, where it ended by it.
   */
  failure?: Failure | null;
  kind: "trouble";
  reason: string;
}
