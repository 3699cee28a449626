"""Experts and the chunked loss against plain references."""

import pytest
import torch
import torch.nn.functional as F
from support.small_models import make_llm, perturb, random_ids, seeded
from torch import Tensor

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.model.cross_entropy import linear_cross_entropy
from xoron_core.model.initialise import init_module
from xoron_core.model.layers.attention_mask import AttentionMask
from xoron_core.model.layers.moe import Experts, MoE


def reference_experts(experts: Experts, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    rows = []
    for token in range(len(x)):
        row = torch.zeros(x.shape[1])
        for expert, weight in zip(chosen[token].tolist(), weights[token], strict=True):
            gate, up = (x[token] @ experts.gate_up_EDF[expert]).chunk(2)
            row = row + weight * ((F.silu(gate) * up) @ experts.down_EFD[expert])
        rows.append(row)
    return torch.stack(rows)


def choices(kind: str, num_tokens: int, num_experts: int, top_k: int) -> Tensor:
    """Which experts each token goes to, [N, K]."""
    scores = torch.rand(num_tokens, num_experts, generator=seeded(2))
    if kind == "one idle":
        scores[:, 1] = -1
    if kind == "one alone":  # every token, and that expert first
        scores[:, 1] = 2
    if kind == "the same":
        scores = scores[:1].expand(num_tokens, -1)
    return scores.topk(top_k, dim=-1).indices


@pytest.mark.parametrize("kind", ["any", "one idle", "one alone", "the same"])
@pytest.mark.parametrize(("num_tokens", "num_experts", "top_k"), [(13, 4, 2), (1, 4, 2), (40, 7, 3), (9, 3, 1)])
def test_grouped_experts_equal_a_loop(kind: str, num_tokens: int, num_experts: int, top_k: int) -> None:
    """However one-sided the choice is, every choice is computed: values and gradients are those of a loop over them."""
    experts = Experts(16, num_experts, 8)
    init_module(experts, seeded())
    x = torch.randn(num_tokens, 16, generator=seeded(1), requires_grad=True)
    chosen = choices(kind, num_tokens, num_experts, top_k)
    weights = torch.rand(num_tokens, top_k, generator=seeded(4), requires_grad=True)
    inputs = (x, weights, experts.gate_up_EDF, experts.down_EFD)
    probe = torch.randn(num_tokens, 16, generator=seeded(3))
    got = experts(x, chosen, weights)
    expected = reference_experts(experts, x, chosen, weights)
    torch.testing.assert_close(got, expected)
    for mine, theirs in zip(
        torch.autograd.grad((got * probe).sum(), inputs),
        torch.autograd.grad((expected * probe).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("num_shared_experts", [0, 1, 2])
def test_moe_is_shared_plus_weighted_routed_experts(num_shared_experts: int) -> None:
    """By the formulas of DeepSeek-V3: sigmoid scores, a bias on the choice alone, weights that add up to one."""
    moe = MoE(16, MoeConfig(num_experts=4, top_k=2, expert_size=8, num_shared_experts=num_shared_experts))
    init_module(moe, seeded())
    with torch.no_grad():
        moe.router.weight_ED.mul_(20)
        moe.router.bias_E.copy_(torch.tensor([0.0, 5.0, 0.0, 0.0]))
    x = torch.randn(1, 6, 16, generator=seeded(1), requires_grad=True)
    y, stats = moe(x)
    scores = (x[0] @ moe.router.weight_ED.t()).sigmoid()
    chosen = (scores + moe.router.bias_E).topk(2).indices
    weights = scores.gather(1, chosen)
    weights = weights / weights.sum(1, keepdim=True)
    expected = reference_experts(moe.experts, x[0], chosen, weights)
    if num_shared_experts:
        assert moe.shared is not None
        assert moe.shared.gate_proj.out_features == 8 * num_shared_experts
        expected = expected + moe.shared(x)[0]
    torch.testing.assert_close(y[0], expected)
    assert (chosen == 1).any(dim=1).all(), "the bias decides the choice"
    assert stats.load_E.tolist() == torch.bincount(chosen.flatten(), minlength=4).tolist()
    probe = torch.randn(6, 16, generator=seeded(2))
    inputs = (x, moe.router.weight_ED, *moe.experts.parameters())
    for mine, theirs in zip(
        torch.autograd.grad((y[0] * probe).sum(), inputs),
        torch.autograd.grad((expected * probe).sum(), inputs),
        strict=True,
    ):
        assert mine.abs().max() > 0
        torch.testing.assert_close(mine, theirs)


def test_the_router_sees_the_normalised_input() -> None:
    """Whatever the scale of the residual stream, the choice stays: it is made behind the norm."""
    llm = make_llm()
    layer = llm.model.layers[1]
    seen: list[Tensor] = []
    layer.feed_forward.router.register_forward_hook(lambda _, inputs, routing: seen.extend([inputs[0], routing[0]]))
    with torch.no_grad():
        layer.attention.o_proj.weight.zero_()  # what is normalised is the layer's own input, then
        perturb(layer.feed_forward_norm)
        x = torch.randn(2, 5, 32, generator=seeded(1))
        rotary = llm.model.rope(torch.arange(5).unsqueeze(0))
        for scale in (1.0, 50.0):
            layer(x * scale, rotary, AttentionMask(), None)
    inputs, weights, inputs_scaled, weights_scaled = seen
    by_hand = x * x.pow(2).mean(-1, keepdim=True).add(llm.config.rms_norm_eps).rsqrt() * layer.feed_forward_norm.weight
    torch.testing.assert_close(inputs, by_hand.flatten(0, 1))
    torch.testing.assert_close(inputs_scaled, inputs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights_scaled, weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 8, 36, 37, 100, None])
@pytest.mark.parametrize("ignored", ["some", "none", "all"])
def test_chunked_cross_entropy_equals_whole_logits(chunk: int | None, ignored: str) -> None:
    hidden = torch.randn(37, 16, generator=seeded(), requires_grad=True)
    table = torch.randn(50, 16, generator=seeded(1), requires_grad=True)
    labels = torch.randint(50, (37,), generator=seeded(2))
    if ignored != "none":
        labels[:: 5 if ignored == "some" else 1] = -100
    weights = torch.rand(37, generator=seeded(3)) + 0.5
    weights[3] = 0
    losses = F.cross_entropy(hidden @ table.t(), labels, reduction="none")
    expected = (losses * weights).sum() / 3
    got = linear_cross_entropy(hidden, table, labels, weights, chunk=chunk)
    torch.testing.assert_close(got.loss_sum / 3, expected)
    torch.testing.assert_close(got.token_losses_N, losses)
    assert not got.token_losses_N.requires_grad
    for mine, theirs in zip(
        torch.autograd.grad(got.loss_sum / 3, (hidden, table)),
        torch.autograd.grad(expected, (hidden, table)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("wanted", ["hidden", "table", "nothing"])
def test_chunked_cross_entropy_makes_the_gradients_that_are_wanted(wanted: str) -> None:
    hidden = torch.randn(37, 16, generator=seeded(), requires_grad=wanted == "hidden")
    table = torch.randn(50, 16, generator=seeded(1), requires_grad=wanted == "table")
    labels = torch.randint(50, (37,), generator=seeded(2))
    weights = torch.rand(37, generator=seeded(3))
    expected = (F.cross_entropy(hidden @ table.t(), labels, reduction="none") * weights).sum()
    got = linear_cross_entropy(hidden, table, labels, weights, chunk=8).loss_sum
    torch.testing.assert_close(got, expected)
    assert got.requires_grad is (wanted != "nothing")
    for tensor in (hidden, table):
        if tensor.requires_grad:
            [mine] = torch.autograd.grad(got, tensor)
            [theirs] = torch.autograd.grad(expected, tensor)
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
