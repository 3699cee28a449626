/** The REST API, call by call; every one takes a signal. */

import type {
  CheckpointPage,
  CreateRun,
  EventPage,
  LogPage,
  PatchRun,
  PresetPage,
  Queue,
  QueueOrder,
  Run,
  RunMetrics,
  RunPage,
  RunSeries,
  SamplePage,
  SchemaDocument,
  SystemInfo,
  ValidationResult,
} from "../contract";
import type { Action } from "../model/states";
import { API, request, requestHead, requestText } from "./http";

const EVENTS_PER_PAGE = 1000;

const at = (id: string, rest = "") => `/runs/${encodeURIComponent(id)}${rest}`;

/** Every run, page after page. */
export async function listRuns(signal: AbortSignal): Promise<Run[]> {
  const runs: Run[] = [];
  let cursor: string | undefined;
  do {
    const page: RunPage = await request("/runs", { signal, query: { limit: 200, cursor } });
    runs.push(...page.items);
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined);
  return runs;
}

export const getRun = (id: string, signal: AbortSignal) => request<Run>(at(id), { signal });

export const createRun = (body: CreateRun, key: string, signal: AbortSignal) =>
  request<Run>("/runs", { method: "POST", body, headers: { "Idempotency-Key": key }, signal });

export const validateRun = (body: CreateRun, signal: AbortSignal) =>
  request<ValidationResult>("/validate", { method: "POST", body, signal });

export const patchRun = (id: string, body: PatchRun, signal: AbortSignal) =>
  request<Run>(at(id), { method: "PATCH", body, signal });

interface ActionOptions {
  /** Guards, unless null, against a run that was started anew meanwhile. */
  attempt: number | null;
  /** Of a stop: whether a checkpoint is waited for. */
  save: boolean;
}

/** Asks something of a run. */
export function actOnRun(
  id: string,
  action: Action,
  { attempt, save }: ActionOptions,
  signal: AbortSignal,
): Promise<unknown> {
  if (action === "delete") return request(at(id), { method: "DELETE", signal });
  const body = { expected_attempt: attempt, ...(action === "stop" && { save }) };
  return request(at(id, `/${action}`), { method: "POST", body, signal });
}

export const getQueue = (signal: AbortSignal) => request<Queue>("/queue", { signal });

/** Lets waiting runs exchange their places. */
export const orderQueue = (body: QueueOrder, signal: AbortSignal) =>
  request<Queue>("/queue", { method: "PUT", body, signal });

/** Takes a deleted run out of the trash. */
export const restoreRun = (id: string, signal: AbortSignal) =>
  request<Run>(at(id, "/restore"), { method: "POST", signal });

/** Starts a run again from one of its checkpoints. */
export const resumeRun = (id: string, checkpoint: string, attempt: number, signal: AbortSignal) =>
  request(at(id, "/resume"), { method: "POST", body: { checkpoint, expected_attempt: attempt }, signal });

export const getMetrics = (id: string, signal: AbortSignal) =>
  request<RunMetrics>(at(id, "/metrics"), { signal });

export const getSeries = (id: string, keys: string[], points: number, signal: AbortSignal) =>
  request<RunSeries>(at(id, "/series"), { signal, query: { keys: keys.join(","), points } });

/** A run's events of some kinds from the first on, page after page. */
export async function getEvents(id: string, kinds: string, signal: AbortSignal): Promise<EventPage> {
  const items: EventPage["items"] = [];
  let after = 0;
  for (;;) {
    const query = { after, kinds, limit: EVENTS_PER_PAGE };
    const page: EventPage = await request(at(id, "/events"), { signal, query });
    items.push(...page.items);
    after = page.last_seq;
    if (page.items.length < EVENTS_PER_PAGE) return { items, last_seq: after };
  }
}

export const getLogs = (id: string, query: { after?: number; tail?: number }, signal: AbortSignal) =>
  request<LogPage>(at(id, "/logs"), { signal, query });

export const getConfig = (id: string, signal: AbortSignal) =>
  request<Record<string, unknown>>(at(id, "/config"), { signal });

export const getSamples = (id: string, signal: AbortSignal) =>
  request<SamplePage>(at(id, "/samples"), { signal });

export const getCheckpoints = (id: string, signal: AbortSignal) =>
  request<CheckpointPage>(at(id, "/checkpoints"), { signal });

export const getPresets = (signal: AbortSignal) => request<PresetPage>("/presets", { signal });
export const getSchema = (signal: AbortSignal) => request<SchemaDocument>("/schema", { signal });
export const getSystem = (signal: AbortSignal) => request<SystemInfo>("/system", { signal });

export const openSession = (token: string, signal: AbortSignal) =>
  request<unknown>("/session", { method: "POST", body: { token }, signal });

/** The address of a sample's file, for `src` attributes. */
export function sampleAddress(id: string, path: string): string {
  return `${API}${samplePath(id, path)}`;
}

export const getSampleText = (id: string, path: string, signal: AbortSignal) =>
  requestText(samplePath(id, path), { signal });

/** The first bytes of a sample's file. */
export const getSampleHead = (id: string, path: string, size: number, signal: AbortSignal) =>
  requestHead(samplePath(id, path), size, { signal });

function samplePath(id: string, path: string): string {
  return at(id, `/${path.split("/").map(encodeURIComponent).join("/")}`);
}
