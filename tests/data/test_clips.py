"""Clips from bytes: frames come evenly from a clip's time, whatever file it is in; nothing that is broken gets past."""

import io
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.nasty_files import damaged, mutations, nasty_clips, nasty_reader

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
    "flv": "flv",
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


@pytest.mark.parametrize("container", list(FILMS))
def test_films_of_every_length_are_whole(container: str) -> None:
    for count in (6, 7, 11) if container == "mpegts" else (2, 3, 7, 11):  # FFmpeg makes nothing of shorter ones
        assert read(film(steps()[:count], container)).shape == (5, 16, 16, 3)


def test_sound_may_last_longer_than_the_pictures() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream, sound = output.add_stream("libx264", rate=10), output.add_stream("pcm_s16le", rate=8000)
        stream.width = stream.height = 32
        sound.layout = "mono"
        for frame in steps():
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame))))
        output.mux(stream.encode())
        for _ in range(5):
            second = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
            second.sample_rate = 8000
            output.mux(sound.encode(second))
        output.mux(sound.encode())
    assert shades(read(buffer.getvalue())) == list(SHADES)


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


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "GIF", "JPEG", "BMP", "TIFF", "AVIF"])
def test_a_still_picture_is_no_clip(kind: str) -> None:
    buffer = io.BytesIO()
    plain(9).save(buffer, kind)
    with pytest.raises(DataError, match=r"films\[7\]: 'a' is not a readable clip") as caught:
        read(buffer.getvalue())
    assert caught.value.kind == "no_frames"


