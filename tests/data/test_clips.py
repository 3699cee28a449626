"""Clips from bytes: frames come evenly from a clip's time, whatever file it is in; nothing that is broken gets past."""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from xoron_core.contract.errors import DataError
from xoron_core.data.clips import read_clip
from xoron_core.data.records import Record
from xoron_core.modalities.clip_files import clip_artifact

SHADES = (0, 60, 120, 180, 240)
ANIMATED = {"WEBP": {"lossless": True}, "GIF": {}, "PNG": {}}
FILMS = {
    "mp4": "libx264",
    "mov": "mpeg4",
    "webm": "libvpx-vp9",
    "matroska": "libx264",
    "avi": "mpeg4",
    "mpegts": "mpeg2video",
    "h264": "libx264",  # no container: no times, no durations
    "mjpeg": "mjpeg",
}


def read(content: bytes, num_frames: int = 5, size: int = 16) -> npt.NDArray[np.uint8]:
    return read_clip(Record("films", 7, {"video": "a"}, lambda _: content), "video", size, num_frames)


def shades(clip: npt.NDArray[np.uint8]) -> list[int]:
    """The shade in the middle of each frame, to the nearest ten."""
    return [round(int(frame[8, 8, 0]) / 10) * 10 for frame in clip]


def plain(shade: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    return Image.new("RGB", size, (shade,) * 3)


def animation(frames: Sequence[Image.Image], kind: str = "WEBP", duration: object = 100) -> bytes:
    buffer = io.BytesIO()
    frames[0].save(
        buffer, kind, save_all=True, append_images=list(frames[1:]), duration=duration, loop=0, **ANIMATED[kind]
    )
    return buffer.getvalue()


def film(frames: Sequence[Image.Image], container: str = "mp4", pix_fmt: str = "yuv420p", codec: str = "") -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec or FILMS[container], rate=10)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuvj420p" if container == "mjpeg" else pix_fmt
        for frame in frames:
            kind = "rgba" if frame.mode == "RGBA" else "rgb24"
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame), format=kind)))
        output.mux(stream.encode())
    return buffer.getvalue()


def steps() -> list[Image.Image]:
    """Four frames of each of five shades."""
    return [plain(shade) for shade in SHADES for _ in range(4)]


@pytest.mark.parametrize("kind", list(ANIMATED))
def test_frames_of_an_animation_come_one_by_one(kind: str) -> None:
    clip = read(animation([plain(shade) for shade in SHADES], kind))
    assert (clip.shape, clip.dtype) == ((5, 16, 16, 3), np.uint8)
    assert shades(clip) == list(SHADES)


@pytest.mark.parametrize("container", list(FILMS))
def test_frames_of_a_film_come_evenly(container: str) -> None:
    content = film(steps(), container)
    assert shades(read(content)) == list(SHADES)
    assert shades(read(content, 3)) == [0, 120, 240]


@pytest.mark.parametrize("kind", list(ANIMATED))
def test_time_counts_and_not_the_number_of_frames(kind: str) -> None:
    content = animation([plain(shade) for shade in SHADES[:3]], kind, duration=[600, 100, 100])
    assert shades(read(content, 8)) == [0] * 6 + [60, 120]
    untold = animation([plain(shade) for shade in SHADES[:3]], kind, duration=[0, 800, 100])
    assert shades(read(untold, 10)) == [0] + [60] * 8 + [120]


def test_a_short_clip_shows_its_frames_more_than_once() -> None:
    assert shades(read(animation([plain(0), plain(240)]), 6)) == [0, 0, 0, 240, 240, 240]
    assert shades(read(film([plain(0), plain(240)]), 4)) == [0, 0, 240, 240]


def test_a_film_of_uneven_times_and_a_late_beginning_is_read_by_time() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        for shade, pts in ((0, 50), (120, 90), (240, 100)):
            frame = av.VideoFrame.from_image(plain(shade))
            frame.pts, frame.time_base = pts, Fraction(1, 10)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    assert shades(read(buffer.getvalue(), 6)) == [0, 0, 0, 0, 0, 120]


def test_what_is_transparent_is_white() -> None:
    clear = [Image.new("RGBA", (32, 32), (0, shade, 0, 0)) for shade in (0, 90)]
    assert (read(animation(clear), 2) == 255).all()
    assert (read(film(clear, "mov", "argb", "qtrle"), 2) == 255).all()


