"""Rows whose files are broken in every way that files are, and good ones between them; each with what it must count as.

All are made from a seed. What only unpacks to much is small, and is written here byte by byte.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile
from av.video.stream import VideoStream
from PIL import Image

from xoron_core.contract.errors import BadKind, DataError

RATE = 16_000
SIDE = 32
PICTURE_TEXTS = {"caption": "a grey pattern", "question": "What is this?", "answer": "a pattern"}
CLIP_TEXTS = {"caption": "a pattern that moves", "question": "What happens?", "answer": "it moves"}
SOUND_TEXTS = {"text": "Hello."}

Samples = npt.NDArray[np.float32]
Frames = Sequence[Image.Image]


@dataclass(frozen=True)
class NastyRow:
    """Fields of a row, the kind of error that it is (None: it is good), and what is wrong with it."""

    fields: dict[str, Any]
    kind: BadKind | None
    what: str


class _Rows:
    """Rows of one kind of media, and the folder that their files go to."""

    def __init__(self, folder: Path, key: str, texts: Mapping[str, str], seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = key
        self._texts = texts
        self._rng = np.random.default_rng([seed, 1])
        self._rows: list[NastyRow] = []

    def add(self, what: str, kind: BadKind | None, content: bytes, **texts: Any) -> None:
        """A row that names a file."""
        name = f"{self._key}-{len(self._rows):03d}-{what.replace(' ', '-')}"
        (self._folder / name).write_bytes(content)
        self.add_value(what, kind, name, **texts)

    def add_value(self, what: str, kind: BadKind | None, value: object, **texts: Any) -> None:
        """A row whose field holds something else."""
        self._rows.append(NastyRow({self._key: value, **self._texts, **texts}, kind, what))

    def add_cut(self, what: str, content: bytes) -> None:
        """A good row, and one whose file ends in the middle of the last third."""
        self.add(f"good {what}", None, content)
        self.add(f"cut off {what}", "unreadable", content[: len(content) * 5 // 6])

    def add_common(self) -> None:
        """What is wrong with files of any kind."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("a.txt", "in a zip")
        self.add("empty file", "empty", b"")
        self.add("text", "unreadable", b"The file that you ask for is gone.\n" * 20)
        self.add("page", "unreadable", b"<!DOCTYPE html><html><body>404</body></html>")
        self.add("zip", "unreadable", archive.getvalue())
        self.add("random bytes", "unreadable", b"\1\2" + self._rng.bytes(3000))
        self.add("zeros", "unreadable", bytes(3000))
        self.add_value("missing file", "missing_file", "not-here.bin")
        for value in (None, 3, "", {"name": "a.png"}, {"path": None}):
            self.add_value(f"field {value!r}", "wrong_type" if value else "empty", value)

    def shuffled(self) -> list[NastyRow]:
        """All of them, in an order that the seed decides."""
        return [self._rows[at] for at in self._rng.permutation(len(self._rows))]


def nasty_pictures(folder: Path, seed: int = 0) -> list[NastyRow]:
    """Rows with `image`, `caption`, `question` and `answer`; the files lie in `folder`."""
    rng = np.random.default_rng(seed)
    rows = _Rows(folder, "image", PICTURE_TEXTS, seed)
    rows.add_common()
    noise = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM"):
        rows.add_cut(kind.lower(), picture(noise, kind))
    for mode in ("L", "LA", "RGBA", "P", "1"):
        rows.add(f"good {mode} png", None, picture(noise.convert(mode), "PNG"))
    rows.add("good CMYK jpeg", None, picture(noise.convert("CMYK"), "JPEG"))
    rows.add("good photograph", None, picture(noise.resize((1024, 683)), "JPEG"))
    rows.add("png damaged in the middle", "unreadable", damaged(picture(noise, "PNG"), rng))
    rows.add("sound", "unreadable", sound(tone(0.5)))
    for what, content in picture_bombs().items():
        rows.add(what, "too_large", content)
    return rows.shuffled()


