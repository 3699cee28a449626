"""Speech synthesis: what a recording becomes, its terms, its samples."""

import io
import json
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from xoron_core.contract.config.run import merge
from xoron_core.contract.errors import DataError
from xoron_core.contract.presets import resolve
from xoron_core.contract.sources import demo_corpus
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.tts.modality import Tts
from xoron_core.modalities.tts.spectrogram import spectrogram_artifact
from xoron_core.modalities.tts.spoken import SpeechPrompt, SpokenSample
from xoron_core.model.speech.mel import HOP, compute_mel_spectrogram
from xoron_core.model.speech.pitch import LOG_MEAN, LOG_STD, track_pitch
from xoron_core.model.xoron import XoronMultimodalModel

SPEECH = demo_corpus() / "speech"
TINY = {
    "model": {
        "language": {"hidden_size": 32, "num_layers": 1, "moe_every": 0},
        "fusion": {"num_layers": 1, "num_heads": 2},
        "audio_encoder": {"conv_channels": [8, 8, 8, 8, 16, 16], "hidden_size": 16, "num_layers": 1, "num_heads": 2,
                          "kv_rank": 8, "conv_kernel_size": 7, "feed_forward_size": 32},
        "speaker_encoder": {"conv_size": 16, "gru_size": 16, "embedding_size": 24},
        "audio_decoder": {"hidden_size": 32, "num_encoder_layers": 1, "num_decoder_layers": 1, "num_heads": 2,
                          "feed_forward_size": 48, "conv_kernel_size": 3, "alignment_size": 16, "predictor_size": 16},
        "waveform_decoder": {"hidden_size": 32, "kernel_sizes": [3], "dilations": [1]},
    },
    "data": {"sources": [{"name": "speech", "category": "voice_tts", "path": "demo:speech"}]},
    "modalities": {"tts": {"max_audio_s": 3.5, "speaker_reference_s": 0.5, "sample_prompts": ["Hello.", "Good bye."]}},
}  # fmt: skip


def make_tts(overrides: dict[str, Any] | None = None) -> Tts:
    return Tts(resolve("demo", merge(TINY, overrides or {})), Tokenizer.load("demo"))


def make_model(tts: Tts) -> XoronMultimodalModel:
    model = XoronMultimodalModel(tts.run_config.model, tts.components, vocab_size=tts.tokenizer.vocab_size)
    model.init_weights(torch.Generator().manual_seed(0))
    return model


def record(audio: bytes, text: str = "Hi.", index: int = 0) -> Record:
    return Record("voices", index, {"audio": "a.wav", "text": text}, lambda _: audio)


