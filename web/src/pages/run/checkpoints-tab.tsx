import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { getCheckpoints, resumeRun } from "../../api/calls";
import type { Checkpoint, Run } from "../../contract";
import { formatBytes, formatTime, groupDigits } from "../../model/format";
import { now } from "../../state/clock";
import { useResource } from "../../state/resource";
import type { RunFeed } from "../../state/run-feed";
import { toast, toastError } from "../../state/toasts";
import { Button } from "../../ui/button";
import { Empty, Notice } from "../../ui/notice";

/** Where the run can be taken up again. */
export function CheckpointsTab({ run, feed }: { run: Run; feed: RunFeed }) {
  const newest = useComputed(
    () => feed.events.value.findLast((event) => event.kind === "checkpoint")?.seq ?? 0,
  );
  const load = async (signal: AbortSignal) => (await getCheckpoints(run.id, signal)).items;
  const { data, error } = useResource(load, `${run.id}/${newest.value}/${run.state}`);
  if (error.value !== null) return <Notice tone="error">{error.value}</Notice>;
  if (data.value === null) return <p class="muted">Loading checkpoints …</p>;
  if (data.value.length === 0) {
    return (
      <Empty title="No checkpoints yet">
        <p>One is written every training.save_steps steps, and always when the run is stopped or paused.</p>
      </Empty>
    );
  }
  const items = [...data.value].sort((a, b) => b.step - a.step);
  return (
    <div class="card table-card">
      <table class="listing">
        <thead>
          <tr>
            <th scope="col">Step</th>
            <th scope="col">Written</th>
            <th scope="col">Size</th>
            <th scope="col">Attempt</th>
            <th scope="col">Folder</th>
            <th scope="col">
              <span class="sr-only">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {items.map((item) => (
            <Row key={item.path} run={run} item={item} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Row({ run, item }: { run: Run; item: Checkpoint }) {
  const busy = useSignal(false);
  const request = useRef(new AbortController());
  useEffect(() => () => request.current.abort(), []);
  const resume = async () => {
    busy.value = true;
    try {
      await resumeRun(run.id, item.path, run.attempt, request.current.signal);
      toast(`${run.name}: resuming from step ${item.step}`);
    } catch (error) {
      toastError(error);
    } finally {
      busy.value = false;
    }
  };
  return (
    <tr>
      <td class="number">{groupDigits(item.step)}</td>
      <td class="number">{formatTime(item.created_at, now.value)}</td>
      <td class="number">{formatBytes(item.bytes)}</td>
      <td class="number">{item.attempt}</td>
      <td>
        <code>{item.path}</code>
      </td>
      <td class="cell-actions">
        {run.actions.includes("resume") && (
          <Button icon="resume" busy={busy.value} onClick={() => void resume()}>
            Resume here
          </Button>
        )}
      </td>
    </tr>
  );
}
