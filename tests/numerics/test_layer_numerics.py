"""Norm, feed-forward, experts and the chunked loss against plain references."""

import pytest
import torch
import torch.nn.functional as F
from support.small_models import make_llm, random_ids, seeded

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.model.cross_entropy import linear_cross_entropy
from xoron_core.model.initialise import init_module
from xoron_core.model.layers.feed_forward import SwiGLU
from xoron_core.model.layers.moe import Experts, MoE
from xoron_core.model.layers.norms import RMSNorm


def test_rms_norm_equals_transformers() -> None:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    theirs, ours = LlamaRMSNorm(16, eps=1e-6), RMSNorm(16, eps=1e-6)
    weight = torch.randn(16, generator=seeded())
    with torch.no_grad():
        theirs.weight.copy_(weight)
        ours.weight.copy_(weight)
    x = torch.randn(3, 16, generator=seeded(1))
    torch.testing.assert_close(ours(x), theirs(x))


def test_swiglu_equals_transformers() -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    theirs = LlamaMLP(LlamaConfig(hidden_size=16, num_attention_heads=2, intermediate_size=24, hidden_act="silu"))
    ours = SwiGLU(16, 24)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 16, generator=seeded())
    torch.testing.assert_close(ours(x), theirs(x))


def reference_experts(experts: Experts, x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    rows = []
    for token in range(len(x)):
        row = torch.zeros(x.shape[1])
        for expert, weight in zip(chosen[token].tolist(), weights[token], strict=True):
            gate, up = (x[token] @ experts.gate_up_EDF[expert]).chunk(2)
            row = row + weight * ((F.silu(gate) * up) @ experts.down_EFD[expert])
        rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize("idle_expert", [False, True])
def test_grouped_experts_equal_a_loop(idle_expert: bool) -> None:
    experts = Experts(16, 4, 8)
    init_module(experts, seeded())
    x = torch.randn(13, 16, generator=seeded(1), requires_grad=True)
    scores = torch.rand(13, 4, generator=seeded(2))
    if idle_expert:
        scores[:, 1] = -1
    weights, chosen = scores.topk(2, dim=-1)
    weights.requires_grad_()
    inputs = (x, weights, experts.gate_up_EDF, experts.down_EFD)
    probe = torch.randn(13, 16, generator=seeded(3))
    got = experts(x, chosen, weights)
    expected = reference_experts(experts, x, chosen, weights)
    torch.testing.assert_close(got, expected)
    for mine, theirs in zip(
        torch.autograd.grad((got * probe).sum(), inputs),
        torch.autograd.grad((expected * probe).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_moe_is_shared_plus_weighted_routed_experts() -> None:
    moe = MoE(16, MoeConfig(num_experts=4, top_k=2, expert_size=8))
    init_module(moe, seeded())
    with torch.no_grad():
        moe.router.bias_E.copy_(torch.tensor([0.0, 5.0, 0.0, 0.0]))
    x = torch.randn(1, 6, 16, generator=seeded(1))
    y, stats = moe(x)
    scores = (x[0] @ moe.router.weight_ED.t()).sigmoid()
    chosen = (scores + moe.router.bias_E).topk(2).indices
    weights = scores.gather(1, chosen)
    weights = weights / weights.sum(1, keepdim=True)
    assert moe.shared is not None
    torch.testing.assert_close(y[0], moe.shared(x)[0] + reference_experts(moe.experts, x[0], chosen, weights))
    assert (chosen == 1).any(dim=1).all(), "the bias decides the choice"
    assert stats.load_E.tolist() == torch.bincount(chosen.flatten(), minlength=4).tolist()


def test_chunked_cross_entropy_equals_whole_logits() -> None:
    hidden = torch.randn(37, 16, generator=seeded(), requires_grad=True)
    table = torch.randn(50, 16, generator=seeded(1), requires_grad=True)
    labels = torch.randint(50, (37,), generator=seeded(2))
    labels[::5] = -100
    weights = torch.rand(37, generator=seeded(3)) + 0.5
    losses = F.cross_entropy(hidden @ table.t(), labels, reduction="none")
    expected = (losses * weights).sum() / 3
    got = linear_cross_entropy(hidden, table, labels, weights, chunk=8)
    torch.testing.assert_close(got.loss_sum / 3, expected)
    torch.testing.assert_close(got.token_losses_N, losses)
    assert not got.token_losses_N.requires_grad
    for mine, theirs in zip(
        torch.autograd.grad(got.loss_sum / 3, (hidden, table)),
        torch.autograd.grad(expected, (hidden, table)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_chunked_cross_entropy_in_bfloat16_stays_close() -> None:
    hidden = torch.randn(64, 16, generator=seeded(), requires_grad=True)
    table = torch.randn(50, 16, generator=seeded(1), requires_grad=True)
    labels = torch.randint(50, (64,), generator=seeded(2))
    weights = torch.ones(64)
    exact = torch.autograd.grad(linear_cross_entropy(hidden, table, labels, weights).loss_sum, (hidden, table))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss_sum = linear_cross_entropy(hidden, table, labels, weights, chunk=16).loss_sum
    for mine, theirs in zip(torch.autograd.grad(loss_sum, (hidden, table)), exact, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - theirs).norm() / theirs.norm() < 0.02


def test_labels_are_shifted_inside_and_weighted() -> None:
    llm = make_llm()
    ids = random_ids(2, 9)
    labels = ids.clone()
    labels[:, :3] = -100
    weights = torch.rand(2, 9, generator=seeded(4)) + 0.5
    out = llm(ids, labels_BT=labels, loss_weights_BT=weights, return_logits=True)
    assert out.logits_BTV is not None and out.loss_sum is not None and out.token_losses_BT is not None
    losses = F.cross_entropy(out.logits_BTV[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="none")
    torch.testing.assert_close(out.token_losses_BT[:, 1:].flatten(), losses.detach())
    assert out.token_losses_BT[:, 0].tolist() == [0, 0]
    torch.testing.assert_close(out.loss_sum, (losses * weights[:, 1:].flatten()).sum())
    torch.testing.assert_close(out.weight_sum, weights[:, 3:].sum())