def nasty_sounds(folder: Path, seed: int = 0, max_s: float = 30.0) -> list[NastyRow]:
    """Rows with `audio` and `text`, which say little that is long; of those too long all are longer than `max_s`."""
    rng = np.random.default_rng(seed)
    rows = _Rows(folder, "audio", SOUND_TEXTS, seed)
    rows.add_common()
    clean = tone(1.0) + rng.normal(0, 0.05, RATE).astype(np.float32)
    for kind, subtype in SOUNDS:
        rows.add_cut(kind.lower() + (subtype or "").lower(), sound(clean, kind, subtype))
    rows.add("good stereo", None, sound(np.stack((clean, tone(1.0)), axis=1), "FLAC"))
    rows.add("good wav of 44.1 kHz", None, sound(tone(1.0, 44_100), rate=44_100))
    for kind, subtype in (("FLAC", None), ("OGG", "OPUS")):
        rows.add(f"{kind.lower()} damaged in the middle", "unreadable", damaged(sound(clean, kind, subtype), rng))
    for what, number in (("nan", np.nan), ("inf", np.inf), ("number beyond sound", 1e30)):
        odd = clean.copy()
        odd[RATE // 2] = number
        rows.add(what, "not_finite", sound(odd, subtype="FLOAT"))
    rows.add("digital silence", "silent", sound(0 * clean))
    rows.add("silent flac", "silent", sound(0 * clean, "FLAC"))
    rows.add("channels that cancel out", "silent", sound(np.stack((clean, -clean), axis=1), subtype="FLOAT"))
    rows.add("no samples", "empty", sound(clean[:0]))
    rows.add("too long", "too_long", sound(tone(max_s + 1, 8_000), "FLAC", rate=8_000))
    rows.add("too long mp3", "too_long", sound(tone(max_s + 1), "MP3"))
    rows.add("flac that says it lasts days", "too_long", lasting_days(sound(clean, "FLAC")))
    rows.add("wav that says it has a gibibyte", "unreadable", patched(sound(clean), {4: "<I", 40: "<I"}, 2**30))
    rows.add("wav of one sample a second", "unreadable", patched(sound(clean), {24: "<I"}, 1))
    rows.add("picture", "unreadable", picture(Image.new("RGB", (SIDE, SIDE)), "PNG"))
    rows.add("transcript too long for its sound", "too_short", sound(tone(0.2)), text="much more than is said here")
    rows.add("no transcript", "empty", sound(clean), text="  ")
    rows.add("transcript of another type", "wrong_type", sound(clean), text=7)
    return rows.shuffled()


def nasty_clips(folder: Path, seed: int = 0) -> list[NastyRow]:
    """Rows with `video`, `caption`, `question` and `answer`."""
    rng = np.random.default_rng(seed)
    rows = _Rows(folder, "video", CLIP_TEXTS, seed)
    rows.add_common()
    noise = [Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)) for _ in range(12)]
    for kind in ("WEBP", "GIF", "PNG"):
        rows.add_cut(f"animated {kind.lower()}", animation(noise, kind))
        rows.add(f"still {kind.lower()}", "no_frames", picture(noise[0], kind))
    rows.add("still jpeg", "no_frames", picture(noise[0], "JPEG"))
    for container, codec in FILMS:
        rows.add_cut(container, film(noise, container, codec))
    rows.add("mp4 damaged in the middle", "unreadable", damaged(film(noise, "mp4", "libx264"), rng))
    rows.add("film of one frame", "no_frames", film(noise[:1], "mp4", "libx264"))
    rows.add("film of no frame", "no_frames", film([], "mp4", "libx264"))
    rows.add("film of sound", "no_frames", film_of_sound())
    rows.add("sound", "unreadable", sound(tone(0.5)))
    rows.add("playlist", "unreadable", b"#EXTM3U\n#EXTINF:2,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n")
    for what, content in clip_bombs(noise).items():
        rows.add(what, "too_large", content)
    return rows.shuffled()


