import { useComputed } from "@preact/signals";
import { getSamples } from "../../api/calls";
import type { ModalityInfo, Run, Sample } from "../../contract";
import { formatTime, groupDigits, humanize } from "../../model/format";
import { runPath } from "../../model/routes";
import { groupSamples, type SampleGroup } from "../../model/samples";
import { now } from "../../state/clock";
import { type Resource, useResource } from "../../state/resource";
import type { RunFeed } from "../../state/run-feed";
import { Link } from "../../ui/link";
import { Empty, Notice } from "../../ui/notice";
import { SampleFigure } from "./sample-figure";

interface SamplesProps {
  run: Run;
  feed: RunFeed;
  modalities: ModalityInfo[];
}

function useSamples(run: Run, feed: RunFeed): Resource<Sample[]> {
  const newest = useComputed(() => feed.events.value.findLast((event) => event.kind === "sample")?.seq ?? 0);
  const load = async (signal: AbortSignal) => (await getSamples(run.id, signal)).items;
  return useResource(load, `${run.id}/${newest.value}`);
}

/** What the model makes of the same prompts, newest first. */
export function SamplesTab({ run, feed, modalities }: SamplesProps) {
  const { data, error } = useSamples(run, feed);
  if (error.value !== null) return <Notice tone="error">{error.value}</Notice>;
  if (data.value === null) return <p class="muted">Loading samples …</p>;
  const groups = groupSamples(data.value, namesOf(modalities));
  if (groups.length === 0) return <NoSamples run={run} />;
  return (
    <>
      {groups.map((group) => (
        <section key={group.step} aria-label={`Samples of step ${group.step}`}>
          <div class="section-head">
            <h2 class="number">Step {groupDigits(group.step)}</h2>
            <span class="muted small number">{formatTime(group.time, now.value)}</span>
          </div>
          <Wall run={run} group={group} modalities={modalities} />
        </section>
      ))}
    </>
  );
}

/** The newest step's samples, for the page of the charts. */
export function LatestSamples({ run, feed, modalities }: SamplesProps) {
  const { data } = useSamples(run, feed);
  const group = groupSamples(data.value ?? [], namesOf(modalities))[0];
  if (group === undefined) return null;
  return (
    <section aria-labelledby="newest-title">
      <div class="section-head">
        <h2 id="newest-title">
          Samples at step <span class="number">{groupDigits(group.step)}</span>
        </h2>
        <Link to={runPath(run.id, "samples")} keepScroll>
          All samples
        </Link>
      </div>
      <Wall run={run} group={group} modalities={modalities} />
    </section>
  );
}

const namesOf = (modalities: ModalityInfo[]) => modalities.map((info) => info.name);

function NoSamples({ run }: { run: Run }) {
  return (
    <Empty title="No samples yet">
      <p>
        {run.actions.includes("sample")
          ? "They are made every training.sample_steps steps, or now by “Sample now” above."
          : "None were made in this run."}
      </p>
    </Empty>
  );
}

function Wall({ run, group, modalities }: { run: Run; group: SampleGroup; modalities: ModalityInfo[] }) {
  return (
    <div class="walls">
      {group.modalities.map(({ modality, layout, made }) => (
        <div class="wall-group" key={modality} data-samples={modality}>
          <h3 class="wall-title">{labelOf(modalities, modality)}</h3>
          <div class={`wall ${layout}`}>
            {made.map((one) => (
              <SampleFigure key={one.id} runId={run.id} made={one} />
            ))}
          </div>
        </div>
      ))}
    </div>
  );
}

function labelOf(modalities: ModalityInfo[], name: string): string {
  return modalities.find((info) => info.name === name)?.label ?? humanize(name);
}
