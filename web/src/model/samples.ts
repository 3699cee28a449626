/** Samples in the order in which they are looked at, each with all its files. */

import type { Sample } from "../contract";

/** How a sample's figure is laid out: what was said of a picture stands beside it, what belongs to a sound below. */
export type Layout = "sound" | "answer" | "picture" | "text";

/** What the model made of one prompt: the files that differ in their suffix only. */
export interface Made {
  /** Their path, without suffix. */
  id: string;
  layout: Layout;
  /** What was asked; files of one sample mostly say the same. */
  captions: string[];
  /** The truth, where there is one. */
  expected: string | null;
  pictures: Sample[];
  films: Sample[];
  sounds: Sample[];
  texts: Sample[];
  /** Files that a page cannot show. */
  others: Sample[];
}

export interface ModalitySamples {
  modality: string;
  /** Of the first; samples of one modality are alike. */
  layout: Layout;
  made: Made[];
}

export interface SampleGroup {
  step: number;
  time: string;
  modalities: ModalitySamples[];
}

/**
 * By step, newest first, and within it by modality in the order given, others after them; where an attempt made the
 * same file again, the newer one stands.
 */
export function groupSamples(samples: Sample[], order: string[]): SampleGroup[] {
  const steps = new Map<number, Map<string, Sample>>();
  for (const sample of samples) {
    const files = steps.get(sample.step) ?? new Map<string, Sample>();
    const other = files.get(sample.path);
    if (other === undefined || other.attempt <= sample.attempt) files.set(sample.path, sample);
    steps.set(sample.step, files);
  }
  return [...steps.entries()]
    .sort(([a], [b]) => b - a)
    .map(([step, files]) => ({
      step,
      time: [...files.values()][0]?.time ?? "",
      modalities: byModality([...files.values()], order),
    }));
}

function byModality(files: Sample[], order: string[]): ModalitySamples[] {
  const names = [...new Set([...order, ...files.map((file) => file.modality)])];
  return names
    .map((modality) => ({ modality, made: gather(files.filter((file) => file.modality === modality)) }))
    .flatMap(({ modality, made }) =>
      made[0] === undefined ? [] : [{ modality, layout: made[0].layout, made }],
    );
}

function gather(files: Sample[]): Made[] {
  const stems = new Map<string, Sample[]>();
  for (const file of files) {
    const stem = stemOf(file.path);
    stems.set(stem, [...(stems.get(stem) ?? []), file]);
  }
  return [...stems.entries()]
    .sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }))
    .map(([id, parts]) => toMade(id, parts));
}

function toMade(id: string, parts: Sample[]): Made {
  const ofKind = (kind: Kind) => parts.filter((part) => kindOf(part) === kind);
  const made = {
    id,
    captions: [...new Set(parts.map(({ caption }) => caption).filter((caption) => caption !== ""))],
    expected: parts.find(({ expected }) => expected !== null)?.expected ?? null,
    pictures: ofKind("image"),
    films: ofKind("video"),
    sounds: ofKind("audio"),
    texts: ofKind("text"),
    others: ofKind("other"),
  };
  return { ...made, layout: layoutOf(made) };
}

function layoutOf(made: Omit<Made, "layout">): Layout {
  if (made.sounds.length > 0) return "sound";
  if (made.pictures.length + made.films.length === 0) return "text";
  return made.texts.length > 0 || made.expected !== null ? "answer" : "picture";
}

/** `samples/step-1/tts-0.wav` without `.wav`. */
function stemOf(path: string): string {
  return path.replace(/\.[^./]*$/, "");
}

const KINDS = ["image", "video", "audio", "text"] as const;
type Kind = (typeof KINDS)[number] | "other";

function kindOf(file: Sample): Kind {
  return KINDS.find((kind) => file.mime.startsWith(`${kind}/`)) ?? "other";
}

/** Whether the first bytes of a file are those of an animated WebP: the container's flags say so. */
export function isAnimatedWebp(head: Uint8Array): boolean {
  const name = (at: number) => String.fromCharCode(...head.subarray(at, at + 4));
  return name(0) === "RIFF" && name(8) === "WEBP" && name(12) === "VP8X" && ((head[20] ?? 0) & 2) !== 0;
}
