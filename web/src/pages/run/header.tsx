import type { Run } from "../../contract";
import { endsOnRequest } from "../../model/ending";
import { formatCount, formatDuration, formatRate, formatTime, groupDigits } from "../../model/format";
import { runPath } from "../../model/routes";
import { elapsed, isLive, progress, secondsUntil } from "../../model/states";
import { phaseWord } from "../../model/words";
import { now } from "../../state/clock";
import type { RunFeed } from "../../state/run-feed";
import { stream } from "../../state/runs";
import { RunActions } from "../../ui/actions";
import { EditableName } from "../../ui/editable-name";
import { Icon } from "../../ui/icons";
import { Link } from "../../ui/link";
import { StateBadge } from "../../ui/state-badge";
import { Condition } from "./condition";
import { Trouble } from "./troubles";

interface HeaderProps {
  run: Run;
  feed: RunFeed | null;
  onDeleted: () => void;
}

/** State, phase, progress and the buttons of a run. */
export function RunHeader({ run, feed, onDeleted }: HeaderProps) {
  return (
    <header class="run-header">
      <p class="crumbs">
        <Link to="/">Runs</Link>
        <span aria-hidden="true"> / </span>
        <span class="muted number">{run.id}</span>
      </p>
      <div class="page-head">
        <div class="run-title">
          <EditableName run={run}>
            <h1>{run.name}</h1>
          </EditableName>
          <StateBadge state={run.state} />
          <Phase run={run} />
        </div>
        <RunActions
          run={run}
          shown={["resume", "pause", "stop", "checkpoint", "sample"]}
          onDeleted={onDeleted}
        />
      </div>
      <Condition run={run} feed={feed} />
      {run.trouble !== null && <Trouble run={run} trouble={run.trouble} />}
      <Figures run={run} />
    </header>
  );
}

/** What a live run is doing; an end has its steps, a wait its banner. */
function Phase({ run }: { run: Run }) {
  const { phase } = run;
  if (phase === null || !isLive(run.state) || endsOnRequest(run.state)) return null;
  if (run.state === "recovering") return null;
  const left = phase.deadline ? secondsUntil(phase.deadline, now.value + stream.clockOffset.value) : null;
  const detail = phase.phase === "waiting" ? null : phase.detail;
  return (
    <span class="phase">
      <span class="muted" role="status">
        {detail ? `${phaseWord(phase.phase)}: ${detail}` : phaseWord(phase.phase)}
      </span>
      {left !== null && <span class="countdown number"> · at most {formatDuration(left)} more</span>}
    </span>
  );
}

function Figures({ run }: { run: Run }) {
  const share = progress(run);
  const live = isLive(run.state);
  return (
    <div class="card figures-card">
      {share !== null && <progress class={run.state} max={1} value={share} aria-label="Progress" />}
      <dl class="figures">
        <Figure name="Step">
          {groupDigits(run.step)}
          {run.max_steps !== null && <span class="muted"> / {groupDigits(run.max_steps)}</span>}
        </Figure>
        {live ? (
          <Figure name="Time left">{formatDuration(run.eta_s)}</Figure>
        ) : (
          <Figure name="Ended">{formatTime(run.ended_at, now.value)}</Figure>
        )}
        <Figure name="Duration">{formatDuration(elapsed(run, now.value))}</Figure>
        <Figure name="Speed">{live ? formatRate(run.steps_per_s, "step") : "–"}</Figure>
        <Figure name="Tokens">{formatCount(run.tokens)}</Figure>
        <Figure name="Samples">{formatCount(run.samples)}</Figure>
        <Figure name="Attempt">{run.attempt}</Figure>
        {run.bad_samples > 0 && (
          <Figure name="Bad samples">
            <Link to={runPath(run.id, "events")} class="warn-link" keepScroll>
              <Icon name="warning" /> {groupDigits(run.bad_samples)}
            </Link>
          </Figure>
        )}
      </dl>
    </div>
  );
}

function Figure({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div class="figure">
      <dt>{name}</dt>
      <dd class="number">{children}</dd>
    </div>
  );
}
