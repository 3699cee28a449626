import { describe, expect, it } from "vitest";
import type { Sample } from "../src/contract";
import { groupSamples, isAnimatedWebp, type Made } from "../src/model/samples";

const MIMES: Record<string, string> = {
  txt: "text/plain",
  png: "image/png",
  webp: "image/webp",
  wav: "audio/wav",
};

function sample(step: number, name: string, fields: Partial<Sample> = {}): Sample {
  return {
    step,
    path: `samples/step-${step}/${name}`,
    modality: name.split("-")[0] ?? "",
    mime: MIMES[name.split(".")[1] ?? ""] ?? "application/octet-stream",
    caption: "",
    expected: null,
    attempt: 1,
    time: "",
    ...fields,
  };
}

function only(files: Sample[]): Made {
  const made = groupSamples(files, []).flatMap(({ modalities }) => modalities.flatMap((one) => one.made));
  expect(made).toHaveLength(1);
  return made[0] as Made;
}

describe("groupSamples", () => {
  it("puts the newest step first and counts within it as people do", () => {
    const groups = groupSamples(
      [sample(100, "text-10.txt"), sample(100, "text-2.txt"), sample(250, "text-1.txt")],
      [],
    );
    expect(groups.map(({ step }) => step)).toEqual([250, 100]);
    const made = groups[1]?.modalities[0]?.made ?? [];
    expect(made.map(({ id }) => id.split("/")[2])).toEqual(["text-2", "text-10"]);
  });

  it("shows the newer attempt's file once", () => {
    const files = [sample(100, "text-0.txt", { attempt: 2 }), sample(100, "text-0.txt", { attempt: 1 })];
    expect(only(files).texts.map(({ attempt }) => attempt)).toEqual([2]);
  });

  it("follows the order of the modalities, with unknown ones at the end", () => {
    const files = ["tts-0.wav", "aurora-0.txt", "asr-0.wav", "text-0.txt"].map((name) => sample(1, name));
    const [group] = groupSamples(files, ["text", "video", "asr", "tts"]);
    expect(group?.modalities.map(({ modality }) => modality)).toEqual(["text", "asr", "tts", "aurora"]);
  });

  it("takes files of one stem for one sample, each for what it is", () => {
    const made = only([
      sample(1, "asr-0.wav", { caption: "What is said?" }),
      sample(1, "asr-0.txt", { caption: "What is said?", expected: "so" }),
      sample(1, "asr-0.png"),
      sample(1, "asr-0.npz"),
    ]);
    const names = [made.sounds, made.texts, made.pictures, made.others].map((files) => files.length);
    expect(names).toEqual([1, 1, 1, 1]);
    expect(made).toMatchObject({ captions: ["What is said?"], expected: "so", layout: "sound" });
  });

  it("lays a sample out by what there is of it", () => {
    expect(only([sample(1, "a-0.txt")]).layout).toBe("text");
    expect(only([sample(1, "a-0.png")]).layout).toBe("picture");
    expect(only([sample(1, "a-0.webp"), sample(1, "a-0.txt")]).layout).toBe("answer");
    expect(only([sample(1, "a-0.wav"), sample(1, "a-0.png")]).layout).toBe("sound");
  });

  it("takes an empty truth for one: the model should have said nothing", () => {
    expect(only([sample(1, "a-0.txt", { expected: "" })]).expected).toBe("");
  });
});

describe("isAnimatedWebp", () => {
  const head = (kind: string, flags: number) =>
    new TextEncoder().encode(`RIFF....WEBP${kind}....${String.fromCharCode(flags)}`);

  it("reads the flag of the container", () => {
    expect(isAnimatedWebp(head("VP8X", 0b10))).toBe(true);
    expect(isAnimatedWebp(head("VP8X", 0b10000))).toBe(false);
  });

  it("takes plain pictures, other files and torn ones for still", () => {
    expect(isAnimatedWebp(head("VP8L", 0b10))).toBe(false);
    expect(isAnimatedWebp(head("VP8X", 0b10).subarray(0, 15))).toBe(false);
    expect(isAnimatedWebp(new Uint8Array())).toBe(false);
  });
});
