"""A configuration's model in numbers, before anything of it is allocated."""

from dataclasses import dataclass

import torch

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.special_tokens import all_special_tokens
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.registry import MODALITIES
from xoron_core.model.flops import TokenFlops, flops_per_token, table_rows
from xoron_core.model.sizes import ComponentSize, component_sizes
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.memory_estimate import MemoryEstimate, estimate_memory, is_recomputed
from xoron_core.training.trained_parameters import num_trained

_KNOWN_VOCABULARIES = {"Qwen/Qwen2.5-1.5B": 151_665}
"""Ids of tokenizers that a preset names, so that nobody has to download them to know a size."""
_SHARED_TOKENS = frozenset({"<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"})
"""Special tokens that those tokenizers have already."""


@dataclass(frozen=True)
class ModelSize:
    """What a model has and costs. Bytes; operations a token."""

    vocab_size: int
    table_rows: int
    components: list[ComponentSize]
    num_trained: int
    row_tokens: int
    """Tokens of a row, which `flops` is about."""
    flops: TokenFlops
    training_flops: float
    """Forward and backward, recomputation included where the configuration asks for it."""
    memory: MemoryEstimate


def measure_model(config: RunConfig) -> ModelSize:
    """Build the model of the enabled modalities on the meta device, and count.

    Raises: ConfigError when the tokenizer cannot be had.
    """
    vocab_size = vocab_size_of(config.model.tokenizer)
    model = meta_model(config, vocab_size)
    language, row_tokens = config.model.language, config.training.max_seq_length
    flops = flops_per_token(language, vocab_size, row_tokens)
    return ModelSize(
        vocab_size=vocab_size,
        table_rows=table_rows(vocab_size),
        components=component_sizes(model),
        num_trained=num_trained(config, model),
        row_tokens=row_tokens,
        flops=flops,
        training_flops=flops.training(is_recomputed=is_recomputed(config.training, "llm")),
        memory=estimate_memory(config, model, device_type="cpu" if config.resources.device == "cpu" else "cuda"),
    )


def meta_model(config: RunConfig, vocab_size: int) -> XoronMultimodalModel:
    """The model with the components that the enabled modalities need, without memory."""
    enabled = config.modality_weights()
    components = frozenset[str]().union(*(cls.components for cls in MODALITIES if cls.name in enabled))
    with torch.device("meta"):
        return XoronMultimodalModel(config.model, components, vocab_size=vocab_size)


def vocab_size_of(tokenizer: str) -> int:
    """Ids of a tokenizer, the project's special tokens among them.

    Raises: ConfigError when it is none that is known, and cannot be had.
    """
    if tokenizer in _KNOWN_VOCABULARIES:
        return _KNOWN_VOCABULARIES[tokenizer] + len(set(all_special_tokens()) - _SHARED_TOKENS)
    return Tokenizer.load(tokenizer).vocab_size
