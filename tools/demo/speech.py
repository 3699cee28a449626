"""Recorded sentences with their transcripts: trimmed, equally loud, 16 kHz mono, Opus in an Ogg container."""

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tools.demo.packages import PACKAGES, fetch, members

SAMPLE_RATE = 16_000
FRAME = SAMPLE_RATE // 100  # levels are taken every 10 ms
BIT_RATE = 13_000
LOUDNESS_DB, PEAK = -20.0, 0.9
SPEECH_RANGE_DB, ABOVE_NOISE_DB = 35.0, 10.0
MARGIN_S, FADE_S = 0.05, 0.01
MIN_S, MAX_S = 0.8, 3.2
MIN_CHARACTERS_PER_S, MAX_CHARACTERS_PER_S = 7.0, 22.0
SAME_SENTENCE = 0.6
HELDOUT_PERCENT, MAX_HELDOUT_GROUP = 14, 4
ASTERISK = "usr/share/asterisk/sounds/en_US_f_Allison/"
POCKETSPHINX = "usr/share/pocketsphinx/test/data/"

Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class Recording:
    """A line of recordings.txt: the whole file, or what lies between two times in seconds."""

    file: str
    start_s: float
    end_s: float | None
    text: str


@dataclass(frozen=True)
class Utterance:
    """A finished recording: `name` becomes the file's name."""

    name: str
    text: str
    speaker: str
    opus: bytes
    heldout: bool


def read_recordings(path: Path) -> list[Recording]:
    """The recordings in the file's order."""
    recordings = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        where, _, text = line.partition(" | ")
        file, _, times = where.partition(" @ ")
        start, _, end = times.partition("-")
        recordings.append(Recording(file, float(start or 0), float(end) if end else None, text))
    return recordings


def same_sentence(one: str, other: str) -> bool:
    """Whether two transcripts share most of their words: such a pair never stands in different splits."""
    a, b = (set(re.findall(r"[\w']+", text.lower())) for text in (one, other))
    return len(a & b) >= SAME_SENTENCE * len(a | b)


def heldout_texts(texts: list[str]) -> set[str]:
    """The transcripts of the held-out split: small groups of near copies, chosen by hash."""
    groups: list[list[str]] = []
    for text in texts:
        near = [group for group in groups if any(same_sentence(text, other) for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([text, *(other for group in near for other in group)])
    chosen: set[str] = set()
    for group in groups:
        share = int.from_bytes(hashlib.sha256(min(group).encode()).digest()[:4], "big") % 100
        if len(group) <= MAX_HELDOUT_GROUP and share < HELDOUT_PERCENT:
            chosen.update(group)
    return chosen


def _decode(name: str, data: bytes) -> Waveform:
    """One channel at 16 kHz, -1 to 1."""
    if name.endswith(".raw"):
        return np.frombuffer(data, "<i2").astype(np.float32) / 2**15
    with av.open(io.BytesIO(data), format="wav" if name.endswith(".wav") else "g722") as container:
        blocks = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].codec_context.sample_rate
    if rate != SAMPLE_RATE:
        raise ValueError(f"{name}: {rate} Hz, wanted {SAMPLE_RATE}")
    return np.concatenate(blocks).astype(np.float32) / 2**15


def _trim_and_level(wave: Waveform) -> Waveform:
    """Cut silence off both ends, keep a short faded margin, bring the spoken frames to one loudness."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.mean(frames**2, axis=1)
    level_db = 10 * np.log10(power + 1e-10)
    threshold = max(np.percentile(level_db, 95) - SPEECH_RANGE_DB, level_db.min() + ABOVE_NOISE_DB)
    spoken = np.flatnonzero(level_db > threshold)
    margin, fade = round(MARGIN_S * SAMPLE_RATE), round(FADE_S * SAMPLE_RATE)
    kept = wave[max(0, spoken[0] * FRAME - margin) : (spoken[-1] + 1) * FRAME + margin].copy()
    gain = min(10 ** (LOUDNESS_DB / 20) / np.sqrt(power[spoken].mean()), PEAK / np.abs(kept).max())
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    kept[:fade] *= ramp
    kept[-fade:] *= ramp[::-1]
    return (kept * gain).astype(np.float32)


def _check(recording: Recording, wave: Waveform) -> None:
    """Refuse what is too short or too long, or too fast or too slow for its text: it says something else.

    Raises:
        ValueError: naming the recording and its figures.
    """
    duration_s = len(wave) / SAMPLE_RATE
    rate = len(recording.text) / duration_s
    if not (MIN_S <= duration_s <= MAX_S and MIN_CHARACTERS_PER_S <= rate <= MAX_CHARACTERS_PER_S):
        raise ValueError(f"{recording}: {duration_s:.2f} s, {rate:.1f} characters a second; take it off the list")


def _encode(wave: Waveform) -> bytes:
    """Opus without time stamps or random numbers, so that the same sound gives the same bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        options = {"application": "voip", "vbr": "on", "frame_duration": "60", "compression_level": "10"}
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, options=options)
        stream.codec_context.layout = "mono"
        stream.codec_context.format = "flt"
        stream.codec_context.bit_rate = BIT_RATE
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        frame = av.AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _files(cache: Path) -> dict[str, bytes]:
    """All recordings of both packages by the names that recordings.txt uses."""
    files = {}
    for name, data in members(fetch(PACKAGES["asterisk"], cache), (ASTERISK,)):
        files[name.removeprefix(ASTERISK).removesuffix(".g722")] = data
    for name, data in members(fetch(PACKAGES["pocketsphinx"], cache), (POCKETSPHINX,)):
        files[name.removeprefix(POCKETSPHINX)] = data
    return files


def utterances(cache: Path, recordings: list[Recording]) -> Iterator[Utterance]:
    """Every listed recording, in the list's order.

    Raises:
        KeyError: a recording that the packages lack.
        ValueError: a length that does not fit the text.
    """
    files = _files(cache)
    heldout = heldout_texts([recording.text for recording in recordings])
    seen: dict[str, int] = {}
    for recording in recordings:
        wave = _decode(recording.file, files[recording.file])
        end = None if recording.end_s is None else round(recording.end_s * SAMPLE_RATE)
        wave = _trim_and_level(wave[round(recording.start_s * SAMPLE_RATE) : end])
        _check(recording, wave)
        seen[recording.file] = seen.get(recording.file, 0) + 1
        path = Path(recording.file.lower().replace("_", "-"))
        folder = "" if path.parent == Path() else f"{path.parent.as_posix()}-"
        name = folder + path.with_suffix("").name + (f"-{seen[recording.file]}" if recording.end_s is not None else "")
        speaker = "allison" if not path.suffix else path.parts[0].removesuffix(path.suffix)
        yield Utterance(name, recording.text, speaker, _encode(wave), recording.text in heldout)