@pytest.mark.parametrize("size", [(96, 32), (32, 96)])
def test_frames_that_are_not_square_keep_their_middle(size: tuple[int, int]) -> None:
    frames = []
    for shade in (100, 200):
        frame = plain(0, size)
        frame.paste((shade,) * 3, ((size[0] - 32) // 2, (size[1] - 32) // 2, (size[0] + 32) // 2, (size[1] + 32) // 2))
        frames.append(frame)
    clip = read(animation(frames), 2, 32)
    assert [int(frame.min()) for frame in clip] == [100, 200] == [int(frame.max()) for frame in clip]


def test_a_film_that_was_taken_upright_is_upright() -> None:
    frame = plain(0)
    frame.paste((250, 250, 250), (0, 0, 32, 16))  # the upper half is bright
    content = film([frame] * 4)
    header = content.index(b"tkhd")
    unturned = b"".join(value.to_bytes(4, "big") for value in (1 << 16, 0, 0, 0, 1 << 16, 0))
    quarter = b"".join(value.to_bytes(4, "big", signed=True) for value in (0, 1 << 16, 0, -(1 << 16), 0, 0))
    at = content.index(unturned, header)
    turned = read(content[:at] + quarter + content[at + len(quarter) :])
    assert read(content)[0, 2, 8, 0] > 200 > 50 > read(content)[0, 13, 8, 0]
    assert turned[0, 8, 13, 0] > 200 > 50 > turned[0, 8, 2, 0], "a quarter clockwise: bright on the right"


def test_a_still_picture_is_no_clip() -> None:
    for kind, reason in (("WEBP", "1 frame"), ("PNG", "1 frame"), ("GIF", "1 frame"), ("JPEG", "")):
        buffer = io.BytesIO()
        plain(9).save(buffer, kind)
        with pytest.raises(DataError, match=rf"films\[7\]: not a readable clip: {reason}"):
            read(buffer.getvalue())


def test_what_is_too_large_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xoron_core.data.clips.MAX_CLIP_PIXELS", 32 * 32 * 10)
    for content in (film(steps()), animation([plain(shade) for shade in range(11)])):
        with pytest.raises(DataError, match="of 32 × 32 pixels: at most"):
            read(content)


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(film(steps()))
    for content in (f"ffconcat version 1.0\nfile {other}\n", f"#EXTM3U\n#EXTINF:2,\nfile://{other}\n#EXT-X-ENDLIST\n"):
        with pytest.raises(DataError, match="not a readable clip"):
            read(content.encode())


@pytest.mark.parametrize("content", [b"", b"\0", b"not a clip", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_clip_is_a_data_error(content: bytes) -> None:
    with pytest.raises(DataError, match=r"films\[7\]: not a readable clip"):
        read(content)


def test_files_that_are_cut_off_are_data_errors() -> None:
    noise = [Image.fromarray(np.random.default_rng(at).integers(0, 256, (32, 32, 3), np.uint8)) for at in range(5)]
    for content in (animation(noise), animation(noise, "GIF"), animation(noise, "PNG"), film(noise, "mp4")):
        with pytest.raises(DataError, match="not a readable clip"):
            read(content[: len(content) // 2])


def test_broken_files_raise_nothing_but_data_errors() -> None:
    rng = np.random.default_rng(1)
    originals = [animation(steps()[::2], kind) for kind in ANIMATED] + [film(steps(), kind) for kind in FILMS]
    refused = 0
    for _ in range(10):
        for original in originals:
            content = bytearray(original)
            for _ in range(6):
                content[rng.integers(len(content))] = rng.integers(256)
            try:
                assert read(bytes(content)).shape == (5, 16, 16, 3)
            except DataError:
                refused += 1
    assert refused > 20


def test_sound_alone_is_no_clip() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
    with pytest.raises(DataError, match="only sound"):
        read(buffer.getvalue())


def test_a_clip_that_is_shown_can_be_read_again() -> None:
    rng = np.random.default_rng(0)
    frames = np.repeat(np.repeat(rng.integers(0, 256, (8, 4, 4, 3), np.uint8), 16, axis=1), 16, axis=2)
    artifact = clip_artifact(frames, "a cat runs")
    assert (artifact.mime, artifact.suffix, artifact.caption) == ("image/webp", "webp", "a cat runs")
    again = read(artifact.content, 8, 64)
    assert np.abs(again.astype(int) - frames).mean() < 12
    with Image.open(io.BytesIO(artifact.content)) as image:
        assert image.info["loop"] == 0
        image.load()
        assert image.info["duration"] == 125