@pytest.mark.parametrize("limit", ["MAX_CLIP_PIXELS", "MAX_FRAMES"])
def test_what_is_too_large_is_not_decoded(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(f"xoron_core.data.clips.{limit}", 32 * 32 * 10 if limit == "MAX_CLIP_PIXELS" else 10)
    for content in (film(steps()), animation([plain(shade) for shade in range(11)])):
        with pytest.raises(DataError, match="at most") as caught:
            read(content)
        assert caught.value.kind == "too_large"


def test_packets_beyond_what_is_read_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xoron_core.data.clips.MAX_FRAMES", 10)
    with pytest.raises(DataError, match=r"at most 10 frames are read, and .* bytes of them"):
        read(film(steps()))


def test_frames_that_grow_beyond_what_is_read_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = film(steps()[:8], "mjpeg") + film([plain(99, (128, 128))] * 8, "mjpeg")
    assert read(content).shape == (5, 16, 16, 3)
    monkeypatch.setattr("xoron_core.data.clips.MAX_PIXELS", 64 * 64)
    with pytest.raises(DataError, match="not a readable clip"):
        read(content)


def test_an_animation_of_fewer_frames_than_it_tells_is_refused() -> None:
    content = animation([plain(shade) for shade in SHADES], "PNG")
    actl = content.index(b"acTL")
    body = b"acTL" + struct.pack(">II", len(SHADES) + 2, 0)
    with pytest.raises(DataError, match="not a readable clip"):
        read(content[:actl] + body + struct.pack(">I", zlib.crc32(body)) + content[actl + 16 :])


def test_a_gif_whose_frames_grow_beyond_what_is_read_is_refused() -> None:
    content = animation([plain(shade) for shade in SHADES], "GIF")
    huge = b"," + bytes(4) + struct.pack("<HH", 12_000, 12_000) + b"\0\2\2D\1\0;"
    with pytest.raises(DataError, match=r"6 frame.* of 12000 × 12000 pixels") as caught:
        read(content[:-1] + huge, 12)
    assert caught.value.kind == "too_large"


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(film(steps()))
    for content in (f"ffconcat version 1.0\nfile {other}\n", f"#EXTM3U\n#EXTINF:2,\nfile://{other}\n#EXT-X-ENDLIST\n"):
        with pytest.raises(DataError, match="not a readable clip"):
            read(content.encode())


@pytest.mark.parametrize("content", [b"\0", b"not a clip", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_clip_is_a_data_error(content: bytes) -> None:
    with pytest.raises(DataError, match=r"films\[7\]: 'a' is not a readable clip") as caught:
        read(content)
    assert caught.value.kind == "unreadable"


def noise(count: int) -> list[Image.Image]:
    return [Image.fromarray(np.random.default_rng(at).integers(0, 256, (32, 32, 3), np.uint8)) for at in range(count)]


@pytest.mark.parametrize("kind", [*ANIMATED, "mp4", "mov", "webm", "matroska", "avi"])
def test_files_that_are_cut_off_are_data_errors(kind: str) -> None:
    content = animation(noise(8), kind) if kind in ANIMATED else film(noise(8), kind)
    assert read(content).shape == (5, 16, 16, 3)
    for end in np.linspace(100, len(content) - 60, 30).astype(int):
        with pytest.raises(DataError, match="not a readable clip") as caught:
            read(content[:end], 1)
        if kind != "GIF":  # of which what is left may be one whole frame
            assert caught.value.kind == "unreadable"


def test_a_film_whose_last_packet_is_cut_off_is_refused_whatever_is_picked() -> None:
    content = film(noise(20), "flv")
    assert read(content, 1).shape == (1, 16, 16, 3)
    with pytest.raises(DataError, match="it is cut off or damaged at packet 19"):
        read(content[:-100], 1)


@pytest.mark.parametrize("container", ["mp4", "matroska", "webm", "mov"])
def test_a_film_that_is_damaged_before_the_frame_that_is_picked_is_refused(container: str) -> None:
    content = damaged(film(noise(20), container), np.random.default_rng(0))
    with pytest.raises(DataError, match="not a readable clip"):
        read(content, 1)


def test_a_film_whose_decoder_covers_up_damage_is_refused() -> None:
    pattern = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    frames = [Image.fromarray(np.ascontiguousarray(pattern[:, at : at + 64])) for at in range(40)]
    content = film(frames, "avi")
    with av.open(io.BytesIO(content)) as file:
        middles = [packet.pos + packet.size // 2 for packet in file.demux(video=0) if packet.size]
    for middle in middles[1:3]:
        changed = bytearray(content)
        changed[middle : middle + 8] = bytes(byte ^ 0x55 for byte in content[middle : middle + 8])
        with pytest.raises(DataError, match=r"the frame at .* s is damaged"):
            read(bytes(changed), 1)


def test_every_nasty_file_is_what_it_is(tmp_path: Path) -> None:
    rows = nasty_clips(tmp_path)
    assert sum(row.kind is None for row in rows) >= 8
    for index, row in enumerate(rows):
        record = Record("nasty", index, row.fields, nasty_reader("nasty", index, tmp_path))
        try:
            assert read_clip(record, "video", 16, 5).shape == (5, 16, 16, 3)
            kind = None
        except DataError as error:
            kind = error.kind
        assert kind == row.kind, row.what


def test_bytes_of_a_row_are_read_and_named() -> None:
    content = film(steps())
    for value in (content, {"bytes": content, "path": "b.mp4"}):
        record = Record("films", 7, {"video": value}, nasty_reader("films", 7, Path()))
        assert shades(read_clip(record, "video", 16, 5)) == list(SHADES)
    record = Record("films", 7, {"video": {"bytes": content[:500], "path": "b.mp4"}}, nasty_reader("films", 7, Path()))
    with pytest.raises(DataError, match=r"'b\.mp4' is not a readable clip"):
        read_clip(record, "video", 16, 5)


def test_broken_files_raise_nothing_but_data_errors() -> None:
    rng = np.random.default_rng(1)
    originals = [animation(steps()[::2], kind) for kind in ANIMATED] + [film(steps(), kind) for kind in FILMS]
    outcomes: list[object] = []
    for original in originals:
        for content in mutations(original, rng, 20):
            try:
                outcomes.append(read(content).shape)
            except DataError as error:
                outcomes.append(error.kind)
    assert outcomes.count((5, 16, 16, 3)) > 50
    assert outcomes.count("unreadable") > 150
    assert set(outcomes) <= {(5, 16, 16, 3), "unreadable", "no_frames", "too_large", "empty"}


def test_sound_alone_is_no_clip() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
    with pytest.raises(DataError, match="no pictures in it"):
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
