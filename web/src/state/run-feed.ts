/** Everything one run's page follows: curves, events, figures; history first, then the stream after it. */

import { signal } from "@preact/signals";
import { getEvents, getMetrics, getSeries } from "../api/calls";
import { isAbort, messageOf } from "../api/http";
import type { Follower, Stream } from "../api/socket";
import type { RunMetrics, StampedEvent } from "../contract";
import { Curves } from "../model/curves";
import { appendEvents } from "../model/events";

const POINTS = 2000;
/** Every known kind but metrics, which come as curves; kinds unknown here come with the stream. */
const LISTED_KINDS =
  "state,phase,command,checkpoint,sample,eval,receipt,non_finite,trouble,bad_sample,alert,log";
const METRICS_EVERY_MS = 2000;
const RETRY_MS = 3000;

export class RunFeed implements Follower {
  readonly curves = new Curves();
  /** Grows at most once per animation frame while curves change. */
  readonly drawn = signal(0);
  readonly events = signal<StampedEvent[]>([]);
  readonly metrics = signal<RunMetrics | null>(null);
  readonly loaded = signal(false);
  readonly error = signal<string | null>(null);

  private controller = new AbortController();
  private waiting: StampedEvent[] | null = [];
  private unfollow: (() => void) | null = null;
  private frame = 0;
  private metricsTimer = 0;
  private retryTimer = 0;
  private eventsSeq = 0;

  constructor(
    readonly id: string,
    private readonly keys: string[],
    private readonly stream: Stream,
  ) {}

  start(): () => void {
    void this.catchUp();
    return () => {
      this.controller.abort();
      this.unfollow?.();
      window.cancelAnimationFrame(this.frame);
      window.clearTimeout(this.metricsTimer);
      window.clearTimeout(this.retryTimer);
    };
  }

  after(): number {
    return Math.min(this.curves.lastSeq, this.eventsSeq);
  }

  onReset(): void {
    void this.catchUp();
  }

  onEvents(events: StampedEvent[]): void {
    if (this.waiting !== null) {
      this.waiting.push(...events);
      return;
    }
    this.take(events);
  }

  /** Fetches history; what the stream brings meanwhile waits and is added after it. */
  private async catchUp(): Promise<void> {
    this.controller.abort();
    window.clearTimeout(this.retryTimer);
    this.controller = new AbortController();
    const { signal } = this.controller;
    this.waiting = [];
    try {
      const [history, page, metrics] = await Promise.all([
        getSeries(this.id, this.keys, POINTS, signal),
        getEvents(this.id, LISTED_KINDS, signal),
        getMetrics(this.id, signal),
      ]);
      this.curves.load(history);
      this.events.value = appendEvents([], page.items as StampedEvent[]);
      this.eventsSeq = page.last_seq;
      this.metrics.value = metrics;
      this.loaded.value = true;
      this.error.value = null;
    } catch (error) {
      if (isAbort(error)) return;
      this.error.value = messageOf(error);
      this.retryTimer = window.setTimeout(() => void this.catchUp(), RETRY_MS);
      return;
    }
    const late = this.waiting;
    this.waiting = null;
    this.unfollow?.();
    this.unfollow = this.stream.follow(this.id, this);
    this.take(late);
    this.redraw();
  }

  private take(events: StampedEvent[]): void {
    if (events.length === 0) return;
    const changed = this.curves.add(events);
    const fresh = events.filter((event) => event.seq > this.eventsSeq);
    this.events.value = appendEvents(this.events.value, fresh);
    this.eventsSeq = Math.max(this.eventsSeq, events[events.length - 1]?.seq ?? 0);
    if (changed) {
      this.redraw();
      this.refreshMetrics();
    }
  }

  private redraw(): void {
    if (this.frame !== 0) return;
    this.frame = window.requestAnimationFrame(() => {
      this.frame = 0;
      this.drawn.value += 1;
    });
  }

  private refreshMetrics(): void {
    if (this.metricsTimer !== 0) return;
    this.metricsTimer = window.setTimeout(async () => {
      try {
        this.metrics.value = await getMetrics(this.id, this.controller.signal);
        this.error.value = null;
        this.metricsTimer = 0;
      } catch (error) {
        this.metricsTimer = 0;
        if (isAbort(error)) return;
        this.error.value = messageOf(error);
        this.refreshMetrics();
      }
    }, METRICS_EVERY_MS);
  }
}
