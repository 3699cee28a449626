"""Parameters and floating-point operations, counted from sizes, against models that are really there."""

from typing import Any

import pytest
import torch
from support.small_models import VOCAB_SIZE, language_config, make_llm, random_ids, xoron_config
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.model.flops import attention_flops, flops_per_token, mean_keys, table_rows
from xoron_core.model.layers.attention_mask import dense_mask
from xoron_core.model.layers.moe import Experts
from xoron_core.model.sizes import component_sizes
from xoron_core.model.xoron import XoronMultimodalModel

CPU = torch.device("cpu")
SHAPES: list[dict[str, Any]] = [
    {},
    {"attention": "gqa"},
    {"moe_every": 0},
    {"moe_every": 1, "num_layers": 3, "moe": MoeConfig(num_experts=6, top_k=3, num_shared_experts=2, expert_size=16)},
    {"moe": MoeConfig(num_experts=4, top_k=1, num_shared_experts=0, expert_size=24)},
]


def grouped_flops(x: list[int], weights: list[int], *_: Any, out_val: Any = None, **__: Any) -> int:
    """torch's counter knows no grouped product: each row is multiplied with one of the matrices."""
    return 2 * x[0] * weights[1] * weights[2]


@pytest.mark.parametrize("shape", SHAPES)
def test_flops_are_those_that_torch_counts(shape: dict[str, Any]) -> None:
    """torch counts attention to every key; what causality and the window leave is tested below."""
    batch_size, num_tokens = 2, 48
    llm = make_llm(**shape)
    ids = random_ids(batch_size, num_tokens)
    mapping = {torch.ops.aten._grouped_mm: grouped_flops}
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:  # the CPU's own attention is not counted
        llm(ids, return_logits=True)
    counted = counter.get_total_flops() / (batch_size * num_tokens)
    flops = flops_per_token(llm.config, VOCAB_SIZE, num_tokens)
    to_all = flops.layers + attention_flops(llm.config, num_tokens) + flops.head
    assert counted == pytest.approx(to_all, rel=0.01)


@pytest.mark.parametrize("recomputed", [False, True])
def test_training_flops_are_those_that_torch_counts(recomputed: bool) -> None:
    """Forward and backward; experts are left out, whose backward products torch's counter cannot tell. Recomputation
    stops before the last product of a layer, which nothing backward needs."""
    num_tokens = 48
    llm = make_llm(moe_every=0).train()
    llm.gradient_checkpointing_enable(recomputed)
    ids = random_ids(1, num_tokens)
    mapping = {torch.ops.aten.addmm_: addmm_flops}
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    with sdpa_kernel(SDPBackend.MATH), counter:
        output = llm(ids, labels_BT=ids)
        output.loss_sum.backward()
    whole = flops_per_token(llm.config, VOCAB_SIZE, num_tokens)
    to_all = whole._replace(attention=attention_flops(llm.config, num_tokens))
    expected = num_tokens * to_all.training(is_recomputed=recomputed)
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.03 if recomputed else 0.001)


def addmm_flops(_: list[int], left: list[int], right: list[int], *__: Any, out_val: Any = None, **___: Any) -> int:
    """torch's counter knows no product that is added in place."""
    return 2 * left[0] * left[1] * right[1]


@pytest.mark.parametrize(("num_tokens", "window"), [(1, None), (9, None), (9, 1), (9, 4), (9, 9), (9, 50)])
def test_the_keys_that_a_position_sees(num_tokens: int, window: int | None) -> None:
    seen = dense_mask(None, num_tokens, window, CPU).sum().item() / num_tokens
    assert mean_keys(num_tokens, window) == pytest.approx(seen)


def test_attention_costs_what_the_window_leaves() -> None:
    whole, cut = (flops_per_token(language_config(sliding_window=width), VOCAB_SIZE, 64) for width in (None, 8))
    assert whole.attention / cut.attention == pytest.approx(mean_keys(64, None) / mean_keys(64, 8))
    assert (whole.layers, whole.head) == (cut.layers, cut.head)


@pytest.mark.parametrize("shape", SHAPES)
def test_active_parameters_are_those_that_a_token_meets(shape: dict[str, Any]) -> None:
    """One expert after the other is taken out: a token's way goes through `top_k` of them."""
    config = language_config(**shape)
    [size] = component_sizes(meta_llm(**shape))
    llm = make_llm(**shape)
    experts = [module for module in llm.modules() if isinstance(module, Experts)]
    of_one = sum(parameter[0].numel() for module in experts for parameter in module.parameters())
    assert size.parameters == sum(parameter.numel() for parameter in llm.parameters())
    assert size.parameters - size.active_parameters == of_one * (config.moe.num_experts - config.moe.top_k)
    assert llm.model.embed_tokens.num_embeddings == table_rows(VOCAB_SIZE)
    assert size.weight_bytes == 4 * sum(tensor.numel() for tensor in [*llm.parameters(), *llm.buffers()])


def meta_llm(**shape: Any) -> XoronMultimodalModel:
    """A language model without memory."""
    with torch.device("meta"):
        return XoronMultimodalModel(xoron_config(**shape), frozenset({"llm"}), vocab_size=VOCAB_SIZE)
