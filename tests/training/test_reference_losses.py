"""Losses under the reference's names are the reference's formulas, and those that training computes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.reference_batches import media, media_rows, open_trainer, pictures, tiny_everything, waves
from support.small_models import perturb

from xoron_core.contract.special_tokens import all_special_tokens
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.base import Batch
from xoron_core.modalities.text.modality import TextSample
from xoron_core.modalities.text.weighting import TokenWeighting
from xoron_core.model.cross_entropy import linear_cross_entropy
from xoron_core.model.fusion import FusedMedia
from xoron_core.model.speech.mel import compute_mel_spectrogram
from xoron_core.training.steps import BatchError
from xoron_core.training.trainer import XoronTrainer
from xoron_core.training.utils import (
    eval_image_diffusion_step,
    eval_video_diffusion_step,
    eval_voice_asr_step,
    eval_voice_tts_step,
    train_image_diffusion_step,
    train_video_diffusion_step,
    train_voice_asr_step,
    train_voice_tts_step,
)

WEIGHTS = {"text": 0.7, "image_generation": 0.2, "video_generation": 0.3, "asr": 0.4, "tts": 0.5}
IDS = torch.zeros(2, 5, dtype=torch.long)
TOKENS = {"weighting": "token", "cot_loss_weight": 1.5, "tool_loss_weight": 1.3}


ATTRIBUTES = (
    "model", "train_dataset", "optimizer", "scheduler", "config", "xoron_config", "collate_fn", "tokenizer",
    "eval_dataset", "hf_token", "hf_repo_id", "scaler", "manual_loss_scale", "amp_dtype", "use_amp", "max_grad_norm",
    "start_epoch", "global_step", "best_loss", "llm_loss_weight", "image_diffusion_loss_weight",
    "video_diffusion_loss_weight", "asr_loss_weight", "tts_loss_weight", "cot_loss_weight", "tool_loss_weight",
    "anti_hallucination_loss_weight", "code_exec_loss_weight", "reasoning_token_ids", "tool_block_ids",
)  # fmt: skip


@pytest.fixture(scope="module")
def trainer() -> Iterator[XoronTrainer]:
    modalities: dict[str, Any] = {name: {"loss_weight": weight} for name, weight in WEIGHTS.items()}
    modalities["text"] |= TOKENS
    with open_trainer(tiny_everything({"modalities": modalities})) as made:
        for name, component in made.model.named_children():
            if name not in ("waveform_decoder", "autoencoder"):
                perturb(component)
        yield made


def everything() -> dict[str, Any]:
    return {
        "has_image_gen": True, "gen_images": pictures(2, 3, 32, 32), "gen_prompts": ["a cat", "a large red house"],
        "has_video_gen": True, "gen_videos": pictures(2, 4, 3, 32, 32, seed=1),
        "has_asr": True, "audio": waves(2, 1.0), "transcripts": ["hello", "hello to you"],
        "has_tts": True, "text": ["Hi.", "Hello to you."], "target_audio": waves(2, 0.9, seed=1),
        "speaker_ref": waves(2, 0.7, seed=2),
    }  # fmt: skip


def test_a_trainer_has_the_references_attributes(trainer: XoronTrainer) -> None:
    for name in ATTRIBUTES:
        getattr(trainer, name)
    assert (trainer.llm_loss_weight, trainer.image_diffusion_loss_weight, trainer.tts_loss_weight) == (0.7, 0.2, 0.5)
    assert (trainer.start_epoch, trainer.global_step, trainer.best_loss) == (0, 0, None)
    assert trainer.model.tokenizer is trainer.tokenizer


def test_weights_of_what_is_not_enabled_are_the_references() -> None:
    modalities = {name: {"weight": 0} for name in tiny_everything().modality_weights() if name != "asr"}
    with open_trainer(tiny_everything({"modalities": {**modalities, "asr": {"loss_weight": 0.25}}})) as trainer:
        assert trainer.asr_loss_weight == 0.25
        assert (trainer.llm_loss_weight, trainer.image_diffusion_loss_weight, trainer.tts_loss_weight) == (
            1.0,
            0.1,
            0.1,
        )
        assert (trainer.cot_loss_weight, trainer.tool_loss_weight) == (1.5, 1.3)
        assert (trainer.anti_hallucination_loss_weight, trainer.code_exec_loss_weight) == (1.2, 1.2)


def groups_of(trainer: XoronTrainer) -> list[tuple[frozenset[int], float]]:
    return [
        (trainer.reasoning_token_ids, trainer.cot_loss_weight),
        (trainer.tool_block_ids, trainer.tool_loss_weight),
        (trainer.anti_hallucination_token_ids, trainer.anti_hallucination_loss_weight),
        (trainer.code_exec_token_ids, trainer.code_exec_loss_weight),
    ]


def labels_of(tokenizer: Tokenizer) -> torch.Tensor:
    """Every special token among ordinary ones, some of it ignored; [2, T]."""
    generator = torch.Generator().manual_seed(0)
    special = torch.tensor([tokenizer.token_id(token) for token in all_special_tokens()])
    ids = torch.cat((special, torch.randint(tokenizer.vocab_size, (len(special),), generator=generator)))
    labels = ids[torch.randperm(len(ids), generator=generator)][: len(ids) // 2 * 2].view(2, -1)
    return labels.masked_fill(torch.rand(labels.shape, generator=generator) < 0.2, -100)


def test_the_weighted_loss_is_the_references_loop_over_tokens(trainer: XoronTrainer) -> None:
    assert trainer.tokenizer is not None
    labels = labels_of(trainer.tokenizer)
    logits = torch.randn(*labels.shape, trainer.tokenizer.vocab_size + 10, generator=torch.Generator().manual_seed(1))
    flat = labels[:, 1:].flatten()
    losses = F.cross_entropy(logits[:, :-1].flatten(0, 1), flat, reduction="none", ignore_index=-100)
    weights = torch.ones_like(losses)
    for ids, weight in groups_of(trainer):
        for token_id in ids:
            weights[flat == token_id] *= weight
    counts = flat != -100
    assert len(set(weights[counts].tolist())) >= 4, "the groups are not told apart"
    expected = (losses * weights)[counts].sum() / weights[counts].sum()
    torch.testing.assert_close(trainer._compute_weighted_loss(logits, labels), expected)

    mask = torch.rand(labels.shape, generator=torch.Generator().manual_seed(2)) < 0.5
    kept = labels.masked_fill(~mask, -100)
    masked = trainer._compute_weighted_loss(logits, labels, mask.long())
    torch.testing.assert_close(masked, trainer._compute_weighted_loss(logits, kept))
    assert not torch.equal(masked, expected)
    assert trainer._compute_weighted_loss(logits, torch.full_like(labels, -100)) == 0


def test_the_weighted_loss_and_its_gradients_are_those_of_the_chunks(trainer: XoronTrainer) -> None:
    assert trainer.tokenizer is not None
    labels = labels_of(trainer.tokenizer)
    text = trainer.modalities["text"].config
    weighting = TokenWeighting(text.model_copy(update={"weighting": "token"}), trainer.tokenizer)
    weights = torch.from_numpy(weighting(labels.clamp(min=0).flatten().numpy()).weights_T).view(labels.shape)
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(*labels.shape, 16, generator=generator).requires_grad_()
    table = torch.randn(trainer.tokenizer.vocab_size, 16, generator=generator).requires_grad_()
    plain = trainer._compute_weighted_loss(hidden @ table.t(), labels)
    expected = torch.autograd.grad(plain, (hidden, table))
    chunked = (
        linear_cross_entropy(
            hidden[:, :-1].flatten(0, 1), table, labels[:, 1:].flatten(), weights[:, 1:].flatten(), chunk=7
        ).loss_sum
        / weights[:, 1:][labels[:, 1:] != -100].sum()
    )
    torch.testing.assert_close(chunked, plain)
    for found, wanted in zip(torch.autograd.grad(chunked, (hidden, table)), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_rows_of_text_have_the_loss_that_the_modality_gives_them(trainer: XoronTrainer) -> None:
    text = trainer.modalities["text"]
    document = "<|bos|><|user|>Why?<|/user|><|assistant|><|think|>Because.<|/think|><|tool_call|>f<|/tool_call|><|eos|>"
    record = Record("a test", 0, {"text": document}, lambda _: b"")
    sample = text.prepare(record, SampleOrigin("a test", 0, 0))
    assert isinstance(sample, TextSample)
    assert len(set(sample.weights.tolist())) > 2
    total, count = text.loss(trainer.model, text.collate([sample]))["loss"]
    ids = torch.from_numpy(sample.ids)[None]
    found = trainer._compute_loss({"input_ids": ids, "labels": ids})
    torch.testing.assert_close(found, 0.7 * total / count)
    logits = trainer.model.llm(ids, return_logits=True).logits_BTV
    torch.testing.assert_close(found, 0.7 * trainer._compute_weighted_loss(logits, ids))


def test_pictures_are_learned_by_the_references_formula(trainer: XoronTrainer) -> None:
    model, images, prompts = trainer.model, pictures(3, 3, 32, 32), ["a cat", "a dog", "a rat"]
    torch.manual_seed(4)
    found = train_image_diffusion_step(model, images, prompts)
    torch.manual_seed(4)
    latents = model.encode_images(images)
    t = torch.rand(3)
    noise = torch.randn_like(latents)
    t_expanded = t.view(-1, 1, 1, 1)
    noisy = (1 - t_expanded) * latents + t_expanded * noise
    _, mask = model.tokenize_prompts(prompts)
    velocity = model.generator(noisy, t, model.encode_text(prompts), mask)
    torch.testing.assert_close(found, F.mse_loss(velocity, noise - latents))


def test_clips_are_learned_by_the_references_formula(trainer: XoronTrainer) -> None:
    model, videos, prompts = trainer.model, pictures(2, 4, 3, 32, 32), ["a cat runs", "a dog"]
    torch.manual_seed(5)
    found = train_video_diffusion_step(model, videos, prompts)
    torch.manual_seed(5)
    latents = model.encode_videos(videos)
    t = torch.rand(2)
    noise = torch.randn_like(latents)
    t_expanded = t.view(-1, 1, 1, 1, 1)
    noisy = (1 - t_expanded) * latents + t_expanded * noise
    _, mask = model.tokenize_prompts(prompts)
    velocity = model.video_generator(noisy, t, model.encode_text(prompts), mask)
    torch.testing.assert_close(found, F.mse_loss(velocity, noise - latents))


def test_padding_of_prompts_changes_nothing(trainer: XoronTrainer) -> None:
    """A short prompt beside a long one is what it is alone."""
    images, prompts = pictures(2, 3, 32, 32), ["a cat", "a large red house by the sea, with a boat in front of it"]
    torch.manual_seed(6)
    together = train_image_diffusion_step(trainer.model, images, prompts)
    torch.manual_seed(6)
    t, latents = torch.rand(2), trainer.model.encode_images(images)
    noise = torch.randn_like(latents)
    alone = []
    for row, prompt in enumerate(prompts):
        noisy = (1 - t[row]) * latents[row] + t[row] * noise[row]
        ids = torch.tensor([trainer.model.tokenizer.encode(f"<|bos|>{prompt}")])
        velocity = trainer.model.generator(noisy[None], t[row : row + 1], trainer.model.encode_text(ids))
        alone.append(F.mse_loss(velocity[0], noise[row] - latents[row]))
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_transcripts_are_learned_after_their_sound(trainer: XoronTrainer) -> None:
    """Each label is predicted from the sound and the transcript before it."""
    model, tokenizer, audio, transcripts = trainer.model, trainer.tokenizer, waves(2, 1.0), ["hello", "hello to you"]
    assert tokenizer is not None
    found = train_voice_asr_step(model, audio, transcripts)
    embeds = model.audio_projector(model.audio_encoder(audio)).tokens_BMD
    total, count = torch.zeros(()), 0
    for row, transcript in enumerate(transcripts):
        before, after = (tokenizer.encode(text) for text in ("<|bos|><|audio|>", "<|/audio|>"))
        answer = [*tokenizer.encode(transcript), tokenizer.eos_id]
        table = model.llm.model.embed_tokens
        pieces = [table(torch.tensor(before)), embeds[row], table(torch.tensor(after)), table(torch.tensor(answer))]
        row_embeds = torch.cat(pieces)[None]
        fused = FusedMedia(model.fusion, embeds[row : row + 1], torch.ones(1, embeds.shape[1], dtype=torch.bool))
        logits = model.llm(inputs_embeds_BTD=row_embeds, media=fused, return_logits=True).logits_BTV[0]
        total = total + F.cross_entropy(logits[-len(answer) - 1 : -1], torch.tensor(answer), reduction="sum")
        count += len(answer)
    torch.testing.assert_close(found, total / count)


def test_transcripts_have_the_loss_that_the_modality_gives_them(trainer: XoronTrainer) -> None:
    asr = trainer.modalities["asr"]
    [batch] = [batch for batch in trainer.eval_dataset.batches() if batch.modality == "asr"]  # type: ignore[union-attr]
    total, count = asr.loss(trainer.model, batch)["loss"]
    audio = batch.tensors["waveforms"][:, : int(batch.tensors["num_samples"][0])]
    truth = trainer.tokenizer.decode_plain(batch.tensors["labels"][batch.tensors["labels"] >= 0].tolist())  # type: ignore[union-attr]
    torch.testing.assert_close(train_voice_asr_step(trainer.model, audio, [truth]), total / count)


def test_speech_is_learned_by_the_references_formula(trainer: XoronTrainer) -> None:
    model, audio, voice, text = trainer.model, waves(1, 0.9), waves(1, 0.7, seed=1), "Hello to you."
    torch.manual_seed(7)
    found = train_voice_tts_step(model, text, audio, voice)
    torch.manual_seed(7)
    tokenizer = model.tokenizer
    ids = [tokenizer.bos_id, *(token for char in text for token in tokenizer.encode(char)), tokenizer.eos_id]
    mel_target = model.compute_mel_spectrogram(audio)
    voice_mel = model.compute_mel_spectrogram(voice)
    mel_pred, durations, alignment = model.audio_decoder(
        model.llm.model.embed_tokens(torch.tensor([ids])),
        speaker_embedding=model.speaker_encoder(voice_mel, torch.ones(voice_mel.shape[:2], dtype=torch.bool)),
        audio_features=model.audio_encoder(audio).features_BFD,
        use_mas=True,
        mel=mel_target,
    )
    assert durations.sum() == alignment.sum() == mel_target.shape[1]
    mel_loss = F.l1_loss(mel_pred, mel_target)
    start = int(torch.rand(1) * (mel_target.shape[1] - 32 + 1))
    assert model.waveform_decoder is not None
    waveform = model.waveform_decoder(mel_pred[:, start : start + 32].transpose(1, 2))
    segment = audio[:, start * 256 : (start + 32) * 256]
    waveform_loss = F.l1_loss(waveform[:, : segment.shape[1]], segment)
    torch.testing.assert_close(found, mel_loss + 0.1 * waveform_loss, rtol=1e-4, atol=1e-5)
    without = train_voice_tts_step(model, text, audio)
    assert not torch.equal(without, found), "the voice does not matter"


def test_spectrograms_are_heard_where_the_encoder_reads_them() -> None:
    only = {name: {"weight": 0} for name in tiny_everything().modality_weights() if name != "asr"}
    config = tiny_everything({"model": {"audio_encoder": {"use_raw_waveform": False}}, "modalities": only})
    with open_trainer(config) as trainer:
        audio = waves(2, 1.0)
        mel = compute_mel_spectrogram(audio).transpose(1, 2)
        by_samples = train_voice_asr_step(trainer.model, audio, ["yes", "no"])
        torch.testing.assert_close(train_voice_asr_step(trainer.model, mel, ["yes", "no"]), by_samples)
        with pytest.raises(BatchError, match=r"audio: .* reads spectrograms \[B, 80, F\]"):
            train_voice_asr_step(trainer.model, mel.transpose(1, 2), ["yes", "no"])


def test_evaluation_steps_repeat_themselves_and_have_no_gradient(trainer: XoronTrainer) -> None:
    batch = everything()
    for step in (eval_image_diffusion_step, eval_video_diffusion_step, eval_voice_asr_step, eval_voice_tts_step):
        first, second = step(trainer.model, batch), step(trainer.model, batch)
        assert torch.equal(first, second), step.__name__
        assert not first.requires_grad
        assert torch.isfinite(first)


def test_a_batch_of_everything_has_the_references_sum(trainer: XoronTrainer) -> None:
    assert trainer.tokenizer is not None
    rows = media_rows(trainer.tokenizer, ["<|bos|>one<|think|>two<|/think|>", "<|bos|>three"])
    batch, model = everything(), trainer.model
    torch.manual_seed(8)
    found = trainer._compute_loss(trainer._move_to_device({**rows, **batch}))
    torch.manual_seed(8)
    mask = rows["attention_mask"]
    logits = model.llm(rows["input_ids"], document_ids_BT=mask - 1, return_logits=True).logits_BTV
    expected = 0.7 * trainer._compute_weighted_loss(logits, rows["labels"])
    expected = expected + 0.2 * train_image_diffusion_step(model, batch["gen_images"], batch["gen_prompts"])
    expected = expected + 0.3 * train_video_diffusion_step(model, batch["gen_videos"], batch["gen_prompts"])
    expected = expected + 0.4 * train_voice_asr_step(model, batch["audio"], batch["transcripts"])
    expected = expected + 0.5 * train_voice_tts_step(model, batch["text"], batch["target_audio"], batch["speaker_ref"])
    torch.testing.assert_close(found, expected)

    model.zero_grad()
    found.backward()
    learning = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    model.zero_grad()
    assert learning >= {"llm", "generator", "video_generator", "audio_encoder", "audio_projector", "audio_decoder",
                        "speaker_encoder", "waveform_decoder"}  # fmt: skip


def test_pictures_clips_and_sounds_stand_among_the_text(trainer: XoronTrainer) -> None:
    """All three in one row, in any order; each has the loss that its own modality gives it."""
    assert trainer.tokenizer is not None
    images, videos, audio = pictures(1, 3, 64, 64), pictures(1, 8, 3, 64, 64), waves(1, 0.5)
    asr_tokens = -(-audio.shape[1] // 512)

    def loss(text: str, **given: Any) -> torch.Tensor:
        return trainer._compute_loss({**media_rows(trainer.tokenizer, [f"<|bos|>{text}yes"]), **given})  # type: ignore[arg-type]

    picture, clip, sound = media("image", 16), media("video", 16), media("audio", asr_tokens)
    seen = loss(picture, images=images)
    assert not torch.equal(seen, loss(picture, images=pictures(1, 3, 64, 64, seed=9)))
    asked = trainer.modalities["image_understanding"]
    rows = media_rows(trainer.tokenizer, [f"<|bos|>{picture}yes"])
    tensors = {**rows, "document_ids": rows["attention_mask"] - 1, "images": images}
    total, count = asked.loss(trainer.model, Batch("image_understanding", tensors, {}, 1, 0, ()))["loss"]
    torch.testing.assert_close(seen, 0.7 * total / count)  # no tag of a group among the labels

    together = loss(clip + sound + picture, images=images, videos=videos, audio=audio)
    for key, other in (("images", pictures(1, 3, 64, 64, seed=9)), ("videos", pictures(1, 8, 3, 64, 64, seed=9)),
                       ("audio", waves(1, 0.5, seed=9))):  # fmt: skip
        given = {"images": images, "videos": videos, "audio": audio, key: other}
        assert not torch.equal(loss(clip + sound + picture, **given), together), key
    assert loss("no media, ", audio=audio, has_asr=True, transcripts=["yes"]) > 0, "the sound has no place in the row"


@pytest.mark.parametrize(
    ("change", "key", "says"),
    [
        ({"gen_prompts": None}, "gen_prompts", "missing"),
        ({"gen_prompts": ["one"]}, "gen_prompts", "1 texts for 2 pictures"),
        ({"gen_prompts": "one"}, "gen_prompts", "a list of 2 texts"),
        ({"gen_images": pictures(2, 1, 32, 32)}, "gen_images", r"expected \[B, 3, H, W\], got \(2, 1, 32, 32\)"),
        ({"gen_images": pictures(2, 3, 20, 20)}, "gen_images", "pictures of 20×20: sides must be multiples of 8"),
        ({"audio": torch.zeros(2, 80, 9)}, "audio", r"reads waveforms \[B, T\]"),
        ({"gen_videos": pictures(2, 3, 32, 32)}, "gen_videos", r"expected \[B, T, 3, H, W\]"),
        ({"audio": torch.zeros(2)}, "audio", r"expected \[B, T\] or \[B, 80, F\], got \(2,\)"),
        ({"transcripts": ["one"]}, "transcripts", "1 texts for 2 sounds"),
        ({"transcripts": ["one", "<|placeholder|>"]}, "transcripts", "stands for media"),
        ({"target_audio": torch.zeros(2, 1, 9)}, "target_audio", r"expected \[B, T\]"),
        ({"text": ["Hi.", "x" * 200]}, "text", "202 tokens are too many for 57 frames"),
        ({"speaker_ref": torch.zeros(1, 900)}, "speaker_ref", "1 sounds for 2 texts"),
        ({"input_ids": IDS}, "labels", "missing"),
        (
            {"input_ids": torch.zeros(2, 5).long(), "labels": torch.zeros(2, 4).long()},
            "labels",
            r"\(2, 5\), got \(2, 4\)",
        ),
        ({"input_ids": IDS[0], "labels": IDS[0]}, "input_ids", r"\[B, T\], got \(5,\)"),
    ],
)
def test_what_is_missing_or_misshapen_is_named(
    trainer: XoronTrainer, change: dict[str, Any], key: str, says: str
) -> None:
    with pytest.raises(BatchError, match=says) as caught:
        trainer._compute_loss({**everything(), **change})
    assert caught.value.key == key


def test_media_without_a_place_and_batches_of_nothing_are_refused(trainer: XoronTrainer) -> None:
    assert trainer.tokenizer is not None
    rows = media_rows(trainer.tokenizer, [f"<|bos|>{media('image', 7)}yes"])
    for given, says in (
        ({"images": pictures(1, 3, 64, 64)}, r"images: \[16\] embeddings for \[7\] placeholders"),
        ({"images": pictures(2, 3, 64, 64)}, "images: 2 of them for 1 rows"),
        ({"images": pictures(1, 3, 32, 32)}, r"images: pictures of shape \(1, 3, 32, 32\)"),
        ({"videos": pictures(1, 8, 3, 64, 64)}, r"videos: \[16\] embeddings for \[0\] placeholders"),
    ):
        with pytest.raises(BatchError, match=says):
            trainer._compute_loss({**rows, **given})
    with pytest.raises(BatchError, match="nothing to learn in a batch with has_asr"):
        trainer._compute_loss({"has_asr": False})


def test_what_the_model_was_not_built_for_is_refused() -> None:
    only = {name: {"weight": 0} for name in tiny_everything().modality_weights() if name != "text"}
    with open_trainer(tiny_everything({"modalities": only})) as trainer:
        with pytest.raises(BatchError, match=r"has_tts: .*without audio_decoder; enable modalities\.tts"):
            trainer._compute_loss(everything() | {"has_image_gen": False, "has_video_gen": False, "has_asr": False})
        rows = media_rows(trainer.tokenizer, ["<|bos|>yes"])  # type: ignore[arg-type]
        with pytest.raises(BatchError, match=r"images: nothing here reads it; enable modalities\.image_understanding"):
            trainer._compute_loss({**rows, "images": pictures(1, 3, 64, 64)})


def test_what_experts_ask_for_is_added_where_they_are_balanced_by_a_loss() -> None:
    balance = {"moe": {"balance": "aux_loss"}}
    with open_trainer(tiny_everything({"model": {"language": balance, "image_generator": balance}})) as trainer:
        model, images = trainer.model, pictures(1, 3, 32, 32)
        torch.manual_seed(1)
        found = train_image_diffusion_step(model, images, ["a cat"])
        torch.manual_seed(1)
        latents = model.encode_images(images)
        t, noise = torch.rand(1), torch.randn_like(latents)
        ids, mask = model.tokenize_prompts(["a cat"])
        predicted = model.generator.predict((1 - t) * latents + t * noise, t, model.encode_text(ids, mask), mask)
        assert predicted.aux_loss > 0
        torch.testing.assert_close(found, F.mse_loss(predicted.velocity, noise - latents) + predicted.aux_loss)
        output = model.llm(IDS, return_logits=True)
        assert output.aux_loss > 0
        expected = trainer._compute_weighted_loss(output.logits_BTV, IDS) + output.aux_loss
        torch.testing.assert_close(
            trainer._compute_loss({"input_ids": IDS, "labels": IDS}), trainer.llm_loss_weight * expected
        )


def test_batches_of_any_form_are_moved(trainer: XoronTrainer) -> None:
    batch = {"images": torch.zeros(1), "prompts": ["a"], "nested": {"pair": (torch.ones(1), 2)}, "flag": True}
    moved = trainer._move_to_device(batch)
    assert moved["prompts"] == ["a"]
    assert moved["flag"] is True
    assert moved["nested"]["pair"][0].device == trainer.device
    [sample] = [batch for batch in trainer.eval_dataset.batches() if batch.modality == "text"]  # type: ignore[union-attr]
    assert replace(trainer._move_to_device(sample)).tensors["input_ids"].device == trainer.device
