"""Speech recognition: what rows become, the losses, transcripts and their errors, what is shown."""

import io
import json
import wave
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from xoron_core.contract.config.run import merge
from xoron_core.contract.errors import DataError
from xoron_core.contract.presets import resolve
from xoron_core.contract.sources import demo_corpus
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.asr.modality import Asr, SpeechSample
from xoron_core.modalities.asr.transcripts import character_errors, normalised, num_ctc_frames, word_errors
from xoron_core.modalities.base import Batch
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.build import build_model

TINY = {
    "model": {
        "language": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "kv_lora_rank": 16, "intermediate_size": 48,
                     "moe": {"num_experts": 4, "expert_size": 24}},
        "fusion": {"num_layers": 2, "num_heads": 2},
        "audio_encoder": {"conv_channels": [8, 8, 8, 16, 16, 16], "hidden_size": 16, "num_layers": 1, "num_heads": 2,
                          "kv_rank": 12, "conv_kernel_size": 5, "feed_forward_size": 32,
                          "projector": {"hidden_size": 24}},
    },
    "data": {"sources": [{"name": "speech", "category": "voice_asr", "path": "demo:speech"}]},
    "modalities": {"asr": {"batch_size": 2, "max_answer_tokens": 24, "max_audio_s": 3.5}},
    "resources": {"device": "cpu"},
}  # fmt: skip


def make_modality(**options: Any) -> Asr:
    return Asr(resolve("demo", merge(TINY, {"modalities": {"asr": options}})), Tokenizer.load("demo"))


def make_model(modality: Asr) -> XoronMultimodalModel:
    model = build_model(modality.run_config, {modality.name: modality}, modality.tokenizer, torch.device("cpu"))
    return model.eval()


