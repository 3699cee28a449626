"""Captions as ids, for the generators to be conditioned on. Shapes: B prompts, L tokens."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from xoron_core.contract.special_tokens import BOS

LENGTH_MULTIPLE = 8
"""Prompts of a batch are padded to a multiple of this: few shapes, little padding."""


class PromptTokenizer(Protocol):
    """What is asked of a tokenizer here."""

    pad_id: int

    def encode(self, text: str) -> list[int]:
        """The ids of a text, with nothing put around it."""


def prompt_ids(tokenizer: PromptTokenizer, prompt: str, max_tokens: int | None = None) -> tuple[int, ...]:
    """The ids of a prompt after a beginning, cut to `max_tokens` where there is a limit."""
    return tuple(tokenizer.encode(BOS + prompt)[:max_tokens])


def padded_prompts(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids [B, L], padded on the right, and where there are some (True)."""
    longest = max(len(prompt) for prompt in prompts)
    length = -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    ids_BL = torch.full((len(prompts), length), pad_id)
    mask_BL = torch.zeros((len(prompts), length), dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids_BL[row, : len(prompt)] = torch.tensor(prompt)
        mask_BL[row, : len(prompt)] = True
    return ids_BL, mask_BL
