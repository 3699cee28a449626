/** Samples in the order in which they are looked at. */

import type { Sample } from "../contract";

export interface SampleGroup {
  step: number;
  samples: Sample[];
}

/** By step, newest first; where an attempt made the same file again, the newer one stands. */
export function groupSamples(samples: Sample[]): SampleGroup[] {
  const steps = new Map<number, Map<string, Sample>>();
  for (const sample of samples) {
    const files = steps.get(sample.step) ?? new Map<string, Sample>();
    const other = files.get(sample.path);
    if (other === undefined || other.attempt <= sample.attempt) files.set(sample.path, sample);
    steps.set(sample.step, files);
  }
  return [...steps.entries()]
    .sort(([a], [b]) => b - a)
    .map(([step, files]) => ({ step, samples: [...files.values()].sort(byModalityAndPath) }));
}

function byModalityAndPath(a: Sample, b: Sample): number {
  if (a.modality !== b.modality) return a.modality < b.modality ? 1 : -1;
  return a.path.localeCompare(b.path, "en", { numeric: true });
}

export interface TextPart {
  text: string;
  isMark: boolean;
}

/** A text cut at its special tokens, `<|…|>`. */
export function splitMarks(text: string): TextPart[] {
  return text
    .split(/(<\|[^|<>]*\|>)/)
    .filter((part) => part !== "")
    .map((part) => ({ text: part, isMark: /^<\|[^|<>]*\|>$/.test(part) }));
}
