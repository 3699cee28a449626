import { getSampleText, sampleAddress } from "../../api/calls";
import type { Sample } from "../../contract";
import { compare, type Passage, splitMarks } from "../../model/passages";
import type { Made } from "../../model/samples";
import { useResource } from "../../state/resource";
import { Icon } from "../../ui/icons";
import { Film, Picture, Sound, Spectrogram } from "./media";

interface SampleProps {
  runId: string;
  made: Made;
}

/** One sample with all its files: what is seen and heard, what was asked, what the model says, what is true. */
export function SampleFigure({ runId, made }: SampleProps) {
  const alt = made.captions[0] ?? "a sample";
  const Seen = made.layout === "sound" ? Spectrogram : Picture;
  const isAsked = made.layout === "answer" || made.expected !== null; // a question stands above its answer
  const caption = made.captions.length > 0 && (
    <figcaption class={isAsked ? "question" : undefined}>
      {made.captions.map((text) => (
        <p key={text}>
          <Passages parts={splitMarks(text)} />
        </p>
      ))}
    </figcaption>
  );
  return (
    <figure class={`card artifact ${made.layout}`}>
      {made.pictures.map((file) => (
        <Seen key={file.path} runId={runId} file={file} alt={alt} />
      ))}
      {made.films.map((file) => (
        <Film key={file.path} runId={runId} file={file} alt={alt} />
      ))}
      {made.sounds.map((file) => (
        <Sound key={file.path} runId={runId} file={file} alt={alt} />
      ))}
      <div class="artifact-words">
        {isAsked && caption}
        <Words runId={runId} made={made} />
        {made.others.map((file) => (
          <a key={file.path} class="artifact-file" href={sampleAddress(runId, file.path)} download>
            {file.path.split("/").pop()}
          </a>
        ))}
        {!isAsked && caption}
      </div>
    </figure>
  );
}

/** What the model said; where there is a truth, both below each other, with names. */
function Words({ runId, made: { texts, expected } }: SampleProps) {
  if (expected === null) {
    return (
      <>
        {texts.map((file) => (
          <PlainText key={file.path} runId={runId} file={file} />
        ))}
      </>
    );
  }
  return (
    <dl class="compared">
      {texts.map((file) => (
        <ComparedText key={file.path} runId={runId} file={file} expected={expected} />
      ))}
      {texts.length === 0 && <Line name="Expected" parts={splitMarks(expected)} />}
    </dl>
  );
}

function useText(runId: string, file: Sample) {
  return useResource((signal) => getSampleText(runId, file.path, signal), `${file.path}/${file.attempt}`);
}

function PlainText({ runId, file }: { runId: string; file: Sample }) {
  const { data, error } = useText(runId, file);
  if (error.value !== null) return <p class="field-error">{error.value}</p>;
  return (
    <p class="sample-text">
      <Passages parts={splitMarks(data.value ?? "…")} />
    </p>
  );
}

function ComparedText({ runId, file, expected }: { runId: string; file: Sample; expected: string }) {
  const { data, error } = useText(runId, file);
  if (error.value !== null) return <div class="field-error">{error.value}</div>;
  const found = compare(data.value ?? "", expected);
  return (
    <>
      <Line name="Model" parts={data.value === null ? splitMarks("…") : found.said} isSame={found.isSame} />
      <Line name="Expected" parts={found.expected} />
    </>
  );
}

function Line({ name, parts, isSame = false }: { name: string; parts: Passage[]; isSame?: boolean }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        {parts.length > 0 ? <Passages parts={parts} /> : <span class="muted">nothing</span>}
        {isSame && (
          <span class="same" title="as expected">
            <Icon name="check" />
            <span class="sr-only">as expected</span>
          </span>
        )}
      </dd>
    </div>
  );
}

const CLASSES: Record<Passage["kind"], string | undefined> = {
  plain: undefined,
  mark: "mark",
  differs: "differs",
};

/** Text whose special tokens step back behind the words. */
function Passages({ parts }: { parts: Passage[] }) {
  return (
    <>
      {parts.map(({ text, kind }, i) => (
        <span key={i} class={CLASSES[kind]}>
          {text}
        </span>
      ))}
    </>
  );
}
