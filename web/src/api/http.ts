/** The one place that calls fetch. */

import type { Problem, ProblemField } from "../contract";

/** An answer that is not a success, in the server's words. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly errors: ProblemField[],
  ) {
    super(detail || title);
    this.name = "ApiError";
  }
}

export interface Call {
  method?: "GET" | "POST" | "PATCH" | "PUT" | "DELETE";
  body?: unknown;
  query?: Record<string, string | number | undefined>;
  headers?: Record<string, string>;
  signal: AbortSignal;
}

export const API = "/api/v1";

const onUnauthorized = new Set<() => void>();

/** Calls `listener` whenever the server asks who is there; returns how to stop that. */
export function whenUnauthorized(listener: () => void): () => void {
  onUnauthorized.add(listener);
  return () => onUnauthorized.delete(listener);
}

/**
 * The body of a JSON answer.
 *
 * Throws ApiError for an answer that is no success and for a server out of reach (status 0); an abort passes through.
 */
export async function request<T>(path: string, call: Call): Promise<T> {
  const response = await send(path, call);
  if (response.status === 204) return undefined as T;
  return (await response.json()) as T;
}

/** The body of a text answer, under the same rules. */
export async function requestText(path: string, call: Call): Promise<string> {
  return (await send(path, call)).text();
}

/** The first bytes of a file, fewer where it is shorter, under the same rules. */
export async function requestHead(path: string, size: number, call: Call): Promise<Uint8Array> {
  const response = await send(path, { ...call, headers: { ...call.headers, Range: `bytes=0-${size - 1}` } });
  return new Uint8Array(await response.arrayBuffer()).subarray(0, size);
}

async function send(path: string, call: Call): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json, */*", ...call.headers };
  if (call.body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(`${API}${path}${queryText(call.query)}`, {
      method: call.method ?? "GET",
      headers,
      credentials: "same-origin",
      signal: call.signal,
      ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
    });
  } catch (error) {
    if (call.signal.aborted) throw error;
    throw new ApiError(0, "No answer", "The server does not answer. Is it running?", []);
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response: Response): Promise<ApiError> {
  if (response.status === 401) for (const listener of onUnauthorized) listener();
  const problem: Partial<Problem> = await response.json().catch(() => ({}));
  const title = problem.title ?? response.statusText;
  return new ApiError(response.status, title, problem.detail ?? "", problem.errors ?? []);
}

function queryText(query: Call["query"]): string {
  const entries = Object.entries(query ?? {}).filter(([, value]) => value !== undefined);
  if (entries.length === 0) return "";
  return `?${new URLSearchParams(entries.map(([key, value]) => [key, String(value)]))}`;
}

/** What to tell a person of an error. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Whether no server answered at all: the same may succeed later. */
export function isOutOfReach(error: unknown): boolean {
  return error instanceof ApiError && error.status === 0;
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
