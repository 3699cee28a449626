"""Clips from bytes: a few frames, spread evenly over the time that the clip lasts."""

import io
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TypeVar, cast

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageSequence
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from xoron_core.data.media import MAX_PIXELS, MediaError, Pixels, check_whole, decoding, fitted, on_white
from xoron_core.data.records import Record

MAX_CLIP_PIXELS = 2**33
"""Of all frames together, since those between the picked ones are decoded, too. Five minutes of 1280 × 720."""
MAX_FRAMES = 2**17
"""An hour, however small they are."""
MIN_SHARE = 0.9
"""Of the time that a film says it lasts, what it has to have: some demuxers leave out what they cannot read."""
UNTOLD_DURATION_MS = 100.0
"""What browsers show a frame of an animation for that asks for 10 ms or less."""
FILM_FORMATS = "mov,matroska,avi,ogg,mpegts,mpeg,flv,asf,h264,mjpeg"
"""Containers (mov is mp4, too, matroska is webm) that hold what they show: a playlist opens files of its choice."""
STILL_PICTURES = (b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")
"""How a JPEG, a BMP and a TIFF begin, which are no animations and no films."""

Clip = np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]

F = TypeVar("F")


def read_clip(record: Record, key: str, size: int, num_frames: int) -> Clip:
    """What is seen in the middle of each of `num_frames` equal parts of the time of the clip that a row names, upright,
    on white, cropped to a square in the middle: [num_frames, size, size, 3] bytes.

    Reads animated webp, gif and png, and films (mp4, webm, mkv, …). Of a clip with fewer frames, some come twice.
    Raises: DataError when it cannot be read, has no two frames, or is larger than a clip has any business to be.
    """
    content = record.media(key)
    is_animation = content[8:12] == b"WEBP" or content.startswith((b"GIF8", b"\x89PNG"))
    with decoding(record, key, "clip"):
        check_whole(content)
        seen = _seen_of_animation(content, num_frames) if is_animation else _seen_of_film(content, num_frames)
        return np.stack([fitted(pixels_HWC, size) for pixels_HWC in seen])


def _check_size(num_frames: int, width: int, height: int) -> None:
    """Raises MediaError for a still picture, and for too many pixels."""
    size = f"{num_frames} frame(s) of {width} × {height} pixels"
    if num_frames < 2:
        raise MediaError(f"{size}: a clip has two at least", "no_frames")
    if width * height > MAX_PIXELS or width * height * num_frames > MAX_CLIP_PIXELS or num_frames > MAX_FRAMES:
        most = f"at most {MAX_PIXELS} pixels a frame are read, {MAX_CLIP_PIXELS} in all, and {MAX_FRAMES} frames"
        raise MediaError(f"{size}: {most}", "too_large")


def _middles(begin: float, end: float, num_parts: int) -> list[float]:
    """The middles of equal parts of a time."""
    return [begin + (part + 0.5) * (end - begin) / num_parts for part in range(num_parts)]


def _seen_of_animation(content: bytes, count: int) -> Iterator[Pixels]:
    with Image.open(io.BytesIO(content), formats=("WEBP", "GIF", "PNG")) as image:
        assert isinstance(image, WebPImageFile | GifImageFile | PngImageFile)
        _check_size(image.n_frames, image.width, image.height)
        if isinstance(image, WebPImageFile):
            durations_ms = list(_webp_durations_ms(content))
        else:
            durations_ms = list(_durations_ms(image))
        shown_ms = (duration_ms if duration_ms > 10.0 else UNTOLD_DURATION_MS for duration_ms in durations_ms)
        ends_ms = list(accumulate(shown_ms))
        for time_ms in _middles(0.0, ends_ms[-1], count):
            image.seek(bisect_right(ends_ms, time_ms))
            yield np.asarray(on_white(image))


def _durations_ms(image: GifImageFile | PngImageFile) -> Iterator[float]:
    for frame in ImageSequence.Iterator(image):
        _check_size(image.n_frames, frame.width, frame.height)  # a frame of a GIF may go beyond those before
        frame.load()  # the last, too, so that it shows where the file is cut off
        yield float(frame.info.get("duration", 0.0))


