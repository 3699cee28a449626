import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { getSampleHead, sampleAddress } from "../../api/calls";
import type { Sample } from "../../contract";
import { isAnimatedWebp } from "../../model/samples";
import { isStill, toggleMotion } from "../../state/motion";
import { Button } from "../../ui/button";

/** Enlarged so many times, a picture's pixels are what is looked at: their edges stay sharp. */
const CRISP_SCALE = 2;
const HEAD_BYTES = 21;

interface MediaProps {
  runId: string;
  file: Sample;
  alt: string;
}

/** A picture or an animated clip; clips stand still where that is wished, on their first frame. */
export function Picture({ runId, file, alt }: MediaProps) {
  const image = useRef<HTMLImageElement>(null);
  const isLoaded = useSignal(false);
  const isClip = useIsClip(runId, file, isLoaded.value);
  const isCrisp = useIsCrisp(image, isLoaded.value);
  const frozen = isClip && isStill.value;
  return (
    <div class={isCrisp ? "seen crisp" : "seen"}>
      <img
        ref={image}
        class={frozen ? "moving" : undefined}
        src={sampleAddress(runId, file.path)}
        alt={alt}
        loading="lazy"
        onLoad={() => {
          isLoaded.value = true;
        }}
      />
      {frozen && <FirstFrame image={image} alt={alt} />}
      {isClip && (
        <Button
          kind="quiet"
          icon={frozen ? "resume" : "pause"}
          label={frozen ? "Play clips" : "Pause clips"}
          onClick={toggleMotion}
        />
      )}
    </div>
  );
}

function FirstFrame({ image, alt }: { image: { current: HTMLImageElement | null }; alt: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    if (canvas.current === null || image.current === null) return;
    canvas.current.width = image.current.naturalWidth;
    canvas.current.height = image.current.naturalHeight;
    canvas.current.getContext("2d")?.drawImage(image.current, 0, 0);
  }, [image]);
  return <canvas ref={canvas} role="img" aria-label={alt} />;
}

/** Whether a file that has been shown is animated; only its first bytes tell. */
function useIsClip(runId: string, file: Sample, isLoaded: boolean): boolean {
  const isClip = useSignal(file.mime === "image/gif");
  useEffect(() => {
    if (!isLoaded || file.mime !== "image/webp") return;
    const controller = new AbortController();
    getSampleHead(runId, file.path, HEAD_BYTES, controller.signal).then(
      (head) => {
        isClip.value = isAnimatedWebp(head);
      },
      () => {}, // it plays on, without a button
    );
    return () => controller.abort();
  }, [runId, file.path, file.mime, isLoaded, isClip]);
  return isClip.value;
}

/** Whether a picture is so much larger on the page than in its file that its pixels show. */
function useIsCrisp(image: { current: HTMLImageElement | null }, isLoaded: boolean): boolean {
  const isCrisp = useSignal(false);
  useEffect(() => {
    const element = image.current;
    if (!isLoaded || element === null) return;
    const size = new ResizeObserver(() => {
      const { clientWidth, clientHeight, naturalWidth, naturalHeight } = element;
      const scale = Math.min(clientWidth / naturalWidth, clientHeight / naturalHeight);
      isCrisp.value = scale >= CRISP_SCALE;
    });
    size.observe(element);
    return () => size.disconnect();
  }, [isLoaded, image, isCrisp]);
  return isCrisp.value;
}

/** A sound as a picture: time runs along the width, as it does in the player below. */
export function Spectrogram({ runId, file, alt }: MediaProps) {
  return <img class="spectrogram" src={sampleAddress(runId, file.path)} alt={alt} loading="lazy" />;
}

export function Sound({ runId, file, alt }: MediaProps) {
  return (
    // biome-ignore lint/a11y/useMediaCaption: what is said stands below
    <audio
      controls
      controlsList="nodownload noplaybackrate" // leaves the room to the bar that one seeks with
      preload="metadata"
      src={sampleAddress(runId, file.path)}
      aria-label={alt}
    />
  );
}

export function Film({ runId, file, alt }: MediaProps) {
  return (
    <video
      controls
      loop
      muted
      playsInline
      preload="metadata"
      src={sampleAddress(runId, file.path)}
      aria-label={alt}
    />
  );
}
