"""Sound from bytes: every common kind comes out as it sounds; nothing that is broken gets past."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from support.nasty_files import lasting_days, mutations, nasty_reader, nasty_sounds
from torchaudio.functional import resample

from xoron_core.contract.errors import DataError
from xoron_core.contract.presets import resolve
from xoron_core.data.audio import read_audio
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.asr.modality import Asr
from xoron_core.modalities.tts.modality import Tts

RATE = 16_000
Samples = npt.NDArray[np.float32]


def read(content: bytes, max_s: float = 5.0, **fields: object) -> Samples:
    record = Record("tapes", 3, {"audio": "a.wav"} | fields, lambda _: content)
    return read_audio(record, "audio", RATE, max_s)


def encoded(
    samples: Samples, rate: int = RATE, kind: str = "WAV", subtype: str | None = "PCM_16", **options: Any
) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype, **options)
    return buffer.getvalue()


def tone(seconds: float = 0.5, rate: int = RATE, hertz: float = 440.0) -> Samples:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def loudest_hertz(samples: Samples) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax()) * RATE / len(samples)


def test_a_sound_of_the_right_rate_is_left_alone() -> None:
    samples = tone()
    assert np.array_equal(read(encoded(samples, subtype="FLOAT")), samples)
    assert read(encoded(samples)).dtype == np.float32


PACKED = (("FLAC", "PCM_16"), ("OGG", "OPUS"), ("OGG", "VORBIS"), ("MP3", None))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("kind", "subtype"), PACKED)
def test_packed_sound_sounds_the_same(kind: str, subtype: str | None, channels: int) -> None:
    expected = tone()
    samples = read(encoded(np.stack([expected] * channels, axis=1), kind=kind, subtype=subtype))
    assert len(samples) == len(expected)
    assert loudest_hertz(samples) == pytest.approx(440, abs=4)
    within = slice(RATE // 10, -RATE // 10)
    np.testing.assert_allclose(samples[within], expected[within], atol=0.05)


def test_opus_of_eight_channels_is_read() -> None:
    """PyAV reads memory that is not its own there."""
    samples = read(encoded(np.stack([tone()] * 8, axis=1), kind="OGG", subtype="OPUS"))
    assert loudest_hertz(samples) == pytest.approx(440, abs=4)


def varying(samples: Samples) -> bytes:
    """An MP3 whose bit rate varies, and that does not say how long it is."""
    content = encoded(samples, kind="MP3", subtype=None, bitrate_mode="VARIABLE", compression_level=0.5)
    return content[content.index(content[:2], content.index(b"Xing")) :]


def test_an_mp3_that_does_not_tell_its_length_is_read_to_its_end() -> None:
    faint = 0.01 * tone(1.5)
    loud = np.random.default_rng(0).normal(0, 0.2, 24_000).astype(np.float32)
    samples = read(varying(np.concatenate((faint, loud))))
    assert 48_000 <= len(samples) < 51_000
    assert np.std(samples[24_000:44_000]) > 0.1


def test_what_stands_after_the_last_sound_of_an_mp3_is_no_matter() -> None:
    content = encoded(tone(), kind="MP3", subtype=None)
    for rest in (b"TAG" + bytes(125), b"LYRICSBEGIN" + b"la" * 99, b"APETAGEX" + bytes(200), bytes(3000)):
        samples = read(content + rest)
        assert len(samples) == pytest.approx(RATE / 2, abs=500)
        np.testing.assert_array_equal(samples[: RATE // 2 - 100], read(content)[:-100])


@pytest.mark.parametrize("rate", [8_000, 11_025, 11_127, 22_050, 44_100, 48_000, 96_001])
def test_another_rate_is_resampled_and_keeps_length_and_pitch(rate: int) -> None:
    samples = read(encoded(tone(rate=rate), rate))
    assert abs(len(samples) - RATE / 2) <= 1
    assert loudest_hertz(samples) == pytest.approx(440, abs=3)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / 2**0.5, rel=0.01)


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_resampling_is_that_of_torchaudio(rate: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, rate).astype(np.float32)
    expected = resample(torch.from_numpy(noise).double(), rate, RATE).numpy()
    for _ in range(2):
        np.testing.assert_allclose(read(encoded(noise, rate, subtype="FLOAT")), expected, atol=1e-5)


def test_channels_are_averaged() -> None:
    left, right = tone(), tone(hertz=700.0)
    mixed = read(encoded(np.stack((left, right), axis=1), subtype="FLOAT"))
    np.testing.assert_allclose(mixed, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e30])
def test_no_number_is_refused(number: float, rate: int) -> None:
    samples = np.stack([tone(rate=rate)] * 2, axis=1)
    samples[7] = number, -number
    samples[8, 0] = number
    with pytest.raises(DataError, match=r"tapes\[3\].*no numbers") as caught:
        read(encoded(samples, rate, subtype="FLOAT"))
    assert caught.value.kind == "not_finite"


def test_silence_is_refused() -> None:
    loud = tone()
    for silent in (0 * loud, 1e-4 * loud, np.stack((loud, -loud), axis=1)):
        with pytest.raises(DataError, match=r"tapes\[3\].*is silent.*remove the row") as caught:
            read(encoded(silent, subtype="FLOAT"))
        assert caught.value.kind == "silent"
    assert np.abs(read(encoded(1e-3 * loud, subtype="FLOAT"))).max() > 0


def patched(content: bytes, at: int, value: int) -> bytes:
    """The same with another number of four bytes."""
    changed = bytearray(content)
    struct.pack_into("<I", changed, at, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (b"RIFF this is no sound", "unreadable", "not a readable sound"),
        (encoded(tone())[:30], "unreadable", "it is cut off: 30 bytes of 16044"),
        (encoded(tone(0.0)), "empty", "no samples; remove the row"),
        (encoded(tone(6.0)), "too_long", "6.00 s long, at most 5 s are read; cut it, or raise max_audio_s"),
        (encoded(tone(6.0), kind="MP3", subtype=None), "too_long", "s long, at most 5 s are read"),
        (encoded(tone(6.0), kind="OGG", subtype="OPUS"), "too_long", "s long, at most 5 s are read"),
        (lasting_days(encoded(tone(), kind="FLAC")), "too_long", "4294967.30 s long"),
        (patched(encoded(tone()), 24, 1), "unreadable", "1 samples a second; 4000 to 384000"),
        (patched(encoded(tone()), 24, 2**30), "unreadable", "samples a second; 4000 to 384000"),
    ],
)
def test_what_is_broken_is_a_data_error_of_the_row(content: bytes, kind: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as raised:
        read(content)
    assert (raised.value.source, raised.value.index, raised.value.kind) == ("tapes", 3, kind)


def test_more_channels_than_there_is_room_for_are_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(np.zeros((4000, 100), np.float32), kind="OGG", subtype="VORBIS")
    monkeypatch.setattr("xoron_core.data.audio.MAX_SAMPLES", 4000 * 99)
    with pytest.raises(DataError, match="4000 samples of 100 channels; at most 396000 are read") as raised:
        read(content)
    assert raised.value.kind == "too_large"


@pytest.mark.parametrize("length", [2**32 - 1, 0x7FFFF000])
def test_a_wav_that_came_through_a_pipe_is_read(length: int) -> None:
    content = encoded(tone(), subtype="PCM_16")
    assert np.array_equal(read(patched(patched(content, 4, length), 40, length)), read(content))


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("AIFF", "PCM_16"), *PACKED])
def test_a_sound_that_is_cut_off_is_refused(kind: str, subtype: str | None) -> None:
    content = encoded(hiss(2.0), kind=kind, subtype=subtype)
    for share in (0.2, 0.5, 0.9):
        with pytest.raises(DataError, match="not a readable sound") as raised:
            read(content[: int(share * len(content))])
        assert raised.value.kind == "unreadable"


def hiss(seconds: float) -> Samples:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


@pytest.mark.parametrize(
    "content", [encoded(hiss(2.0), kind=kind, subtype=subtype) for kind, subtype in PACKED] + [varying(hiss(2.0))]
)
def test_a_sound_that_is_damaged_in_the_middle_is_refused(content: bytes) -> None:
    middle = len(content) // 2
    changed = content[:middle] + np.random.default_rng(0).bytes(600) + content[middle + 600 :]
    with pytest.raises(DataError, match="not a readable sound"):
        read(changed)


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_an_ogg_file_without_one_of_its_pages_is_refused(subtype: str) -> None:
    pages = encoded(hiss(5.0), kind="OGG", subtype=subtype).split(b"OggS")
    with pytest.raises(DataError, match=r"it is cut off: [34]\.\d\d s of 5\.\d\d s"):
        read(b"OggS".join(pages[:-3] + pages[-2:]), 6.0)


def test_a_tagged_mp3_that_is_cut_off_is_refused() -> None:
    size = 300
    tag = b"ID3\3\0\0" + bytes((0, 0, size >> 7, size & 127)) + bytes(size)
    content = tag + encoded(hiss(2.0), kind="MP3", subtype=None)
    assert len(read(content)) == 2 * RATE
    with pytest.raises(DataError, match=r"it is cut off: \d+ of 58 frames"):
        read(content[: len(content) * 9 // 10])


def test_an_mp3_that_becomes_stereo_on_the_way_is_refused() -> None:
    with pytest.raises(DataError, match="its rate or its channels change"):
        read(varying(hiss(0.5)) + varying(np.stack([hiss(0.5)] * 2, axis=1)))


def test_a_flac_that_does_not_tell_its_length_is_refused() -> None:
    content = encoded(tone(), kind="FLAC")
    with pytest.raises(DataError, match="it does not tell how long it is; write it anew") as caught:
        read(content[:21] + bytes((content[21] & 0xF0, 0, 0, 0, 0)) + content[26:])
    assert caught.value.kind == "unreadable"


def test_a_row_without_a_sound_is_a_data_error() -> None:
    with pytest.raises(DataError, match="'audio' is empty") as raised:
        read(b"", audio=None)
    assert raised.value.kind == "empty"
    with pytest.raises(DataError, match="'audio' must be a name of a file, bytes") as raised:
        read(b"", audio=3)
    assert raised.value.kind == "wrong_type"
    with pytest.raises(DataError, match=r"'a\.wav' is empty") as raised:
        read(b"")
    assert raised.value.kind == "empty"


def test_bytes_of_a_row_are_read_and_named() -> None:
    content = encoded(tone())
    for value in (content, {"bytes": content, "path": "b.wav"}):
        assert len(read(b"", audio=value)) == RATE // 2
    with pytest.raises(DataError, match=r"'b\.wav' is not a readable sound"):
        read(b"", audio={"bytes": content[:50], "path": "b.wav"})


def test_every_nasty_file_is_what_it_is(tmp_path: Path) -> None:
    config, tokenizer = (
        resolve("demo", {"modalities": {"asr": {"max_audio_s": 5.0}, "tts": {"max_audio_s": 5.0}}}),
        Tokenizer.load("demo"),
    )
    rows = nasty_sounds(tmp_path, max_s=5.0)
    assert sum(row.kind is None for row in rows) >= 8
    for modality in (Asr(config, tokenizer), Tts(config, tokenizer)):
        for index, row in enumerate(rows):
            record = Record("nasty", index, row.fields, nasty_reader("nasty", index, tmp_path))
            try:
                modality.prepare(record, SampleOrigin("nasty", index, 0))
                kind = None
            except DataError as error:
                kind = error.kind
            assert kind == row.kind, (modality.name, row.what)


def test_broken_files_raise_nothing_but_data_errors_and_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    samples = (tone(0.3) + rng.normal(0, 0.05, len(tone(0.3)))).astype(np.float32)
    kinds = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("AIFF", "PCM_16"), ("W64", "PCM_24"), *PACKED]
    outcomes: list[str | None] = []
    for kind, subtype in kinds:
        for content in mutations(encoded(samples, kind=kind, subtype=subtype), rng, 30):
            try:
                assert np.isfinite(read(content)).all()
                outcomes.append(None)
            except DataError as error:
                outcomes.append(error.kind)
    assert outcomes.count(None) > 100
    assert outcomes.count("unreadable") > 200
    assert set(outcomes) <= {None, "unreadable", "not_finite", "too_long", "empty", "silent"}
    assert capfd.readouterr() == ("", "")
