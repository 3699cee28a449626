"""Media embeddings among those of text. Shapes: B batch, T tokens, M media embeddings of a row, D width."""

from typing import NamedTuple

import torch
from torch import Tensor


class MediaTokens(NamedTuple):
    """What an encoder and its projector make of a row's picture, clip or sound."""

    tokens_BMD: Tensor
    """In the width of the language model."""
    mask_BM: Tensor
    """True where there is one; they stand at the left, one a row at least."""
    aux_loss: Tensor | None = None
    """Balance loss of the encoder's experts, where it has some: a scalar, weighted."""


def insert_media(embedded_BTD: Tensor, is_placeholder_BT: Tensor, media: MediaTokens) -> Tensor:
    """Put each row's media embeddings, in order, where its placeholders stand; there are as many of both."""
    index_BT = (is_placeholder_BT.cumsum(dim=1) - 1).clamp(min=0, max=media.tokens_BMD.shape[1] - 1)
    width = embedded_BTD.shape[-1]
    placed_BTD = media.tokens_BMD.gather(1, index_BT.unsqueeze(-1).expand(-1, -1, width))
    return torch.where(is_placeholder_BT.unsqueeze(-1), placed_BTD.to(embedded_BTD.dtype), embedded_BTD)
