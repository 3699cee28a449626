import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { getQueue, orderQueue } from "../../api/calls";
import type { Gpu, Queue, Run } from "../../contract";
import { formatBytes } from "../../model/format";
import { type Direction, gpuHolder, moveOf, queueKey, slotsWord } from "../../model/queue";
import { runPath } from "../../model/routes";
import { isLive } from "../../model/states";
import { useResource } from "../../state/resource";
import { runById, runs } from "../../state/runs";
import { toastError } from "../../state/toasts";
import { useActions } from "../../ui/actions";
import { Button } from "../../ui/button";
import type { IconName } from "../../ui/icons";
import { Link } from "../../ui/link";
import { Notice } from "../../ui/notice";

/** GPUs' memory changes without any run changing. */
const REFRESH_MS = 5000;

/** What waits, in its order, and for what; nothing where nothing waits. */
export function QueueSection() {
  const waits = runs.value.some((run) => run.state === "queued");
  return waits ? <Waiting /> : null;
}

function Waiting() {
  const key = queueKey(runs.value, (run) => isLive(run.state));
  const { data, error } = useResource(getQueue, key, REFRESH_MS);
  const queue = data.value;
  const items = (queue?.items ?? []).map((run) => runById(run.id) ?? run);
  const waiting = items.filter((run) => run.state === "queued");
  if (error.value !== null && queue === null) return <Notice tone="error">{error.value}</Notice>;
  if (queue === null || waiting.length === 0) return null;
  return (
    <section class="queue" aria-labelledby="queue-title">
      <div class="section-head">
        <h2 id="queue-title">Queue</h2>
        <span class="muted small number">{slotsWord(queue.live.length, queue.max_runs)}</span>
      </div>
      {error.value !== null && <Notice tone="error">{error.value}</Notice>}
      <Lines items={waiting} onOrder={(order) => (data.value = order)} />
      {queue.gpus.length > 0 && <Gpus gpus={queue.gpus} />}
    </section>
  );
}

interface Focus {
  id: string;
  direction: Direction;
}

interface Leaving {
  id: string;
  place: number;
  /** What is said when it has left. */
  said: string;
}

/** Runs that wait; one that was moved keeps the focus, one that left gives it to the next, and both are told of. */
function Lines({ items, onOrder }: { items: Run[]; onOrder: (queue: Queue) => void }) {
  const said = useSignal("");
  const list = useRef<HTMLOListElement>(null);
  const focus = useRef<Focus | null>(null);
  const leaving = useRef<Leaving | null>(null);
  const isMoving = useRef(false);
  const request = useRef(new AbortController());
  useEffect(() => () => request.current.abort(), []);
  const order = items.map((run) => run.id).join();
  useEffect(() => {
    if (focus.current !== null) refocus(list.current, focus.current);
    focus.current = null;
    const left = leaving.current;
    if (left === null || items.some((run) => run.id === left.id)) return;
    leaving.current = null;
    said.value = left.said;
    const next = list.current?.children[Math.min(left.place, items.length - 1)];
    next?.querySelector("a")?.focus();
  }, [order]);

  const move = async (run: Run, direction: Direction) => {
    const wanted = moveOf(items, run.id, direction);
    if (wanted === null || isMoving.current) return;
    isMoving.current = true;
    const { signal } = request.current;
    try {
      const queue = await orderQueue({ runs: wanted.runs }, signal);
      focus.current = { id: run.id, direction };
      said.value = `${run.name} is now ${wanted.position} of ${items.length}`;
      onOrder(queue);
    } catch (error) {
      toastError(error);
    } finally {
      isMoving.current = false;
    }
  };

  return (
    <>
      <ol class="card queue-list" ref={list}>
        {items.map((run, i) => (
          <Line
            key={run.id}
            run={run}
            position={i + 1}
            isLast={i === items.length - 1}
            onMove={(direction) => void move(run, direction)}
            onLeave={(word) => {
              leaving.current = { id: run.id, place: i, said: `${run.name} ${word}` };
            }}
          />
        ))}
      </ol>
      <p class="sr-only" role="status">
        {said.value}
      </p>
    </>
  );
}

