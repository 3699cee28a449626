"""Sampling text token by token with a cache. Shapes: B batch, T tokens of the prompt, N new tokens, V vocabulary."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xoron_core.model.fusion import FusedMedia
from xoron_core.model.layers.attention_mask import AttentionMask, make_attention_mask
from xoron_core.model.layers.kv_cache import KeyValueCache
from xoron_core.model.placement import move_tensors

if TYPE_CHECKING:
    from xoron_core.model.language_model import LanguageModel


def choose_token(logits_BV: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """The likeliest token at temperature 0, else one drawn by `generator` on its own device; [B]."""
    if temperature == 0:
        return logits_BV.argmax(dim=-1)
    probabilities_BV = (logits_BV.float() / temperature).softmax(dim=-1)
    device = probabilities_BV.device if generator is None else generator.device
    drawn_B1 = torch.multinomial(probabilities_BV.to(device), 1, generator=generator)
    return drawn_B1.squeeze(1).to(logits_BV.device)


@torch.no_grad()
def generate(
    llm: "LanguageModel",
    prompt_BTD: Tensor,
    *,
    prompt_mask_BT: Tensor | None = None,
    media: FusedMedia | None = None,
    max_new_tokens: int,
    temperature: float,
    generator: torch.Generator | None,
    eos_token_id: int | None,
) -> Tensor:
    """Continue embedded prompts, [B, T, D] → ids [B, up to max_new_tokens].

    Prompts of different lengths are padded on the left; `prompt_mask_BT` is True where there is a token. Rows that
    have ended are filled with `eos_token_id`; the loop ends when all have. Ids of the table's padding are never drawn.
    Call it in eval mode, or the experts' load counts the sample.
    """
    decoder, origin = llm.model, prompt_BTD.device
    device = decoder.embed_tokens.weight.device  # which may be another, where the model is spread over several
    prompt_BTD, prompt_mask_BT, media = move_tensors((prompt_BTD, prompt_mask_BT, media), device)
    batch_size, num_prompt, _ = prompt_BTD.shape
    slots = _Slots(prompt_mask_BT, batch_size, num_prompt, max_new_tokens, device)
    max_tokens = num_prompt + max_new_tokens
    cache = KeyValueCache(len(decoder.layers), batch_size, max_tokens, decoder.cache_width, like=prompt_BTD)
    document_ids_BT = None if prompt_mask_BT is None else prompt_mask_BT.long() - 1
    mask = make_attention_mask(document_ids_BT, num_prompt, llm.config.sliding_window, device)
    x_BTD = prompt_BTD
    new_BN = torch.empty((batch_size, 0), dtype=torch.long, device=device)
    ended_B = torch.zeros(batch_size, dtype=torch.bool, device=device)
    for _ in range(max_new_tokens):
        start, end = cache.num_tokens, cache.num_tokens + x_BTD.shape[1]
        hidden_BTD, _ = decoder(x_BTD, slots.positions_BS[:, start:end], mask, cache=cache, media=media)
        cache.num_tokens = end
        mask = slots.mask(end + 1, llm.config.sliding_window)
        logits_BV = llm.logits(hidden_BTD[:, -1])[:, : llm.vocab_size]
        next_B = choose_token(logits_BV, temperature, generator)
        if eos_token_id is not None:
            next_B = torch.where(ended_B, eos_token_id, next_B)
            ended_B = ended_B | (next_B == eos_token_id)
        new_BN = torch.cat((new_BN, next_B.unsqueeze(1)), dim=1)
        x_BTD = decoder.embed_tokens(next_B.unsqueeze(1))
        if eos_token_id is not None and bool(ended_B.all()):
            break
    return new_BN.to(origin)


class _Slots:
    """Which places of the cache hold tokens, and the positions of those."""

    def __init__(
        self, prompt_mask_BT: Tensor | None, batch_size: int, num_prompt: int, num_new: int, device: torch.device
    ) -> None:
        valid_BS = torch.ones((batch_size, num_prompt + num_new), dtype=torch.bool, device=device)
        if prompt_mask_BT is not None:
            valid_BS[:, :num_prompt] = prompt_mask_BT
        self.valid_BS = valid_BS
        self.is_padded = prompt_mask_BT is not None
        self.positions_BS = (valid_BS.cumsum(dim=1) - 1).clamp(min=0)

    def mask(self, end: int, window: int | None) -> AttentionMask:
        """Who a single token at slot `end - 1` sees, of those that the cache gives it."""
        if not self.is_padded:
            return AttentionMask()
        start = 0 if window is None else max(0, end - window)
        return AttentionMask(dense_B1TT=self.valid_BS[:, None, None, start:end])