def recording(seconds: float = 1.0) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16_000))
    soundfile.write(buffer, noise, 16_000, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def row(text: str = "Hello, world!", seconds: float = 1.0, index: int = 0) -> Record:
    content = recording(seconds)
    return Record("speech", index, {"audio": "a.wav", "text": text}, lambda _: content)


def prepare(modality: Asr, text: str = "Hello, world!", seconds: float = 1.0) -> SpeechSample:
    return modality.prepare(row(text, seconds), SampleOrigin("speech", 0, 1))


def demo_samples(modality: Asr, count: int) -> list[SpeechSample]:
    folder = demo_corpus() / "speech"
    lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    records = [
        Record("speech", at, json.loads(line), lambda name: (folder / name).read_bytes())
        for at, line in enumerate(lines)
    ]
    return [modality.prepare(record, SampleOrigin("speech", record.index, 1)) for record in records]


def test_a_row_becomes_sound_placeholders_and_a_transcript() -> None:
    modality = make_modality()
    sample = prepare(modality, " Hello, world! ", seconds=1.0)
    decode = modality.tokenizer.decode
    assert decode(sample.answer_ids) == "Hello, world!<|eos|>"
    assert decode(sample.prompt_ids) == "<|bos|><|audio|>" + "<|placeholder|>" * 32 + "<|/audio|>"
    assert (sample.ctc_target, len(sample.media)) == (b"hello world", 16_000)


@pytest.mark.parametrize(
    ("text", "seconds", "reason"),
    [
        ("...", 1.0, "no word"),
        ("Hello", 4.0, "4.00 s long, at most 3.5 s"),
        ("Hello to all of you", 0.2, "0.20 s of sound are too short for 19 bytes"),
        ("Hello <|eos|> there", 1.0, r"contains <\|eos\|>, which ends a text"),
        ("a b c d e f g h i j k l m n o p q r s t u v w x y z", 3.0, "more than modalities.asr.max_answer_tokens 24"),
    ],
)
def test_rows_that_teach_nothing_are_data_errors(text: str, seconds: float, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        prepare(make_modality(), text, seconds)


def test_without_ctc_short_sound_is_no_trouble() -> None:
    assert prepare(make_modality(asr_loss="cross_entropy"), "Hello to all of you", 0.2).media.size == 3200


@pytest.mark.parametrize(
    ("target", "frames"), [(b"a", 1), (b"ab", 2), (b"aa", 3), (b"hello", 6), (b"aaa", 5), (b"", 0)]
)
def test_two_alike_need_a_blank_between_them(target: bytes, frames: int) -> None:
    assert num_ctc_frames(target) == frames


def test_the_batch_counts_its_terms_and_labels_the_answer_alone() -> None:
    modality = make_modality()
    short, long = prepare(modality, "Hi.", 0.6), prepare(modality, "Hello, world!", 1.0)
    batch = modality.collate([short, long])
    tokens = len(short.answer_ids) + len(long.answer_ids)
    assert batch.counts == {"loss": float(tokens), "moe_aux": 1.0, "ctc_loss": float(len("hi") + len("hello world"))}
    assert int((batch.tensors["labels"] != -100).sum()) == tokens
    assert batch.tensors["num_samples"].tolist() == [9600, 16_000]
    assert batch.tensors["waveforms"].shape == (2, 16_384)
    assert not batch.tensors["waveforms"][0, 9600:].any()
    assert modality.truths(batch) == ["Hi.", "Hello, world!"]


@pytest.mark.parametrize("asr_loss", ["cross_entropy", "ctc", "both"])
def test_every_term_of_the_objective_has_its_count_and_a_gradient(asr_loss: str) -> None:
    modality = make_modality(asr_loss=asr_loss)
    model = make_model(modality).train()
    batch = modality.collate([prepare(modality), prepare(modality, "Good bye", 0.7)])
    terms = modality.loss(model, batch)
    assert set(modality.objective) <= set(terms)
    for name, (_, count) in terms.items():
        assert float(count) == batch.counts[name], name
    terms["loss"][0].backward()
    heard = [p.grad for p in model.audio_encoder.parameters()]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in heard)
    read = model.llm.model.embed_tokens.weight.grad
    assert (read is None) == (asr_loss == "ctc")
    if asr_loss == "ctc":
        torch.testing.assert_close(terms["loss"][0], terms["ctc_loss"][0])


def test_another_sound_changes_the_loss_and_brings_its_placeholders() -> None:
    modality = make_modality()
    model = make_model(modality)
    one, other = demo_samples(modality, 2)
    mixed = modality.with_condition_of(one, other)
    assert mixed is not None
    assert (mixed.prompt_ids, mixed.answer_ids) == (other.prompt_ids, one.answer_ids)
    with torch.no_grad():
        losses = [float(modality.loss(model, modality.collate([sample]))["loss"][0]) for sample in (one, mixed)]
    assert abs(losses[0] - losses[1]) > 1e-4
    assert modality.with_condition_of(one, prepare(modality, "No", 0.1)) is None, "too short for the transcript"


@torch.no_grad()
def test_padding_and_neighbours_leave_losses_and_transcripts_as_they_are() -> None:
    modality = make_modality()
    model = make_model(modality)
    samples = demo_samples(modality, 3)
    together = modality.collate(samples)
    alone = [modality.collate([sample]) for sample in samples]
    for name, (total, _) in modality.loss(model, together).items():
        parts = [float(modality.loss(model, batch)[name][0]) for batch in alone]
        assert float(total) == pytest.approx(sum(parts), rel=1e-4), name
    assert modality.answer(model, together) == [modality.answer(model, batch)[0] for batch in alone]


class Parrot(Asr):
    """Says what it is told to."""

    said: tuple[str, ...] = ()

    def answer(self, model: XoronMultimodalModel, batch: Batch, media: object = None) -> list[str]:
        return list(self.said)


@torch.no_grad()
def test_errors_are_summed_over_normalised_words_and_characters() -> None:
    modality = Parrot(resolve("demo", TINY), Tokenizer.load("demo"))
    batch = modality.collate([prepare(modality, "Press one, please."), prepare(modality, "It's three.")])
    modality.said = ("press ONE", "its thee")
    terms = modality.evaluate(make_model(modality), batch)
    assert [float(value) for value in terms["wer"]] == [2.0, 5.0]
    assert [float(value) for value in terms["cer"]] == [len(" please") + 1, len("press one please") + len("its three")]
    modality.said = ("Press one please", "its three")
    perfect = modality.evaluate(make_model(modality), batch)
    assert float(perfect["wer"][0]) == float(perfect["cer"][0]) == 0.0


@torch.no_grad()
def test_with_ctc_alone_transcripts_come_from_its_head() -> None:
    modality = make_modality(asr_loss="ctc")
    model = make_model(modality)
    model.ctc_head.score_proj.weight.zero_()
    model.ctc_head.score_proj.bias.zero_()
    model.ctc_head.score_proj.bias[ord("x")] = 9.0
    assert modality.answer(model, modality.collate([prepare(modality)])) == ["x"]


def test_a_sample_is_the_sound_and_the_transcript_beside_the_truth() -> None:
    modality = make_modality()
    [prompt] = modality.prompts([prepare(modality)])
    sound, text = modality.sample(make_model(modality), prompt, torch.Generator())
    with wave.open(io.BytesIO(sound.content)) as file:
        assert (file.getframerate(), file.getnframes(), file.getsampwidth()) == (16_000, 16_000, 2)
    assert (sound.mime, sound.suffix, sound.caption) == ("audio/wav", "wav", "What is said?")
    assert (text.suffix, text.expected) == ("txt", "Hello, world!")
    text.content.decode()


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Hello, World!", "hello world"),
        ("Call-Forward on  No\nAnswer.", "call forward on no answer"),
        ("It's Mary’s", "its marys"),
        ("Zur Übung: ÄÖÜ", "zur übung äöü"),
        ("¿Qué?", "qué"),
        ("3½ $", "3½ $"),
        ("e\u0301", "é"),
        ("…", ""),
    ],
)
def test_transcripts_are_compared_in_lower_case_without_punctuation(written: str, spoken: str) -> None:
    assert normalised(written) == spoken


def test_errors_of_words_and_characters() -> None:
    assert word_errors(["a b c", "d"], ["a x c d", ""]) == (3, 4)
    assert character_errors(["abc"], ["abxc"]) == (1, 3)
    assert word_errors(["a b"], ["a b"]) == (0, 2)
