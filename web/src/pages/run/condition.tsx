import type { ComponentChildren } from "preact";
import type { Run } from "../../contract";
import { formatDuration } from "../../model/format";
import { runPath } from "../../model/routes";
import { secondsUntil } from "../../model/states";
import { afterwards, troubleWord, waitingWord } from "../../model/words";
import { now } from "../../state/clock";
import type { RunFeed } from "../../state/run-feed";
import { stream } from "../../state/runs";
import { Link } from "../../ui/link";
import { Notice } from "../../ui/notice";
import { Ending } from "./ending";

/** Why the run is as it is, and what comes next by itself. */
export function Condition({ run, feed }: { run: Run; feed: RunFeed | null }) {
  switch (run.state) {
    case "failed":
    case "interrupted":
      return <Broken run={run} />;
    case "recovering":
      return <Recovering run={run} />;
    case "queued":
      return <Queued run={run} />;
    case "starting":
    case "running":
      return run.phase?.phase === "waiting" ? <NoRoom run={run} /> : null;
    case "stopping":
    case "pausing":
      return <Ending run={run} feed={feed} />;
    default:
      return (
        <>
          {run.reason && <p class="muted reason">{run.reason}</p>}
          <Ending run={run} feed={feed} />
        </>
      );
  }
}

/** What went wrong, in the words of whoever noticed: for an error, the traceback's last line. */
function Broken({ run }: { run: Run }) {
  const isFailed = run.state === "failed";
  const failure = run.trouble?.failure;
  return (
    <Notice tone="error">
      <div class="broken-head">
        <b>{isFailed ? "Failed" : "Interrupted"}</b>
        {isFailed && failure && <span>{troubleWord({ failure, action: "none" })}</span>}
        <Link to={runPath(run.id, "log")} keepScroll>
          Read the log
        </Link>
      </div>
      <p class={isFailed ? "broken-error" : undefined}>{run.reason || "No reason was given."}</p>
      {isFailed && <p>{afterwards(run)}</p>}
    </Notice>
  );
}

function Recovering({ run }: { run: Run }) {
  const { phase } = run;
  return (
    <Notice tone="warning">
      <b>Recovering</b> {run.reason}
      {phase?.phase === "backing_off" && phase.deadline && <NextAttempt at={phase.deadline} />}
    </Notice>
  );
}

function NextAttempt({ at }: { at: string }) {
  const left = Math.ceil(secondsUntil(at, now.value + stream.clockOffset.value));
  return (
    <p class="countdown number">
      {left > 0 ? `Next attempt in ${formatDuration(left)}` : "The next attempt begins"}
    </p>
  );
}

function Queued({ run }: { run: Run }) {
  if (run.waiting === null) return run.reason ? <p class="muted reason">{run.reason}</p> : null;
  return (
    <Told tone="info" title={waitingWord(run) ?? ""}>
      <Link to="/">The whole queue</Link>
    </Told>
  );
}

function NoRoom({ run }: { run: Run }) {
  return (
    <Told tone="warning" title="Waiting for room on the disk">
      <p>{run.phase?.detail}</p>
      <p class="muted">Training goes on by itself when there is room.</p>
    </Told>
  );
}

interface ToldProps {
  tone: "info" | "warning";
  title: string;
  children: ComponentChildren;
}

function Told({ tone, title, children }: ToldProps) {
  return (
    <Notice tone={tone}>
      <b>{title}</b> {children}
    </Notice>
  );
}
