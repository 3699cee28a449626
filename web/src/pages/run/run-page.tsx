import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { getRun } from "../../api/calls";
import { ApiError, isAbort, messageOf } from "../../api/http";
import type { ModalityInfo, Run } from "../../contract";
import { RUN_TABS, type RunTab, runPath } from "../../model/routes";
import { navigate } from "../../state/router";
import { RunFeed } from "../../state/run-feed";
import { putRun, runById, runsLoaded, stream } from "../../state/runs";
import { schema, schemaError } from "../../state/schema";
import { Link } from "../../ui/link";
import { Empty, Notice } from "../../ui/notice";
import { ChartsTab, SPEED_CHARTS } from "./charts-tab";
import { CheckpointsTab } from "./checkpoints-tab";
import { ConfigTab } from "./config-tab";
import { EventsTab } from "./events-tab";
import { RunHeader } from "./header";
import { LogTab } from "./log-tab";
import { SamplesTab } from "./samples-tab";
import { Alerts } from "./troubles";

const TAB_NAMES: Record<RunTab, string> = {
  charts: "Charts",
  samples: "Samples",
  checkpoints: "Checkpoints",
  log: "Log",
  events: "Events",
  config: "Configuration",
};

/** One run: what it is doing, how well, and what it made. */
export function RunPage({ id, tab }: { id: string; tab: RunTab }) {
  const missing = useMissing(id);
  const feed = useFeed(id);
  const run = runById(id);
  const name = run?.name;
  useEffect(() => {
    document.title = name === undefined ? "Run · Xoron" : `${name} · Xoron`;
  }, [name]);

  if (run === undefined) return <NoRun id={id} error={missing} />;
  return (
    <main class="page" id="main">
      <RunHeader run={run} feed={feed} onDeleted={() => navigate("/")} />
      {feed !== null && <Alerts run={run} feed={feed} />}
      <nav class="tabs" aria-label="Parts of this run">
        {RUN_TABS.map((name) => (
          <Link key={name} to={runPath(id, name)} class="tab" current={name === tab} keepScroll>
            {TAB_NAMES[name]}
          </Link>
        ))}
      </nav>
      {schemaError.value !== null && <Notice tone="error">{schemaError.value}</Notice>}
      {feed?.error.value && <Notice tone="error">{feed.error.value}</Notice>}
      {feed !== null && <Tab run={run} tab={tab} feed={feed} modalities={schema.value?.modalities ?? []} />}
    </main>
  );
}

interface TabProps {
  run: Run;
  tab: RunTab;
  feed: RunFeed;
  modalities: ModalityInfo[];
}

function Tab({ run, tab, feed, modalities }: TabProps) {
  switch (tab) {
    case "charts":
      return <ChartsTab run={run} feed={feed} modalities={modalities} />;
    case "samples":
      return <SamplesTab run={run} feed={feed} modalities={modalities} />;
    case "checkpoints":
      return <CheckpointsTab run={run} feed={feed} />;
    case "log":
      return <LogTab run={run} />;
    case "events":
      return <EventsTab feed={feed} />;
    case "config":
      return <ConfigTab run={run} />;
  }
}

function NoRun({ id, error }: { id: string; error: string | null }) {
  if (error === null) {
    return (
      <main class="page" id="main">
        <p class="muted">Loading run …</p>
      </main>
    );
  }
  return (
    <main class="page" id="main">
      <Empty title={error}>
        <p>
          The address names the run <code>{id}</code>. It may have been deleted.
        </p>
        <Link to="/" class="button primary">
          All runs
        </Link>
      </Empty>
    </main>
  );
}

/** Fetches a run that the list does not have; says what came of it where there is none. */
function useMissing(id: string): string | null {
  const error = useSignal<string | null>(null);
  const unknown = runsLoaded.value && runById(id) === undefined;
  useEffect(() => {
    error.value = null;
    if (!unknown) return;
    const controller = new AbortController();
    getRun(id, controller.signal).then(putRun, (reason) => {
      if (isAbort(reason)) return;
      error.value =
        reason instanceof ApiError && reason.status === 404 ? "There is no such run" : messageOf(reason);
    });
    return () => controller.abort();
  }, [id, unknown, error]);
  return error.value;
}

/** The run's feed, for as long as its page is open. */
function useFeed(id: string): RunFeed | null {
  const feed = useSignal<RunFeed | null>(null);
  const document = schema.value;
  const exists = runById(id) !== undefined;
  useEffect(() => {
    if (document === null || !exists) return;
    const next = new RunFeed(id, keysOf(document.modalities), stream);
    const stop = next.start();
    feed.value = next;
    return () => {
      stop();
      feed.value = null;
    };
  }, [id, document, exists, feed]);
  return feed.value?.id === id ? feed.value : null;
}

function keysOf(modalities: ModalityInfo[]): string[] {
  const metrics = modalities.flatMap((info) => info.metrics.map((metric) => metric.name));
  return [...metrics, ...metrics.map((name) => `eval/${name}`), ...SPEED_CHARTS.map((chart) => chart.metric)];
}
