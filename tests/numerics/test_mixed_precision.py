"""What has to be computed in fp32 is, also where tensors are bfloat16 or autocast makes them so.

Each case is one that bfloat16 would get visibly wrong: its eight bits of mantissa hold no position above 256, no sum of
2,000 equal shares, no loss to three digits.
"""

import pytest
import torch
import torch.nn.functional as F
from support.small_models import make_llm, make_xoron, random_ids, seeded
from torch import Tensor

from xoron_core.contract.config.model import RopeConfig
from xoron_core.model.cross_entropy import linear_cross_entropy
from xoron_core.model.layers.attention import LatentAttention
from xoron_core.model.layers.attention_mask import AttentionMask, attend
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.layers.rope import YarnRope, rotate

STEP = 2**-8
"""Largest relative error of a number that is rounded to bfloat16 once."""


def autocast() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def assert_rounded_once(got: Tensor, exact: Tensor) -> None:
    """Within the rounding of the result itself, a little of fp32's own noise allowed."""
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), exact.double(), rtol=1.01 * STEP, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_of_narrow_inputs_sums_in_fp32(dtype: torch.dtype) -> None:
    """It gives what its scale is: fp32 under autocast, also where no gradient is wanted, else the model's own."""
    norm = RMSNorm(4096, eps=1e-6)
    torch.nn.init.normal_(norm.weight, 1.0, 0.3, generator=seeded())
    norm.to(dtype)
    x = (3 * torch.randn(8, 4096, generator=seeded(1))).bfloat16().requires_grad_()
    wide = x.detach().double().requires_grad_()
    scale = norm.weight.detach().double().requires_grad_()
    exact = wide * wide.pow(2).mean(-1, keepdim=True).add(1e-6).rsqrt() * scale
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.float32):
        got = norm(x)
        with torch.no_grad():
            assert torch.equal(norm(x), got)
    assert got.dtype == dtype
    # twice rounded in bfloat16: normalised, then scaled
    torch.testing.assert_close(got.double(), exact, rtol=1e-5 if dtype == torch.float32 else 2.02 * STEP, atol=1e-6)
    probe = torch.randn(8, 4096, generator=seeded(2)).to(dtype)
    mine = torch.autograd.grad((got * probe).float().sum(), (x, norm.weight))
    theirs = torch.autograd.grad((exact * probe.double()).sum(), (wide, scale))
    assert [gradient.dtype for gradient in mine] == [torch.bfloat16, dtype]
    for own, other in zip(mine, theirs, strict=True):
        assert (own.double() - other).norm() <= 0.005 * other.norm()


@pytest.mark.parametrize("first", [0, 257, 100_001])
def test_rotary_angles_are_exact_at_any_position(first: int) -> None:
    rope = YarnRope(64, RopeConfig(), 131_072)
    q = torch.randn(1, 16, 2, 64, generator=seeded()).bfloat16()
    positions = torch.arange(first, first + 16).unsqueeze(0)
    with autocast():
        got = rotate(q, rope(positions))
    angles = (positions.float().unsqueeze(-1) * rope.frequencies_R).double().unsqueeze(-2)  # fp32's angles are given
    a, b = q.double().chunk(2, dim=-1)
    exact = torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), dim=-1)
    assert_rounded_once(got, exact)
    assert rope.bfloat16()(positions).cos_BTR.dtype == torch.float32, "also in a model of narrow weights"


@pytest.mark.parametrize("masked", [False, True])
def test_attention_sums_many_small_shares(masked: bool) -> None:
    """The last of 2,048 queries sees as many equal keys: in bfloat16 their shares would stop adding up."""
    q = torch.zeros(1, 2, 2048, 16, dtype=torch.bfloat16)
    v = torch.ones_like(q)
    seen = torch.ones(1, 1, 2048, 2048, dtype=torch.bool).tril()
    with autocast():
        got = attend(q, q, v, AttentionMask(dense_B1TT=seen if masked else None), scale=0.25)
    assert_rounded_once(got, v)