def nasty_reader(source: str, index: int, folder: Path) -> Callable[[str], bytes]:
    """Reads the files that row `index` of a source names, as sources do."""

    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except FileNotFoundError as error:
            raise DataError(source, index, f"there is no file {name!r}", "missing_file") from error

    return read


SOUNDS = (("WAV", None), ("AIFF", None), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None))
FILMS = (("mp4", "libx264"), ("webm", "libvpx-vp9"), ("matroska", "libx264"), ("avi", "mpeg4"), ("mov", "mpeg4"))


def picture(image: Image.Image, kind: str, **options: object) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animation(frames: Frames, kind: str) -> bytes:
    """An animation, each of its frames shown for a tenth of a second."""
    return picture(frames[0], kind, save_all=True, append_images=list(frames[1:]), duration=100, loop=0)


def film(frames: Frames, container: str, codec: str) -> bytes:
    """A film of ten frames a second."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=10)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        output.start_encoding()
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame))))
        output.mux(stream.encode())
    return buffer.getvalue()


def film_of_sound() -> bytes:
    """A film with nothing to see."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return buffer.getvalue()


def tone(seconds: float, rate: int = RATE) -> Samples:
    """A tone of 440 Hz."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def sound(samples: Samples, kind: str = "WAV", subtype: str | None = None, rate: int = RATE) -> bytes:
    """Sound as a file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The same with something else in the middle."""
    fifth = len(content) // 5
    return content[: 2 * fifth] + rng.bytes(fifth) + content[3 * fifth :]


def patched(content: bytes, places: Mapping[int, str], *values: int) -> bytes:
    """The same with other numbers at some places, written as `struct` calls it."""
    changed = bytearray(content)
    for at, form in places.items():
        struct.pack_into(form, changed, at, *values)
    return bytes(changed)


def lasting_days(flac: bytes) -> bytes:
    """A FLAC whose header tells the largest number of samples that there is room for: 36 bits."""
    return flac[:21] + bytes([flac[21] | 0x0F]) + b"\xff" * 4 + flac[26:]


def picture_bombs() -> dict[str, bytes]:
    """Small files that say that they are, or unpack to, more than anybody has memory for."""
    plain = Image.new("RGB", (8, 8))
    jpeg, bmp = picture(plain, "JPEG"), picture(plain, "BMP")
    packed = zlib.compress(bytes(2**25), 9)
    side = struct.pack("<HH", 65_535, 65_535)
    return {
        "png of 60000 pixels a side": png(60_000),
        "png just too large": png(8_200),
        "png with a text bomb": png(8, (b"zTXt", b"Comment\0\0" + packed)),
        "png with a late text bomb": png(8, None, (b"iTXt", b"Comment\0\1\0\0\0" + packed)),
        "png with a profile bomb": png(8, (b"iCCP", b"ICC\0\0" + packed)),
        "png with many texts": png(8, *[(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**6)))] * 80),
        "webp of 16383 pixels a side": webp_canvas(16_383, b""),
        "gif of 65535 pixels a side": b"GIF89a" + side + b"\0\0\0," + bytes(4) + side + b"\0\2\2D\1\0;",
        "gif with a frame of 65535 pixels": b"GIF89a"
        + bytes((8, 0, 8, 0, 0, 0, 0))
        + b","
        + bytes(4)
        + side
        + b"\0\2\0;",
        "jpeg of 65500 pixels a side": patched(jpeg, {jpeg.index(b"\xff\xc0") + 5: ">HH"}, 65_500, 65_500),
        "bmp of 60000 pixels a side": patched(bmp, {18: "<ii"}, 60_000, 60_000),
        "tiff of 60000 pixels a side": tiff(60_000, tile=None),
        "tiff with an enormous tile": tiff(8, tile=2**15),
    }


def clip_bombs(frames: Frames) -> dict[str, bytes]:
    """Small files that say that they are larger than a clip has any business to be."""
    webp, apng, avi = animation(frames, "WEBP"), animation(frames, "PNG"), film(frames, "avi", "rawvideo")
    canvas, actl, strf = webp.index(b"VP8X") + 12, apng.index(b"acTL"), avi.index(b"strf")
    frame_count = struct.pack(">II", 2**31 - 1, 0)
    told = apng[: actl + 4] + frame_count + struct.pack(">I", zlib.crc32(b"acTL" + frame_count)) + apng[actl + 16 :]
    side = struct.pack("<HH", 65_535, 65_535)
    return {
        "webp of 13000 pixels a side": webp[:canvas] + struct.pack("<I", 12_999)[:3] * 2 + webp[canvas + 6 :],
        "webp of 16383 pixels a side": webp[:canvas] + struct.pack("<I", 16_382)[:3] * 2 + webp[canvas + 6 :],
        "gif of 65535 pixels a side": b"GIF89a" + side + b"\0\0\0," + bytes(4) + side + b"\0\2\2D\1\0;",
        "png of a milliard of frames": told,
        "mp4 that names its bytes again and again": naming_bytes_again(film(frames, "mp4", "libx264"), 500),
        "avi of 9000 pixels a side": patched(avi, {strf + 12: "<II"}, 9_000, 9_000),
    }


def naming_bytes_again(mp4: bytes, count: int) -> bytes:
    """A film of `count` frames, each of which is all of the file (tables of ISO 14496-12)."""
    sizes, chunks, places = (mp4.index(name) for name in (b"stsz", b"stsc", b"stco"))
    times = mp4.index(b"stts")
    changed = bytearray(patched(mp4, {times + 8: ">III"}, 1, count, 1024))
    struct.pack_into(">III", changed, sizes + 4, 0, len(mp4) - 100, count)
    struct.pack_into(">III", changed, chunks + 8, 1, 1, 1)  # a frame a chunk
    struct.pack_into(">I", changed, places + 8, count)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stco"):  # what the table of places is in
        at = mp4.index(name) - 4
        struct.pack_into(">I", changed, at, struct.unpack_from(">I", mp4, at)[0] + 4 * (count - 1))
    end = places + 16
    return bytes(changed[:end] + changed[places + 12 : end] * (count - 1) + changed[end:])


def png(side: int, *extras: tuple[bytes, bytes] | None) -> bytes:
    """A PNG with chunks of its own before its pixels, or after them where there is a None before; it has few pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    pixels = chunk(b"IDAT", zlib.compress(bytes((1 + 3 * 8) * 8)))
    parts = [chunk(*extra) if extra else pixels for extra in extras]
    body = b"".join(parts if None in extras else [*parts, pixels])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def webp_canvas(side: int, frames: bytes) -> bytes:
    """The beginning of an animated webp."""
    extended = b"\2\0\0\0" + 2 * struct.pack("<I", side - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", len(extended)) + extended + frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(side: int, tile: int | None) -> bytes:
    """A grey TIFF, deflated, of one strip or one tile."""
    packed = zlib.compress(bytes(2**20), 9)
    where = {322: tile, 323: tile, 324: 8, 325: len(packed)} if tile else {273: 8, 278: side, 279: len(packed)}
    tags = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1, **where}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory


def mutations(content: bytes, rng: np.random.Generator, count: int) -> list[bytes]:
    """Files that are cut off after every so many bytes, `count` of them, and as many with bytes changed."""
    cuts = [content[:at] for at in np.linspace(0, len(content) - 1, count).astype(int)]
    return [*cuts, *(_flipped(content, rng) for _ in range(count))]


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    """The same with some bytes changed; most of them near the beginning, where headers are."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        reach = len(changed) if rng.random() < 0.5 else min(len(changed), 200)
        changed[rng.integers(reach)] = rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))])
    return bytes(changed)
