import { useComputed } from "@preact/signals";
import { getSamples, getSampleText, sampleAddress } from "../../api/calls";
import type { ModalityInfo, Run, Sample } from "../../contract";
import { formatTime, groupDigits, humanize } from "../../model/format";
import { runPath } from "../../model/routes";
import { groupSamples, splitMarks } from "../../model/samples";
import { now } from "../../state/clock";
import { type Resource, useResource } from "../../state/resource";
import type { RunFeed } from "../../state/run-feed";
import { Link } from "../../ui/link";
import { Empty, Notice } from "../../ui/notice";

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
  const groups = groupSamples(data.value);
  if (groups.length === 0) return <NoSamples run={run} />;
  return (
    <>
      {groups.map(({ step, samples }) => (
        <section key={step} aria-label={`Samples of step ${step}`}>
          <div class="section-head">
            <h2 class="number">Step {groupDigits(step)}</h2>
            <span class="muted small number">{formatTime(samples[0]?.time ?? null, now.value)}</span>
          </div>
          <Wall run={run} samples={samples} modalities={modalities} />
        </section>
      ))}
    </>
  );
}

/** The newest step's samples, for the page of the charts. */
export function LatestSamples({ run, feed, modalities }: SamplesProps) {
  const { data } = useSamples(run, feed);
  const group = groupSamples(data.value ?? [])[0];
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
      <Wall run={run} samples={group.samples} modalities={modalities} />
    </section>
  );
}

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

function Wall({ run, samples, modalities }: { run: Run; samples: Sample[]; modalities: ModalityInfo[] }) {
  const names = [...new Set(samples.map((sample) => sample.modality))];
  return (
    <>
      {names.map((name) => (
        <div class="wall-group" key={name}>
          <h3 class="wall-title">{modalities.find((info) => info.name === name)?.label ?? humanize(name)}</h3>
          <div class={samples.some((s) => s.modality === name && isPicture(s)) ? "wall pictures" : "wall"}>
            {samples
              .filter((sample) => sample.modality === name)
              .map((sample) => (
                <Artifact key={sample.path} run={run} sample={sample} />
              ))}
          </div>
        </div>
      ))}
    </>
  );
}

function isPicture(sample: Sample): boolean {
  return sample.mime.startsWith("image/");
}

function Artifact({ run, sample }: { run: Run; sample: Sample }) {
  const address = sampleAddress(run.id, sample.path);
  return (
    <figure class="card artifact">
      {isPicture(sample) && <img src={address} alt={sample.caption} loading="lazy" />}
      {sample.mime.startsWith("text/") && <TextArtifact run={run} sample={sample} />}
      {/* biome-ignore lint/a11y/useMediaCaption: the caption below says what was asked for */}
      {sample.mime.startsWith("audio/") && <audio controls preload="none" src={address} />}
      {sample.mime.startsWith("video/") && <video controls loop muted preload="metadata" src={address} />}
      <figcaption>
        <Marked text={sample.caption} />
      </figcaption>
    </figure>
  );
}

function TextArtifact({ run, sample }: { run: Run; sample: Sample }) {
  const { data, error } = useResource((signal) => getSampleText(run.id, sample.path, signal), sample.path);
  if (error.value !== null) return <p class="field-error">{error.value}</p>;
  return (
    <p class="sample-text">
      <Marked text={data.value ?? "…"} />
    </p>
  );
}

/** Text whose special tokens step back behind the words. */
function Marked({ text }: { text: string }) {
  return (
    <>
      {splitMarks(text).map((part, i) => (
        <span key={i} class={part.isMark ? "mark" : undefined}>
          {part.text}
        </span>
      ))}
    </>
  );
}
