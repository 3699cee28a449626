"""Clips from bytes: a few frames, spread evenly over the time that the clip lasts."""

import io
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageOps, ImageSequence
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from xoron_core.data.media import MAX_PIXELS, on_white
from xoron_core.data.records import Record

MAX_CLIP_PIXELS = 2**33
"""Of all frames together, since those between the picked ones are decoded, too. Five minutes of 1280 × 720."""
UNTOLD_DURATION_MS = 100.0
"""What browsers show a frame of an animation for that asks for 10 ms or less."""
FILM_FORMATS = "mov,matroska,avi,ogg,mpegts,mpeg,flv,asf,h264,mjpeg"
"""Containers (mov is mp4, too, matroska is webm) that hold what they show: a playlist opens files of its choice."""

Clip = np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]

F = TypeVar("F")


def read_clip(record: Record, key: str, size: int, num_frames: int) -> Clip:
    """What is seen in the middle of each of `num_frames` equal parts of the time of the clip that a row names, upright,
    on white, cropped to a square in the middle: [num_frames, size, size, 3] bytes.

    Reads animated webp, gif and png, and films (mp4, webm, mkv, …). Of a clip with fewer frames, some come twice.
    Raises: DataError when it cannot be read, has no two frames, or is larger than a clip has any business to be.
    """
    content = record.read(record.text(key))
    animated = content[8:12] == b"WEBP" or content.startswith((b"GIF8", b"\x89PNG"))
    seen = _seen_of_animation(content, num_frames) if animated else _seen_of_film(content, num_frames)
    try:
        frames = [ImageOps.fit(on_white(frame), (size, size), Image.Resampling.LANCZOS) for frame in seen]
    except av.FFmpegError as error:  # also where a broken file asks for more memory than there is anywhere
        raise record.error(f"not a readable clip: {error}") from error
    except MemoryError:  # it says nothing about the file
        raise
    except Exception as error:  # boundary: a decoder raises whatever a broken file leads it to
        raise record.error(f"not a readable clip: {error}") from error
    return np.stack([np.asarray(frame, dtype=np.uint8) for frame in frames])


def _check_size(num_frames: int, width: int, height: int) -> None:
    """Raises ValueError for a still picture, and for too many pixels."""
    size = f"{num_frames} frame(s) of {width} × {height} pixels"
    if num_frames < 2:
        raise ValueError(f"{size}: a clip has two at least")
    if width * height > MAX_PIXELS or width * height * num_frames > MAX_CLIP_PIXELS:
        raise ValueError(f"{size}: at most {MAX_PIXELS} pixels a frame are read, and {MAX_CLIP_PIXELS} in all")


def _middles(begin: float, end: float, num_parts: int) -> list[float]:
    """The middles of equal parts of a time."""
    return [begin + (part + 0.5) * (end - begin) / num_parts for part in range(num_parts)]


def _seen_at(times: list[float], shown: Iterable[tuple[float, F]]) -> Iterator[F]:
    """What is seen at each of `times` (ascending) of things that are shown from a time on, until the next; the first
    also before."""
    seen: F | None = None
    taken = 0
    for begin, thing in shown:
        while seen is not None and times[taken] < begin:
            yield seen
            taken += 1
            if taken == len(times):
                return
        seen = thing
    if seen is None:
        raise ValueError("no frame could be decoded")
    for _ in times[taken:]:
        yield seen


def _seen_of_animation(content: bytes, count: int) -> Iterator[Image.Image]:
    with Image.open(io.BytesIO(content), formats=("WEBP", "GIF", "PNG")) as image:
        assert isinstance(image, WebPImageFile | GifImageFile | PngImageFile)
        _check_size(image.n_frames, image.width, image.height)
        durations_ms = [_duration_ms(frame) for frame in ImageSequence.Iterator(image)]
        begins_ms = accumulate(durations_ms, initial=0.0)
        frames = (frame.copy() for frame in ImageSequence.Iterator(image))
        yield from _seen_at(_middles(0.0, sum(durations_ms), count), zip(begins_ms, frames, strict=False))


def _duration_ms(frame: Image.Image) -> float:
    frame.load()  # some formats tell the duration only now
    duration_ms = float(frame.info.get("duration", 0.0))
    return duration_ms if duration_ms > 10.0 else UNTOLD_DURATION_MS


def _seen_of_film(content: bytes, count: int) -> Iterator[Image.Image]:
    """First the packets' times, without decoding; then the frames, one after the other. Times are in the stream's
    unit; in frames where it has none."""
    with _open_film(content) as film:
        stream = _video(film)
        packets = [(packet.pts, packet.duration) for packet in film.demux(stream) if packet.size]
        _check_size(len(packets), stream.codec_context.width, stream.codec_context.height)
    timed = sorted((pts, duration) for pts, duration in packets if pts is not None)
    told = len(timed) == len(packets)
    begin, end = 0.0, float(len(packets))
    if told:
        begin, (last, duration) = float(timed[0][0]), timed[-1]
        end = last + (duration or (last - begin) / (len(timed) - 1))
    with _open_film(content) as film:
        frames = enumerate(film.decode(_video(film)))
        shown = ((frame.pts if told and frame.pts is not None else index, frame) for index, frame in frames)
        yield from map(_picture, _seen_at(_middles(begin, end, count), shown))


def _open_film(content: bytes) -> InputContainer:
    return av.open(io.BytesIO(content), mode="r", options={"format_whitelist": FILM_FORMATS})


def _video(film: InputContainer) -> VideoStream:
    if not film.streams.video:
        raise ValueError("there is only sound in it")
    return film.streams.video[0]


def _picture(frame: VideoFrame) -> Image.Image:
    """A frame of a film, upright."""
    if frame.is_corrupt:
        raise ValueError(f"the frame at {frame.time} s is damaged")
    transparent = any(component.is_alpha for component in frame.format.components)
    image = Image.fromarray(frame.to_ndarray(format="rgba" if transparent else "rgb24"))
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image
