"""Every name of the reference exists and takes what the reference gives it, in that order."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.small_models import make_xoron

from xoron_core.model.components import COMPONENTS
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training import utils
from xoron_core.training.trainer import XoronTrainer

PARAMETERS: list[tuple[Callable[..., Any], list[str]]] = [
    (
        XoronTrainer.__init__,
        ["self", "model", "train_dataset", "optimizer", "scheduler", "config", "xoron_config", "collate_fn",
         "resume_from", "tokenizer", "eval_dataset", "hf_token", "hf_repo_id"],
    ),
    (XoronTrainer.train, ["self"]),
    (XoronTrainer._compute_loss, ["self", "batch"]),
    (XoronTrainer._compute_weighted_loss, ["self", "logits", "labels", "loss_mask"]),
    (XoronTrainer._evaluate, ["self", "epoch"]),
    (XoronTrainer._save_checkpoint, ["self", "epoch"]),
    (XoronTrainer._load_checkpoint, ["self", "path"]),
    (XoronTrainer._enable_gradient_checkpointing, ["self"]),
    (XoronTrainer._move_to_device, ["self", "batch"]),
    (XoronTrainer._log_metrics, ["self", "loss"]),
    (utils.train_image_diffusion_step, ["model", "images", "prompts"]),
    (utils.train_video_diffusion_step, ["model", "videos", "prompts"]),
    (utils.train_voice_asr_step, ["model", "audio", "transcripts"]),
    (utils.train_voice_tts_step, ["model", "text", "target_audio", "speaker_ref"]),
    (utils.eval_image_diffusion_step, ["model", "batch"]),
    (utils.eval_video_diffusion_step, ["model", "batch"]),
    (utils.eval_voice_asr_step, ["model", "batch"]),
    (utils.eval_voice_tts_step, ["model", "batch"]),
    (utils.get_device_map, ["num_gpus"]),
]  # fmt: skip

OPTIONAL = {"resume_from", "tokenizer", "eval_dataset", "hf_token", "hf_repo_id", "loss_mask", "speaker_ref"}

MODEL_NAMES = (
    "llm", "vision_encoder", "audio_encoder", "audio_projector", "audio_decoder", "waveform_decoder", "generator",
    "video_generator", "tokenizer", "encode_images", "encode_videos", "encode_text", "compute_mel_spectrogram",
)  # fmt: skip


@pytest.mark.parametrize(("function", "names"), PARAMETERS, ids=[function.__qualname__ for function, _ in PARAMETERS])
def test_a_function_takes_what_the_reference_gives_it(function: Callable[..., Any], names: list[str]) -> None:
    parameters = inspect.signature(function).parameters.values()
    positional = [parameter for parameter in parameters if parameter.kind == parameter.POSITIONAL_OR_KEYWORD]
    assert [parameter.name for parameter in positional] == names
    assert {parameter.name for parameter in positional if parameter.default is not parameter.empty} == OPTIONAL & {
        *names
    }
    others = [parameter for parameter in parameters if parameter not in positional]
    assert all(parameter.default is not parameter.empty for parameter in others), "the reference would not give it"


def test_all_step_functions_are_offered_in_one_place() -> None:
    named = {function.__name__ for function, _ in PARAMETERS if "." not in function.__qualname__}
    assert named == set(utils.__all__)


def test_the_model_has_the_names_that_steps_read() -> None:
    with torch.device("meta"):
        model = make_everything()
    for name in MODEL_NAMES:
        assert getattr(model, name, None) is not None or name == "tokenizer", name
    assert model.tokenizer is None
    assert isinstance(model.llm.model.embed_tokens, torch.nn.Embedding)
    assert isinstance(model.vision_encoder.vision_model, torch.nn.Module)
    for name in ("llm", "vision_encoder", "audio_encoder", "audio_decoder"):
        assert name in model.gradient_checkpointing_enable(), "the reference recomputes its activations"


def make_everything() -> XoronMultimodalModel:
    from support.reference_batches import tiny_everything

    return XoronMultimodalModel(tiny_everything().model, frozenset(COMPONENTS), vocab_size=512)


def test_a_model_that_makes_no_waveforms_has_none_to_make_them() -> None:
    assert make_xoron().waveform_decoder is None
    with pytest.raises(AttributeError, match="built without 'audio_decoder'"):
        _ = make_xoron().audio_decoder


def test_texts_are_encoded_as_their_ids_are() -> None:
    from xoron_core.data.tokenizer import Tokenizer

    with torch.device("meta"):
        model = make_everything()
    with pytest.raises(ValueError, match=r"set model\.tokenizer"):
        model.encode_text(["a cat"])
    tokenizer = Tokenizer.load("demo")
    small = XoronMultimodalModel(model.config, frozenset({"llm"}), vocab_size=tokenizer.vocab_size)
    small.init_weights(torch.Generator().manual_seed(0))
    small.tokenizer = tokenizer
    prompts = ["a cat", "a large red house beside the sea"]
    ids, mask = small.tokenize_prompts(prompts)
    states = small.encode_text(prompts)
    torch.testing.assert_close(states, small.encode_text(ids, mask))
    alone = small.encode_text(torch.tensor([tokenizer.encode("<|bos|>a cat")]))
    torch.testing.assert_close(states[:1, : alone.shape[1]], alone)
    assert mask.sum(1).tolist() == [len(tokenizer.encode(f"<|bos|>{prompt}")) for prompt in prompts]
