"""Balance of experts: counters, bias, auxiliary loss."""

import pytest
import torch
from support.small_models import make_llm, random_ids, seeded

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.model.initialise import init_module
from xoron_core.model.layers.moe import MoE


def make_moe(**changes: object) -> MoE:
    moe = MoE(16, MoeConfig(**({"num_experts": 4, "top_k": 2, "expert_size": 8} | changes)))
    init_module(moe, seeded())
    return moe


def skew(moe: MoE) -> None:
    """Every token prefers expert 0, then 1."""
    with torch.no_grad():
        moe.router.weight_ED.mul_(10)
        moe.router.weight_ED[:, 0] = torch.tensor([3.0, 1.0, -1.0, -3.0])


def tokens(count: int = 512) -> torch.Tensor:
    x = torch.randn(1, count, 16, generator=seeded(1))
    x[..., 0] = 1.0
    return x


def test_loss_free_balance_evens_a_skewed_router() -> None:
    moe = make_moe(bias_update_rate=0.002)
    skew(moe)
    x = tokens()
    first = moe(x)[1].load_E
    assert first.max() / first.mean() > 1.7
    for _ in range(500):
        moe.record(moe(x)[1])
        moe.router.update_bias()
    last = moe(x)[1].load_E
    assert last.sum() == 1024, "no token is dropped"
    assert last.max() / last.mean() < 1.1


@pytest.mark.parametrize(("num_experts", "top_k", "updates"), [(4, 2, 600), (8, 2, 1200), (16, 4, 1200)])
def test_updates_of_the_bias_alone_even_the_load_of_tokens_not_seen(num_experts: int, top_k: int, updates: int) -> None:
    """From at least twice the mean load to 1.1 times that within so many updates at the default rate of 0.001, with new
    tokens each time; sigmoid scores differ by less than 1, so a thousand or so bridge any difference."""
    moe = make_moe(num_experts=num_experts, top_k=top_k)
    with torch.no_grad():
        moe.router.weight_ED.mul_(10)
        moe.router.weight_ED[:, 0] = torch.linspace(2.0, -2.0, num_experts)
    generator = seeded(3)

    def load(count: int) -> torch.Tensor:
        x = torch.randn(1, count, 16, generator=generator)
        x[..., 0] = 1.0
        moe.record(moe.router(x[0], None).stats)
        return moe.router.load_E.clone()

    first = load(8192)
    assert first.max() / first.mean() >= 2.0 - 0.05 * (num_experts == 4)  # 2 of 4 cannot be more than twice the mean
    moe.router.load_E.zero_()
    for _ in range(updates):
        load(512)
        moe.router.update_bias()
    last = load(8192)
    assert last.sum() == 8192 * top_k, "no token is dropped"
    assert last.max() / last.mean() <= 1.1
    assert last.min() / last.mean() >= 0.9


def test_counters_add_up_over_passes_and_start_anew_after_the_step() -> None:
    moe = make_moe()
    x = tokens(16)
    for _ in range(3):
        moe.record(moe(x)[1])
    assert moe.router.load_E.sum() == 3 * 16 * 2
    moe.router.update_bias()
    assert moe.router.load_E.sum() == 0
    assert moe.router.last_load_E.sum() == 3 * 16 * 2
    before = moe.router.bias_E.clone()
    moe.router.update_bias()
    assert torch.equal(moe.router.bias_E, before), "a step that did not come through here changes nothing"
    assert moe.router.last_load_E.sum() == 3 * 16 * 2


def test_evaluation_and_padding_do_not_count() -> None:
    moe = make_moe()
    x = tokens(16)
    valid = torch.ones(1, 16, dtype=torch.bool)
    valid[:, 10:] = False
    moe.record(moe(x, valid)[1])
    assert moe.router.load_E.sum() == 10 * 2
    moe.eval()
    moe.record(moe(x)[1])
    assert moe.router.load_E.sum() == 10 * 2


def test_checkpointed_layers_count_once() -> None:
    llm = make_llm()
    llm.gradient_checkpointing_enable()
    ids = random_ids(2, 8)
    llm(ids, labels_BT=ids).loss_sum.backward()
    moe = llm.model.layers[1].feed_forward
    assert moe.router.load_E.sum() == 2 * 8 * 2


def test_metrics_tell_even_from_one_sided() -> None:
    router = make_moe().router
    router.load_E.fill_(5.0)
    router.update_bias()
    assert router.metrics()["load_max"] == 1
    torch.testing.assert_close(router.metrics()["entropy"], torch.tensor(1.0))
    router.load_E.copy_(torch.tensor([9.0, 0.0, 0.0, 0.0]))
    router.update_bias()
    assert router.metrics()["load_max"] == 4
    assert router.metrics()["entropy"] == 0


def test_auxiliary_loss_is_its_weight_when_even_and_its_gradient_evens() -> None:
    moe = make_moe(balance="aux_loss", aux_loss_weight=0.5)
    with torch.no_grad():
        moe.router.weight_ED.zero_()
    torch.testing.assert_close(moe(tokens())[1].aux_loss, torch.tensor(0.5))
    skew(moe)
    x = tokens()
    first = moe(x)[1]
    assert first.aux_loss > 0.55
    optimizer = torch.optim.SGD([moe.router.weight_ED], lr=1.0)
    for _ in range(100):
        moe(x)[1].aux_loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert moe(x)[1].aux_loss < first.aux_loss - 0.03
    moe.router.load_E.fill_(1.0)
    moe.router.load_E[0] = 9.0
    moe.router.update_bias()
    assert moe.router.bias_E.abs().sum() == 0, "only one kind of balance works at a time"


def test_loss_free_balance_has_no_auxiliary_loss() -> None:
    assert make_moe()(tokens())[1].aux_loss == 0


def test_the_router_stays_in_fp32_under_autocast() -> None:
    moe = make_moe()
    x = tokens(64)
    exact = moe.router(x[0], None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = moe.router(x[0], None)
    assert torch.equal(exact.weights_NK, mixed.weights_NK)
    assert torch.equal(exact.experts_NK, mixed.experts_NK)


def test_the_router_may_see_something_else_than_the_tokens() -> None:
    moe = make_moe()
    x = tokens(16)
    own, _ = moe(x)
    torch.testing.assert_close(moe(x, router_input_BTD=x)[0], own, rtol=0, atol=0)
    other = torch.randn(x.shape, generator=seeded(2))
    moved, stats = moe(x, router_input_BTD=other)
    assert torch.equal(stats.load_E, moe(other)[1].load_E)
    assert not torch.allclose(moved, own)