def test_absorbed_attention_sums_many_small_shares() -> None:
    """One new token over 3,000 cached ones whose latents are alike: the mixture is that latent again."""
    attention = make_llm(kv_lora_rank=16).model.layers[0].attention
    assert isinstance(attention, LatentAttention)
    latent = torch.randn(1, 1, 16, generator=seeded()).bfloat16()
    seen = torch.cat((latent, torch.zeros(1, 1, 8)), dim=-1).expand(1, 3000, -1).bfloat16()
    q_nope, q_rope = torch.randn(2, 1, 1, 4, 8, generator=seeded(1)).bfloat16().unbind()
    with autocast(), torch.no_grad():
        got = attention._attend_absorbed(q_nope, q_rope, seen, AttentionMask())
    values = attention.kv_up_proj.weight.view(4, 16, 16)[:, 8:].detach()
    exact = torch.einsum("hvc,c->hv", values.bfloat16().double(), latent[0, 0].double())
    torch.testing.assert_close(got[0, 0].double(), exact, rtol=0.02, atol=0.004)


@pytest.mark.parametrize("needs_gradient", [True, False])
def test_cross_entropy_is_fp32_behind_the_logits(needs_gradient: bool) -> None:
    hidden = torch.randn(300, 32, generator=seeded(), requires_grad=needs_gradient)
    table = torch.randn(1000, 32, generator=seeded(1))
    labels = torch.randint(1000, (300,), generator=seeded(2))
    weights = torch.rand(300, generator=seeded(3))
    with autocast():
        got = linear_cross_entropy(hidden, table, labels, weights, chunk=64)
    logits = (hidden.detach().bfloat16() @ table.bfloat16().t()).double()
    exact = F.cross_entropy(logits, labels, reduction="none")
    assert got.token_losses_N.dtype == got.loss_sum.dtype == torch.float32
    torch.testing.assert_close(got.token_losses_N.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.loss_sum.double(), (exact * weights).sum(), rtol=1e-5, atol=0)


def losses_and_gradients(kind: str, *, is_mixed: bool) -> tuple[Tensor, dict[str, Tensor]]:
    llm = make_llm(attention=kind, initializer_range=0.1)
    ids = random_ids(4, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_mixed):
        out = llm(ids, labels_BT=ids)
    assert out.loss_sum is not None and out.weight_sum is not None and out.token_losses_BT is not None
    assert (out.loss_sum.dtype, out.token_losses_BT.dtype, out.aux_loss.dtype) == (torch.float32,) * 3
    (out.loss_sum / out.weight_sum).backward()
    gradients = {name: parameter.grad for name, parameter in llm.named_parameters()}
    assert all(gradient.dtype == torch.float32 for gradient in gradients.values())
    return (out.loss_sum / out.weight_sum).detach(), gradients


@pytest.mark.parametrize("kind", ["mla", "gqa"])
def test_a_mixed_pass_is_close_to_an_exact_one(kind: str) -> None:
    exact, gradients = losses_and_gradients(kind, is_mixed=False)
    mixed, mixed_gradients = losses_and_gradients(kind, is_mixed=True)
    torch.testing.assert_close(mixed, exact, rtol=2e-3, atol=0)
    for name, gradient in gradients.items():
        if "experts" not in name and "router" not in name:  # a choice that falls otherwise moves those by much
            assert F.cosine_similarity(mixed_gradients[name].flatten(), gradient.flatten(), dim=0) > 0.99, name


def test_the_residual_stream_stays_in_fp32() -> None:
    llm = make_llm()
    seen: dict[str, torch.dtype] = {}
    for index, layer in enumerate(llm.model.layers):
        layer.register_forward_hook(lambda _, __, out, index=index: seen.update({f"layer {index}": out[0].dtype}))
    with autocast():
        out = llm(random_ids(2, 8), return_logits=True)
    assert seen == {"layer 0": torch.float32, "layer 1": torch.float32}
    assert out.hidden_states_BTD.dtype == torch.float32


def test_generation_works_in_mixed_precision() -> None:
    llm = make_xoron().llm.eval()
    with autocast():
        made = llm.generate(random_ids(2, 5), max_new_tokens=6, temperature=0.0)
    assert made.shape == (2, 11)