def _webp_durations_ms(content: bytes) -> Iterator[float]:
    """How long each frame is shown, from the headers of the frames: the decoder tells it of frames that it decoded."""
    at = 12
    while at + 8 <= len(content):
        if content[at : at + 4] == b"ANMF":
            yield float(int.from_bytes(content[at + 20 : at + 23], "little"))
        num_bytes = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + num_bytes + num_bytes % 2


def _seen_of_film(content: bytes, count: int) -> Iterator[Pixels]:
    """First the packets with their times; then they are decoded up to the last frame that is picked. Times are in the
    stream's unit; in frames where it has none."""
    with _open_film(content) as film:
        stream = _video(film)
        packets = _packets(film, stream, 2 * len(content))
        times = [(packet.pts, packet.duration) for packet in packets if packet.size]
        _check_size(len(times), stream.codec_context.width, stream.codec_context.height)
        timed = sorted((pts, duration or 0) for pts, duration in times if pts is not None)
        told = len(timed) == len(times)
        begin, end = 0.0, float(len(times))
        if told:
            begin, (last, duration) = float(timed[0][0]), timed[-1]
            end = last + (duration or (last - begin) / (len(timed) - 1))
        frames = enumerate(_decoded(packets))
        shown = ((frame.pts if told and frame.pts is not None else index, frame) for index, frame in frames)
        yield from map(_pixels, _seen_at(_middles(begin, end, count), shown))


def _open_film(content: bytes) -> InputContainer:
    try:
        return av.open(io.BytesIO(content), mode="r", options={"format_whitelist": FILM_FORMATS})
    except av.FFmpegError as error:
        if content.startswith(STILL_PICTURES):
            raise MediaError("a picture that does not move", "no_frames") from error
        raise


def _video(film: InputContainer) -> VideoStream:
    """The first pictures of a film, to be decoded by this thread alone."""
    if not film.streams.video:
        raise MediaError("there are no pictures in it", "no_frames")
    stream = film.streams.video[0]
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # frames may grow on the way
    return stream


def _packets(film: InputContainer, stream: VideoStream, max_bytes: int) -> "list[Packet[VideoStream]]":
    """All packets of pictures; the last is empty and gets out what the decoder holds back."""
    packets: list[Packet[VideoStream]] = []
    num_bytes, end_s = 0, 0.0
    for packet in film.demux():  # of the sound, too, which may last longer
        if packet.is_corrupt:
            raise MediaError(f"it is cut off or damaged at packet {len(packets)}")
        if packet.pts is not None:
            end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index != stream.index:
            continue
        packets.append(cast("Packet[VideoStream]", packet))
        num_bytes += packet.size
        if len(packets) > MAX_FRAMES or num_bytes > max_bytes:  # of a file that names its bytes again and again
            raise MediaError(f"at most {MAX_FRAMES} frames are read, and {max_bytes} bytes of them", "too_large")
    told_s = (film.duration or 0) / av.time_base
    num_frames = max(len(packets) - 1, 1)
    if end_s < (MIN_SHARE - 1 / num_frames) * told_s:  # how long the last frame is shown is not always told
        raise MediaError(f"it is cut off or damaged: {end_s:.2f} s of {told_s:.2f} s")
    return packets


def _decoded(packets: "Iterable[Packet[VideoStream]]") -> Iterator[VideoFrame]:
    """The frames, one after the other. A damaged one is in those after it, too, whether it is picked or not."""
    for packet in packets:
        for frame in packet.decode():
            if frame.is_corrupt:
                raise MediaError(f"the frame at {frame.time} s is damaged")
            yield frame


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
        raise MediaError("no frame could be decoded")
    for _ in times[taken:]:
        yield seen


def _pixels(frame: VideoFrame) -> Pixels:
    """A frame of a film, upright, on white."""
    transparent = any(component.is_alpha for component in frame.format.components)
    pixels_HWC = np.asarray(frame.to_ndarray(format="rgba" if transparent else "rgb24"), dtype=np.uint8)
    if not transparent and not frame.rotation:
        return pixels_HWC
    return np.asarray(on_white(Image.fromarray(pixels_HWC).rotate(frame.rotation, expand=True)))
