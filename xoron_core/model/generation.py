"""Sampling text token by token with a cache. Shapes: B batch, T tokens, V vocabulary."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xoron_core.model.layers.attention_mask import AttentionMask, make_attention_mask
from xoron_core.model.layers.kv_cache import KeyValueCache

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
    input_ids_BT: Tensor,
    *,
    max_new_tokens: int,
    temperature: float,
    generator: torch.Generator | None,
    eos_token_id: int | None,
) -> Tensor:
    """Continue prompts of equal length, [B, T] → [B, up to T + max_new_tokens].

    Rows that have ended are filled with `eos_token_id`; the loop ends when all have. Ids of the table's padding are
    never drawn. Call it in eval mode, or the experts' load counts the sample.
    """
    batch_size, num_prompt = input_ids_BT.shape
    decoder, device = llm.model, input_ids_BT.device
    max_tokens = num_prompt + max_new_tokens
    cache = KeyValueCache(
        len(decoder.layers), batch_size, max_tokens, decoder.cache_width, like=decoder.embed_tokens.weight
    )
    mask = make_attention_mask(None, num_prompt, llm.config.sliding_window, device)
    tokens_BT = input_ids_BT
    new_BT = input_ids_BT
    ended_B = torch.zeros(batch_size, dtype=torch.bool, device=device)
    for _ in range(max_new_tokens):
        positions_BT = torch.arange(cache.num_tokens, cache.num_tokens + new_BT.shape[1], device=device).unsqueeze(0)
        hidden_BTD, _ = decoder(decoder.embed_tokens(new_BT), positions_BT, mask, None, cache)
        cache.num_tokens += new_BT.shape[1]
        mask = AttentionMask()
        logits_BV = llm.logits(hidden_BTD[:, -1])[:, : llm.vocab_size]
        next_B = choose_token(logits_BV, temperature, generator)
        if eos_token_id is not None:
            next_B = torch.where(ended_B, eos_token_id, next_B)
            ended_B = ended_B | (next_B == eos_token_id)
        new_BT = next_B.unsqueeze(1)
        tokens_BT = torch.cat((tokens_BT, new_BT), dim=1)
        if eos_token_id is not None and bool(ended_B.all()):
            break
    return tokens_BT
