"""Sound from bytes: every common kind comes out as it sounds; nothing that is broken gets past."""

import io
import struct

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from xoron_core.contract.errors import DataError
from xoron_core.data.audio import read_audio
from xoron_core.data.records import Record

RATE = 16_000
Samples = npt.NDArray[np.float32]


def read(content: bytes, max_s: float = 5.0, **fields: object) -> Samples:
    record = Record("tapes", 3, {"audio": "a.wav"} | fields, lambda _: content)
    return read_audio(record, "audio", RATE, max_s)


def encoded(samples: Samples, rate: int = RATE, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def tone(seconds: float = 0.5, rate: int = RATE, hertz: float = 440.0) -> Samples:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def loudest_hertz(samples: Samples) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax()) * RATE / len(samples)


def test_a_sound_of_the_right_rate_is_left_alone() -> None:
    samples = tone()
    assert np.array_equal(read(encoded(samples, subtype="FLOAT")), samples)
    assert read(encoded(samples)).dtype == np.float32


@pytest.mark.parametrize(("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "OPUS"), ("OGG", "VORBIS"), ("MP3", None)])
def test_packed_sound_sounds_the_same(kind: str, subtype: str) -> None:
    samples = read(encoded(tone(), kind=kind, subtype=subtype))
    assert len(samples) == pytest.approx(RATE / 2, abs=2000)
    assert loudest_hertz(samples) == pytest.approx(440, abs=4)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("rate", [8_000, 11_025, 11_127, 22_050, 44_100, 48_000, 96_001])
def test_another_rate_is_resampled_and_keeps_length_and_pitch(rate: int) -> None:
    samples = read(encoded(tone(rate=rate), rate))
    assert abs(len(samples) - RATE / 2) <= 1
    assert loudest_hertz(samples) == pytest.approx(440, abs=3)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / 2**0.5, rel=0.01)


def test_channels_are_averaged() -> None:
    left, right = tone(), tone(hertz=700.0)
    mixed = read(encoded(np.stack((left, right), axis=1), subtype="FLOAT"))
    np.testing.assert_allclose(mixed, (left + right) / 2, atol=1e-7)


def test_no_number_is_refused() -> None:
    samples = tone()
    samples[7] = np.nan
    with pytest.raises(DataError, match=r"tapes\[3\].*no numbers"):
        read(encoded(samples, subtype="FLOAT"))


def test_silence_is_refused() -> None:
    loud = tone()
    for silent in (0 * loud, 1e-4 * loud, np.stack((loud, -loud), axis=1)):
        with pytest.raises(DataError, match=r"tapes\[3\].*is silent.*remove the row"):
            read(encoded(silent, subtype="FLOAT"))
    assert np.abs(read(encoded(1e-3 * loud, subtype="FLOAT"))).max() > 0


def _with_rate(rate: int) -> bytes:
    content = bytearray(encoded(tone()))
    content[24:28] = struct.pack("<I", rate)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a readable sound"),
        (b"RIFF this is no sound", "not a readable sound"),
        (encoded(tone())[:30], "not a readable sound"),
        (encoded(tone(0.0)), "no samples; remove the row"),
        (encoded(tone(6.0)), "6.00 s long, at most 5 s are read; cut it, or raise max_audio_s"),
        (_with_rate(1), "1 samples a second; 4000 to 384000"),
        (_with_rate(2**30), "samples a second; 4000 to 384000"),
    ],
)
def test_what_is_broken_is_a_data_error_of_the_row(content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as raised:
        read(content)
    assert (raised.value.source, raised.value.index) == ("tapes", 3)


def test_a_row_without_a_sound_is_a_data_error() -> None:
    with pytest.raises(DataError, match="'audio' must be a text"):
        read(b"", audio=None)