def recorded(waveform: np.ndarray[Any, Any], rate: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def hum(seconds: float, hertz: float = 150.0) -> np.ndarray[Any, Any]:
    times = np.arange(round(16_000 * seconds)) / 16_000
    return np.sign(np.sin(2 * np.pi * hertz * times + 0.3)) * 0.2


def real_rows(tts: Tts, count: int, seed: int = 0) -> list[SpokenSample]:
    lines = (SPEECH / "train.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    records = (Record("speech", at, json.loads(line), _read) for at, line in enumerate(lines))
    return [tts.prepare(row, SampleOrigin("speech", row.index, 1000 * seed + row.index)) for row in records]


def _read(name: str) -> bytes:
    return (SPEECH / Path(name)).read_bytes()


def means(terms: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    return {name: float(total.detach() / count) for name, (total, count) in terms.items()}


def test_text_is_spelled_between_beginning_and_end() -> None:
    tts = make_tts()
    sample = tts.prepare(record(recorded(hum(1.0)), "Press  one.\n"), SampleOrigin("voices", 0, 1))
    tokenizer = tts.tokenizer
    assert sample.token_ids[0] == tokenizer.bos_id
    assert sample.token_ids[-1] == tokenizer.eos_id
    assert [tokenizer.decode([token]) for token in sample.token_ids[1:-1]] == list("Press one.")
    assert tts.spell("ü")[1:-1] == tuple(tokenizer.encode("ü")), "a character of several tokens keeps them all"


def test_frames_of_pitch_are_those_of_the_spectrogram() -> None:
    sample = make_tts().prepare(record(recorded(hum(0.99))), SampleOrigin("voices", 0, 1))
    frames = compute_mel_spectrogram(torch.from_numpy(sample.waveform)[None]).shape[1]
    assert len(sample.pitch) == len(sample.voicing) == sample.num_frames == frames


@pytest.mark.parametrize("hertz", [70.0, 110.0, 223.0, 390.0])
def test_pitch_is_found_and_noise_and_silence_have_none(hertz: float) -> None:
    pitch, voicing = track_pitch(hum(1.0, hertz).astype(np.float32))
    inner = slice(3, -3)
    assert voicing[inner].all()
    np.testing.assert_allclose(np.exp(pitch[inner] * LOG_STD + LOG_MEAN), hertz, rtol=0.02)
    noise = np.random.Generator(np.random.PCG64(0)).normal(0, 0.1, 16_000).astype(np.float32)
    for unvoiced in (noise, np.zeros(5000, dtype=np.float32), (1e-4 * hum(1.0, hertz)).astype(np.float32)):
        pitch, voicing = track_pitch(unvoiced)
        assert not voicing.any()
        assert not pitch.any()


@pytest.mark.parametrize(
    ("audio", "text", "reason"),
    [
        (recorded(hum(0.1)), "far more than can be said", "too short for 27 tokens"),
        (recorded(hum(4.0)), "Hi.", "at most 3.5 s"),
        (b"no sound", "Hi.", "not a readable sound"),
        (recorded(hum(1.0)), "  ", "field 'text'"),
    ],
)
def test_a_row_of_no_use_is_told_with_its_place(audio: bytes, text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        make_tts().prepare(record(audio, text, index=7), SampleOrigin("voices", 7, 1))
    assert (caught.value.source, caught.value.index) == ("voices", 7)


def test_two_half_batches_are_one_whole() -> None:
    tts = make_tts()
    model, samples = make_model(tts).eval(), real_rows(tts, 4)
    whole = tts.loss(model, tts.collate(samples))
    halves = [tts.loss(model, tts.collate(samples[:1])), tts.loss(model, tts.collate(samples[1:]))]
    for name, (total, count) in whole.items():
        parts = [half[name] for half in halves]
        torch.testing.assert_close(sum(part[0] for part in parts), total, rtol=1e-4, atol=1e-5, msg=name)
        assert sum(part[1] for part in parts) == count == 4


def test_the_headline_is_the_references_sum() -> None:
    tts = make_tts()
    found = means(tts.loss(make_model(tts), tts.collate(real_rows(tts, 2))))
    assert found["loss"] == pytest.approx(found["mel_loss"] + 0.1 * found["waveform_loss"])
    batch = tts.collate(real_rows(tts, 2))
    assert set(tts.objective) <= set(batch.counts)


def test_what_is_random_comes_from_the_samples_seed() -> None:
    tts = make_tts()
    draws = [real_rows(tts, 1, seed)[0].draw(0.5, 31, 32) for seed in range(60)]
    again = real_rows(tts, 1, 3)[0].draw(0.5, 31, 32)
    assert again.segment_start == draws[3].segment_start
    assert torch.equal(again.reference_frames_R, draws[3].reference_frames_R)
    told = [bool(draw.has_reference) for draw in draws]
    assert 15 < sum(told) < 45
    sample = real_rows(tts, 1)[0]
    assert len({int(draw.segment_start) for draw in draws}) > 10
    assert all(0 <= draw.segment_start <= sample.num_frames - 32 for draw in draws)
    assert all(draw.reference_frames_R.max() < sample.num_frames for draw in draws)


def test_a_recording_shorter_than_clip_and_segment_has_both() -> None:
    tts = make_tts()
    sample = tts.prepare(record(recorded(hum(0.2)), "A"), SampleOrigin("voices", 0, 1))
    draw = sample.draw(1.0, 31, 32)
    assert draw.segment_start == 0
    assert int(draw.reference_mask_R.sum()) == sample.num_frames == 13
    found = means(tts.loss(make_model(tts), tts.collate([sample])))
    assert all(np.isfinite(value) for value in found.values())


def test_nothing_is_heard_beyond_the_end_of_a_recording() -> None:
    tts = make_tts()
    model = make_model(tts)
    short = tts.prepare(record(recorded(hum(0.2)), "A"), SampleOrigin("voices", 0, 1))
    batch = tts.collate([short, *real_rows(tts, 1)])
    mel = compute_mel_spectrogram(batch.tensors["waveforms"])
    predicted, target, is_heard = tts._segments(model, batch.tensors, mel)
    assert is_heard.sum(1).tolist() == [len(short.waveform), 32 * HOP]
    assert not predicted[~is_heard].any()
    assert not target[~is_heard].any()
    assert predicted[is_heard].any()
    torch.testing.assert_close(target[0, : len(short.waveform)], torch.from_numpy(short.waveform))


def test_another_text_is_another_condition_where_there_is_room() -> None:
    tts = make_tts()
    first, second = real_rows(tts, 2)
    mixed = tts.with_condition_of(first, second)
    assert mixed is not None
    assert mixed.token_ids == second.token_ids
    assert mixed.waveform is first.waveform
    assert tts.with_condition_of(replace(first, waveform=first.waveform[: 10 * HOP]), second) is None


def test_a_sample_is_sound_and_its_spectrogram() -> None:
    tts = make_tts()
    model, held_out = make_model(tts).eval(), real_rows(tts, 1)
    prompts = tts.prompts(held_out)
    assert prompts == [SpeechPrompt("Hello."), SpeechPrompt("Good bye.", held_out[0])]
    assert tts.prompts([])[1].voice is None
    with torch.no_grad():
        made = [tts.sample(model, prompt, torch.Generator()) for prompt in prompts]
        in_null_voice = tts.sample(model, SpeechPrompt("Good bye."), torch.Generator())
    assert [artifact.caption for artifact in made[0]] == ["Hello."] * 2
    assert made[1][0].caption == "Good bye. (in the voice of speech[0])"
    assert made[1][0].content != in_null_voice[0].content
    sound, picture = made[0]
    with wave.open(io.BytesIO(sound.content)) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (16_000, 2, 1)
        frames = file.getnframes() // HOP
    assert frames >= len(tts.spell("Hello."))
    with Image.open(io.BytesIO(picture.content)) as image:
        assert image.size == (4 * frames, 4 * 80)


def test_a_spectrogram_shows_low_below_and_loud_light() -> None:
    mel = np.full((30, 80), -1.8, dtype=np.float32)
    mel[20:, :10] = 2.2
    with Image.open(io.BytesIO(spectrogram_artifact(mel, "x").content)) as image:
        grey = np.asarray(image.convert("L"), dtype=float)
    loud, quiet = grey[-40:, 80:], grey[:-40]
    assert loud.min() > 220
    assert quiet.max() < 30
