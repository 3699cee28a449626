import type { Run } from "../contract";
import { formatDuration, groupDigits } from "../model/format";
import { isLive, progress } from "../model/states";

/** How far a run is: a bar, the steps, and how long it will still take. */
export function Progress({ run, withEta = true }: { run: Run; withEta?: boolean }) {
  const share = progress(run);
  const eta = isLive(run.state) && run.eta_s !== null && run.eta_s > 0;
  return (
    <div class="progress">
      {share !== null && <progress class={run.state} max={1} value={share} aria-label="Progress" />}
      <div class="progress-text">
        <span class="number">
          {groupDigits(run.step)}
          {run.max_steps !== null && <span class="muted"> / {groupDigits(run.max_steps)}</span>}
        </span>
        {withEta && eta && <span class="muted number">{formatDuration(run.eta_s)} left</span>}
      </div>
    </div>
  );
}
