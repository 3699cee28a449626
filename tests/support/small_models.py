"""Small models and batches for tests of the model."""

from typing import Any

import torch
from torch import Tensor

from xoron_core.contract.config.generators import ImageGeneratorConfig
from xoron_core.contract.config.model import FusionConfig, LanguageModelConfig, XoronConfig
from xoron_core.contract.config.moe import MoeConfig
from xoron_core.model.autoencoder import AutoencoderConfig
from xoron_core.model.initialise import init_module
from xoron_core.model.language_model import LanguageModel
from xoron_core.model.xoron import XoronMultimodalModel

VOCAB_SIZE = 200
TEXT_AND_IMAGES = frozenset({"llm", "generator", "autoencoder"})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def language_config(**changes: Any) -> LanguageModelConfig:
    """Two layers, the second with experts, YaRN in use."""
    values: dict[str, Any] = {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 8,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "intermediate_size": 48,
        "moe": MoeConfig(num_experts=4, top_k=2, expert_size=24),
        "rope": {"theta": 10_000.0, "original_max_position": 32},
        "max_position_embeddings": 128,
        "sliding_window": None,
        "initializer_range": 0.15,
    }
    return LanguageModelConfig(**(values | changes))


def xoron_config(**language: Any) -> XoronConfig:
    generator = ImageGeneratorConfig(
        hidden_size=32, num_layers=2, num_heads=4, moe=MoeConfig(num_experts=4, top_k=2, expert_size=24)
    )
    return XoronConfig(
        tokenizer="demo",
        language=language_config(**language),
        fusion=FusionConfig(num_layers=2, num_heads=4),
        image_generator=generator,
    )


def small_autoencoder() -> AutoencoderConfig:
    return AutoencoderConfig(encoder_widths=(8, 8, 16), decoder_widths=(8, 8, 16), decoder_blocks=1, groups=4)


def make_llm(seed: int = 0, **changes: Any) -> LanguageModel:
    config = language_config(**changes)
    llm = LanguageModel(config, VOCAB_SIZE)
    init_module(llm, seeded(seed), config.initializer_range)
    return llm


def make_xoron(seed: int = 0, components: frozenset[str] = TEXT_AND_IMAGES, **language: Any) -> XoronMultimodalModel:
    model = XoronMultimodalModel(
        xoron_config(**language), components, vocab_size=VOCAB_SIZE, autoencoder_config=small_autoencoder()
    )
    model.init_weights(seeded(seed))
    return model


def random_ids(batch_size: int, num_tokens: int, seed: int = 1) -> Tensor:
    return torch.randint(VOCAB_SIZE, (batch_size, num_tokens), generator=seeded(seed))


def perturb(module: torch.nn.Module, seed: int = 5) -> None:
    """Move every trained parameter a little: what starts at zero hides what lies behind it."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
