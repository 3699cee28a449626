/** The one place that opens a WebSocket: one for the whole page, kept open, caught up after every break. */

import { signal } from "@preact/signals";
import type {
  EndFrame,
  EventsFrame,
  HeartbeatFrame,
  RemovedFrame,
  ResetFrame,
  Run,
  RunFrame,
  StampedEvent,
} from "../contract";
import { backoff } from "../model/backoff";

type Frame = EventsFrame | RunFrame | RemovedFrame | ResetFrame | EndFrame | HeartbeatFrame;

/** Whoever follows one run. */
export interface Follower {
  /** The newest event it has; the stream goes on after it. */
  after(): number;
  onEvents(events: StampedEvent[]): void;
  /** Events were lost on the way: fetch what is missing. */
  onReset(after: number): void;
}

/** Whoever keeps the list of runs. */
export interface ListKeeper {
  /** The socket is open (again): what happened before is to be fetched. */
  onOpen(): void;
  onRun(run: Run): void;
  onRemoved(id: string): void;
  /** No connection came about; an ordinary request may say why. */
  onFailure(): void;
}

/** A heartbeat comes every 15 s; silence this long means the connection is gone though nobody said so. */
const SILENCE_MS = 40_000;

export class Stream {
  readonly status = signal<"connecting" | "live" | "waiting">("connecting");
  readonly lastFrameAt = signal<number | null>(null);
  /** How far the server's clock is ahead of this one, in milliseconds. */
  readonly clockOffset = signal(0);

  private socket: WebSocket | null = null;
  private followers = new Map<string, Follower>();
  private ended = new Set<string>();
  private failures = 0;
  private retryTimer = 0;
  private silenceTimer = 0;
  private running = false;

  constructor(private readonly keeper: ListKeeper) {}

  start(): () => void {
    this.running = true;
    const wake = () => this.retryNow();
    window.addEventListener("online", wake);
    document.addEventListener("visibilitychange", wake);
    this.connect();
    return () => {
      this.running = false;
      window.removeEventListener("online", wake);
      document.removeEventListener("visibilitychange", wake);
      window.clearTimeout(this.retryTimer);
      window.clearTimeout(this.silenceTimer);
      this.socket?.close();
      this.socket = null;
    };
  }

  /** Follows a run's events until the returned function is called. */
  follow(run: string, follower: Follower): () => void {
    this.followers.set(run, follower);
    this.subscribe(run, follower);
    return () => {
      if (this.followers.get(run) !== follower) return;
      this.followers.delete(run);
      this.ended.delete(run);
      this.send({ unsubscribe: run });
    };
  }

  private subscribe(run: string, follower: Follower): void {
    this.ended.delete(run);
    this.send({ subscribe: { run, after: follower.after() } });
  }

  private send(message: unknown): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  private connect(): void {
    const scheme = window.location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${window.location.host}/api/v1/stream`);
    this.socket = socket;
    this.status.value = this.failures === 0 ? "connecting" : "waiting";
    socket.onopen = () => {
      this.failures = 0;
      this.status.value = "live";
      this.heard();
      for (const [run, follower] of this.followers) this.subscribe(run, follower);
      this.keeper.onOpen();
    };
    socket.onmessage = (message) => {
      this.heard();
      this.take(JSON.parse(String(message.data)) as Frame);
    };
    socket.onclose = () => {
      if (this.socket === socket) this.lost();
    };
  }

  private heard(): void {
    this.lastFrameAt.value = Date.now();
    window.clearTimeout(this.silenceTimer);
    this.silenceTimer = window.setTimeout(() => this.drop(), SILENCE_MS);
  }

  private drop(): void {
    const socket = this.socket;
    if (socket === null) return;
    this.lost();
    socket.close();
  }

  private lost(): void {
    this.socket = null;
    window.clearTimeout(this.silenceTimer);
    if (!this.running) return;
    this.status.value = "waiting";
    this.keeper.onFailure();
    this.retryTimer = window.setTimeout(() => this.connect(), backoff(this.failures, Math.random()));
    this.failures += 1;
  }

  private retryNow(): void {
    if (!this.running || this.socket !== null || document.hidden) return;
    window.clearTimeout(this.retryTimer);
    this.connect();
  }

  private take(frame: Frame): void {
    switch (frame.type) {
      case "events":
        this.followers.get(frame.run)?.onEvents(frame.events as StampedEvent[]);
        break;
      case "run":
        this.keeper.onRun(frame.run);
        this.followAgain(frame.run);
        break;
      case "removed":
        this.keeper.onRemoved(frame.run);
        break;
      case "reset":
        this.followers.get(frame.run)?.onReset(frame.after);
        break;
      case "end":
        this.ended.add(frame.run);
        break;
      case "heartbeat":
        this.clockOffset.value = Date.parse(frame.time) - Date.now();
        break;
    }
  }

  /** A run that had ended says something new: it was resumed. */
  private followAgain(run: Run): void {
    const follower = this.followers.get(run.id);
    if (follower !== undefined && this.ended.has(run.id) && run.last_seq > follower.after()) {
      this.subscribe(run.id, follower);
    }
  }
}
