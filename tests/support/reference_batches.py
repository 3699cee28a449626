"""A tiny trainer of every modality, and batches in the form of the reference."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.presets import resolve
from xoron_core.contract.special_tokens import PLACEHOLDER, closing, opening
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.training.build import build_trainer
from xoron_core.training.control import Control
from xoron_core.training.hooks import Hook
from xoron_core.training.trainer import XoronTrainer

SMALL_EXPERTS = {"num_experts": 3, "expert_size": 16}
TINY = {
    "model": {
        "language": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "kv_lora_rank": 16, "intermediate_size": 48,
                     "moe": SMALL_EXPERTS},
        "fusion": {"num_layers": 1, "num_heads": 2},
        "vision_encoder": {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 48},
        "image_compressor": {"num_layers": 1, "num_heads": 2},
        "image_projector": {"num_layers": 1, "num_heads": 2},
        "video_encoder": {"num_layers": 1, "num_heads": 2, "moe": SMALL_EXPERTS},
        "video_projector": {"num_layers": 1, "num_heads": 2},
        "image_generator": {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "moe": SMALL_EXPERTS},
        "video_generator": {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "moe": SMALL_EXPERTS},
        "audio_encoder": {"conv_channels": [8, 8, 8, 8, 16, 16], "hidden_size": 16, "num_layers": 1, "num_heads": 2,
                          "kv_rank": 8, "conv_kernel_size": 7, "feed_forward_size": 32},
        "speaker_encoder": {"conv_size": 16, "gru_size": 16, "embedding_size": 24},
        "audio_decoder": {"hidden_size": 32, "num_encoder_layers": 1, "num_decoder_layers": 1, "num_heads": 2,
                          "feed_forward_size": 48, "conv_kernel_size": 3, "alignment_size": 16, "predictor_size": 16},
        "waveform_decoder": {"hidden_size": 32, "kernel_sizes": [3], "dilations": [1]},
    },
    "training": {"max_seq_length": 256, "eval_steps": None, "save_steps": None, "sample_steps": None},
    "evaluation": {"max_per_dataset_eval": 1, "shuffled": False},
    "resources": {"threads": 1, "device": "cpu"},
    "trouble": {"min_free_disk_gib": 0.0},
}  # fmt: skip
SECOND = 16_000


def tiny_everything(overrides: dict[str, Any] | None = None) -> RunConfig:
    """The `demo` preset with every component as small as it goes."""
    return resolve("demo", merge(TINY, overrides or {}))


@contextmanager
def open_trainer(
    config: RunConfig, hooks: list[Hook] | None = None, resume_from: Path | None = None
) -> Iterator[XoronTrainer]:
    """A trainer that is ready, in one process."""
    with ExitStack() as resources:
        yield build_trainer(config, hooks or [], Control(), resume_from, lambda _: None, resources)


def media_rows(tokenizer: Tokenizer, texts: list[str]) -> dict[str, torch.Tensor]:
    """Texts as `input_ids`, `labels` and `attention_mask`, padded on the right; nothing is learned where media or
    padding are."""
    rows = [tokenizer.encode(text) for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_id] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    ignored = (mask == 0) | (ids == tokenizer.token_id(opening(PLACEHOLDER)))
    return {"input_ids": ids, "labels": ids.masked_fill(ignored, -100), "attention_mask": mask}


def media(tag: str, count: int) -> str:
    """A block of so many placeholders."""
    return opening(tag) + opening(PLACEHOLDER) * count + closing(tag)


def waves(count: int, seconds: float, seed: int = 0) -> torch.Tensor:
    """Noise under a tone, [count, samples]."""
    length = round(SECOND * seconds)
    noise = torch.randn(count, length, generator=torch.Generator().manual_seed(seed))
    return 0.1 * noise + 0.2 * torch.sin(torch.arange(length) * 0.06)


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    """Noise in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