/** The button that moved the run, or where it has reached an end, the one that leads away from there. */
function refocus(list: HTMLElement | null, { id, direction }: Focus): void {
  const line = list?.querySelector<HTMLElement>(`[data-run="${id}"]`);
  const wanted = [direction, direction === "down" ? "up" : "down"];
  const buttons = wanted.map((name) =>
    line?.querySelector<HTMLButtonElement>(`[data-move="${name}"] button`),
  );
  buttons.find((button) => button && !button.disabled)?.focus();
}

interface LineProps {
  run: Run;
  position: number;
  isLast: boolean;
  onMove: (direction: Direction) => void;
  onLeave: (word: string) => void;
}

function Line({ run, position, isLast, onMove, onLeave }: LineProps) {
  const onKeyDown = (event: KeyboardEvent) => {
    if (!event.altKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
    event.preventDefault();
    onMove(event.key === "ArrowUp" ? "up" : "down");
  };
  return (
    <li class="queue-line" data-run={run.id} onKeyDown={onKeyDown}>
      <span class="queue-place number">{position}</span>
      <div class="queue-text">
        <Link to={runPath(run.id)} class="run-link">
          {run.name}
        </Link>
        {run.priority !== 0 && <span class="tag number">priority {run.priority}</span>}
        <p class="muted small">{run.waiting?.reason ?? run.reason}</p>
      </div>
      <div class="actions">
        <MoveButton run={run} direction="first" isOff={position === 1} onMove={onMove} />
        <MoveButton run={run} direction="up" isOff={position === 1} onMove={onMove} />
        <MoveButton run={run} direction="down" isOff={isLast} onMove={onMove} />
        <Leave run={run} onLeave={onLeave} />
      </div>
    </li>
  );
}

const MOVES: Record<Direction, { icon: IconName; word: string }> = {
  first: { icon: "first", word: "to the front" },
  up: { icon: "up", word: "up" },
  down: { icon: "down", word: "down" },
};

interface MoveButtonProps {
  run: Run;
  direction: Direction;
  isOff: boolean;
  onMove: (direction: Direction) => void;
}

function MoveButton({ run, direction, isOff, onMove }: MoveButtonProps) {
  const { icon, word } = MOVES[direction];
  return (
    <span data-move={direction}>
      <Button
        kind="quiet"
        icon={icon}
        label={`Move ${run.name} ${word}`}
        disabled={isOff}
        onClick={() => onMove(direction)}
      />
    </span>
  );
}

/** Hold it, or take it out. */
function Leave({ run, onLeave }: Pick<LineProps, "run" | "onLeave">) {
  const { act, busy } = useActions(run);
  const leave = (action: "pause" | "stop", word: string) => {
    onLeave(word);
    void act(action);
  };
  return (
    <>
      {run.actions.includes("pause") && (
        <Button
          kind="quiet"
          icon="pause"
          label={`Hold ${run.name}`}
          busy={busy.value === "pause"}
          onClick={() => leave("pause", "is held")}
        />
      )}
      {run.actions.includes("stop") && (
        <Button
          kind="quiet"
          icon="cross"
          label={`Take ${run.name} out of the queue`}
          busy={busy.value === "stop"}
          onClick={() => leave("stop", "is out of the queue")}
        />
      )}
    </>
  );
}

function Gpus({ gpus }: { gpus: Gpu[] }) {
  return (
    <ul class="gpus" aria-label="GPUs">
      {gpus.map((gpu) => (
        <li key={gpu.uuid} class="card gpu">
          <b>{gpu.name}</b>
          <span class="number">
            {formatBytes(gpu.memory_used)} of {formatBytes(gpu.memory_total)}
          </span>
          <span class={gpu.is_leased ? "" : "muted"}>{gpuHolder(gpu, (id) => runById(id)?.name)}</span>
        </li>
      ))}
    </ul>
  );
}
