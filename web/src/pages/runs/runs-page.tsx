import { useEffect } from "preact/hooks";
import type { ModalityInfo, Run } from "../../contract";
import { formatDuration, formatMetric, formatTime, humanize } from "../../model/format";
import { runPath } from "../../model/routes";
import { elapsed, isLive } from "../../model/states";
import { phaseWord, troubleWord, waitingWord } from "../../model/words";
import { now } from "../../state/clock";
import { navigate } from "../../state/router";
import { runs, runsError, runsLoaded } from "../../state/runs";
import { schema } from "../../state/schema";
import { RunActions } from "../../ui/actions";
import { Button } from "../../ui/button";
import { EditableName } from "../../ui/editable-name";
import { Link } from "../../ui/link";
import { Empty, Notice } from "../../ui/notice";
import { Progress } from "../../ui/progress";
import { StateBadge } from "../../ui/state-badge";
import { QueueSection } from "./queue";

/** Every run in a table that is never out of date. */
export function RunsPage() {
  useEffect(() => {
    document.title = "Runs · Xoron";
  }, []);
  const items = runs.value;
  return (
    <main class="page" id="main">
      <div class="page-head">
        <h1>Runs</h1>
        <Button kind="primary" icon="plus" onClick={() => navigate("/new")}>
          New run
        </Button>
      </div>
      {runsError.value !== null && <Notice tone="error">{runsError.value}</Notice>}
      <QueueSection />
      {items.length > 0 && <RunsTable items={items} />}
      {items.length === 0 && runsLoaded.value && <NoRuns />}
      {items.length === 0 && !runsLoaded.value && runsError.value === null && (
        <p class="muted">Loading runs …</p>
      )}
    </main>
  );
}

function NoRuns() {
  return (
    <Empty title="No runs yet">
      <p>
        A run trains the model from a preset. The <b>demo</b> preset learns text, pictures, clips and speech
        on an ordinary processor; its first losses appear within a minute.
      </p>
      <Button kind="primary" icon="plus" onClick={() => navigate("/new")}>
        Start the first run
      </Button>
    </Empty>
  );
}

function RunsTable({ items }: { items: Run[] }) {
  return (
    <div class="card table-card">
      <table class="runs">
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">State</th>
            <th scope="col">Progress</th>
            <th scope="col">Loss</th>
            <th scope="col">Duration</th>
            <th scope="col">
              <span class="sr-only">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {items.map((run) => (
            <RunRow key={run.id} run={run} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function RunRow({ run }: { run: Run }) {
  return (
    <tr data-run={run.id}>
      <td class="cell-name">
        <EditableName run={run}>
          <Link to={runPath(run.id)} class="run-link">
            {run.name}
          </Link>
        </EditableName>
        <div class="muted small">
          {run.preset !== null && <span class="tag">{run.preset}</span>}
          <span class="number">{formatTime(run.created_at, now.value)}</span>
        </div>
      </td>
      <td class="cell-state">
        <StateBadge state={run.state} />
        <div class="muted small clip" title={stateDetail(run)}>
          {stateDetail(run)}
        </div>
      </td>
      <td class="cell-progress">
        <Progress run={run} />
      </td>
      <td class="cell-loss">
        <Headlines run={run} />
      </td>
      <td class="cell-duration number">
        <span class="cell-label">Duration</span>
        {formatDuration(elapsed(run, now.value))}
      </td>
      <td class="cell-actions">
        <RunActions run={run} shown={["stop", "resume"]} iconsOnly />
      </td>
    </tr>
  );
}

/** What a person would ask next: where it waits, what it does, why it failed, what happened to it meanwhile. */
function stateDetail(run: Run): string {
  switch (run.state) {
    case "queued":
      return waitingWord(run) ?? "";
    case "running":
      if (run.phase !== null && run.phase.phase !== "training") return phaseWord(run.phase.phase);
      return run.trouble === null ? "" : `after trouble: ${troubleWord(run.trouble)}`;
    case "failed":
    case "interrupted":
    case "recovering":
      return run.reason ?? "";
    default:
      return isLive(run.state) && run.phase !== null ? phaseWord(run.phase.phase) : "";
  }
}

function Headlines({ run }: { run: Run }) {
  const infos = schema.value?.modalities ?? [];
  const order = infos.map((info) => info.name);
  const entries = Object.entries(run.latest).sort(([a], [b]) => place(order, a) - place(order, b));
  if (entries.length === 0) return <span class="muted">–</span>;
  return (
    <dl class="headlines">
      {entries.map(([name, value]) => (
        <div key={name}>
          <dt>{labelOf(infos, name)}</dt>
          <dd class="number">{value === null ? "not finite" : formatMetric(value)}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Modalities come in the order of the form and the board, those that this version does not know after them. */
function place(order: string[], name: string): number {
  const at = order.indexOf(modalityOf(name));
  return at < 0 ? order.length : at;
}

/** Rows name either the modality or its headline metric. */
function modalityOf(name: string): string {
  return name.split("/")[0] ?? name;
}

function labelOf(infos: ModalityInfo[], name: string): string {
  const modality = modalityOf(name);
  return infos.find((info) => info.name === modality)?.label ?? humanize(modality);
}
