"""Attention, masks and rotary positions against plain references."""

import pytest
import torch
import torch.nn.functional as F
from support.small_models import language_config, make_llm, perturb, random_ids, seeded
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask

from xoron_core.contract.config.model import RopeConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.model.layers.attention import LatentAttention, make_attention
from xoron_core.model.layers.attention_mask import (
    AttentionMask,
    _block_mask,
    attend,
    dense_mask,
    make_attention_mask,
)
from xoron_core.model.layers.kv_cache import KeyValueCache
from xoron_core.model.layers.rope import Rotary, YarnRope, grid_rotary, grid_rotary_3d, rotate, yarn_frequencies

CPU = torch.device("cpu")


def test_without_longer_positions_yarn_is_plain_rope() -> None:
    got, factor = yarn_frequencies(8, RopeConfig(theta=100.0, original_max_position=64), 64)
    torch.testing.assert_close(got, 100.0 ** -(torch.arange(0, 8, 2) / 8))
    assert factor == 1.0


def test_rotated_products_depend_on_distance_only() -> None:
    rope = YarnRope(8, RopeConfig(original_max_position=64), 256)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=seeded()).unbind()

    def product(query: int, key: int) -> torch.Tensor:
        turned_q = rotate(q, rope(torch.tensor([[query]])))
        return (turned_q * rotate(k, rope(torch.tensor([[key]])))).sum()

    torch.testing.assert_close(product(7, 3), product(107, 103), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(product(7, 3), product(7, 4), atol=1e-3)


def test_grid_rotation_depends_on_offsets_in_both_axes() -> None:
    rotary = grid_rotary(4, 5, 8, CPU)
    q, k = torch.randn(2, 8, generator=seeded()).unbind()
    turned_q = rotate(q.expand(1, 20, 1, 8), rotary).view(4, 5, 8)
    turned_k = rotate(k.expand(1, 20, 1, 8), rotary).view(4, 5, 8)

    def product(a: tuple[int, int], b: tuple[int, int]) -> torch.Tensor:
        return (turned_q[a] * turned_k[b]).sum()

    torch.testing.assert_close(product((1, 1), (0, 3)), product((3, 2), (2, 4)), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(product((1, 1), (0, 3)), product((1, 1), (1, 3)), atol=1e-3)
    assert not torch.allclose(product((1, 1), (0, 3)), product((1, 1), (0, 2)), atol=1e-3)


@pytest.mark.parametrize("width", [6, 8, 10, 32])
def test_clip_rotation_depends_on_offsets_in_all_three_axes(width: int) -> None:
    rotary = grid_rotary_3d(3, 4, 5, width, CPU)
    q, k = torch.randn(2, width, generator=seeded()).unbind()
    turned_q = rotate(q.expand(1, 60, 1, width), rotary).view(3, 4, 5, width)
    turned_k = rotate(k.expand(1, 60, 1, width), rotary).view(3, 4, 5, width)

    def product(a: tuple[int, int, int], b: tuple[int, int, int]) -> torch.Tensor:
        return (turned_q[a] * turned_k[b]).sum()

    base = product((0, 1, 1), (1, 0, 3))
    torch.testing.assert_close(product((1, 3, 2), (2, 2, 4)), base, rtol=1e-4, atol=1e-5)
    for other in ((2, 0, 3), (1, 1, 3), (1, 0, 2)):
        assert not torch.allclose(product((0, 1, 1), other), base, atol=1e-3)


@pytest.mark.parametrize("width", [4, 7])
def test_a_head_without_room_for_three_axes_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match="6 at least"):
        grid_rotary_3d(2, 2, 2, width, CPU)


PACKED = [[0] * 4 + [1] * 1 + [2] * 7, [3] * 2 + [4] * 7 + [-1] * 3]


def attended_by_loops(q: Tensor, k: Tensor, v: Tensor, window: int | None, documents: list[list[int]]) -> Tensor:
    """Query by query, head by head: the softmax over those keys that the rule lets it see."""
    group = q.shape[1] // k.shape[1]
    rows = []
    for row in range(len(q)):
        heads = []
        for head in range(q.shape[1]):
            keys, values = k[row, head // group], v[row, head // group]
            out = []
            for query in range(q.shape[2]):
                seen = [
                    key
                    for key in range(query + 1)
                    if (window is None or query - key < window) and documents[row][key] == documents[row][query]
                ]
                weights = (keys[seen] @ q[row, head, query]).mul(0.5).softmax(0)
                out.append(weights @ values[seen])
            heads.append(torch.stack(out))
        rows.append(torch.stack(heads))
    return torch.stack(rows)


@pytest.mark.parametrize("window", [None, 1, 3, 6, 20])
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_window_and_documents_equal_loops(window: int | None, num_kv_heads: int) -> None:
    """Windows below, between and above the lengths of documents; values and gradients, groups of 4, 2 and 1 heads."""
    q = torch.randn(2, 4, 12, 6, generator=seeded(), requires_grad=True)
    k, v = (torch.randn(2, num_kv_heads, 12, 6, generator=seeded(seed), requires_grad=True) for seed in (1, 2))
    probe = torch.randn(2, 4, 12, 6, generator=seeded(3))
    got = attend(q, k, v, make_attention_mask(torch.tensor(PACKED), 12, window, CPU), scale=0.5)
    expected = attended_by_loops(q, k, v, window, PACKED)
    torch.testing.assert_close(got, expected)
    for mine, theirs in zip(
        torch.autograd.grad((got * probe).sum(), (q, k, v)),
        torch.autograd.grad((expected * probe).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("window", [None, 1, 5, 200])
@pytest.mark.parametrize("is_packed", [False, True])
def test_the_blocks_of_a_gpu_say_what_the_dense_mask_says(window: int | None, is_packed: bool) -> None:
    """FlexAttention is given the rule as a function, which needs no GPU to be asked."""
    documents = torch.tensor([[0] * 70 + [1] * 3 + [2] * 77, [4] * 140 + [-1] * 10]) if is_packed else None
    dense = dense_mask(documents, 150, window, CPU)
    blocks = _block_mask(documents, 150, window, CPU)
    assert torch.equal(create_mask(blocks.mask_mod, len(dense), 1, 150, 150, device="cpu"), dense)
    padded = F.pad(dense, (0, 106, 0, 106)).view(len(dense), 1, 2, 128, 2, 128)
    assert torch.equal(blocks.to_dense().bool(), padded.any(dim=5).any(dim=3)), "a block with a visible pair is read"


def test_a_window_no_shorter_than_the_row_is_plain_causal() -> None:
    assert make_attention_mask(None, 8, 8, CPU) == AttentionMask()
    assert make_attention_mask(None, 9, 8, CPU).dense_B1TT is not None


def test_the_cpu_refuses_masks_over_2048_tokens() -> None:
    with pytest.raises(ConfigError, match=r"max_seq_length.*2048.*2049"):
        make_attention_mask(None, 2049, 16, CPU)
    make_attention_mask(None, 4096, None, CPU)


@pytest.mark.parametrize("kind", ["mla", "gqa"])
@pytest.mark.parametrize("window", [None, 1, 5, 20])
@pytest.mark.parametrize("num_first", [1, 3, 11])
def test_token_by_token_equals_the_whole_row(kind: str, window: int | None, num_first: int) -> None:
    """For latent attention: the absorbed form over cached latents equals expanded keys and values, from prompts shorter
    and longer than the window up to positions beyond those that the frequencies were made for."""
    num_tokens = 40
    config = language_config(attention=kind, sliding_window=window)
    rope = YarnRope(8, config.rope, config.max_position_embeddings)
    attention = make_attention(config, 0, rope.attention_factor)
    perturb(attention)
    x = torch.randn(2, num_tokens, 32, generator=seeded())

    def turned(start: int, end: int) -> Rotary:
        return rope(torch.arange(start, end).unsqueeze(0))

    with torch.no_grad():
        mask = make_attention_mask(None, num_tokens, window, CPU)
        whole = attention(x, turned(0, num_tokens), mask)
        cache = KeyValueCache(1, 2, num_tokens, attention.cache_width, like=x)
        mask = make_attention_mask(None, num_first, window, CPU)
        pieces = [attention(x[:, :num_first], turned(0, num_first), mask, cache)]
        cache.num_tokens = num_first
        for at in range(num_first, num_tokens):
            pieces.append(attention(x[:, at : at + 1], turned(at, at + 1), AttentionMask(), cache))
            cache.num_tokens += 1
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-4, atol=1e-5)


def test_the_latent_cache_is_small() -> None:
    attention = LatentAttention(language_config(), 0, 1.0)
    assert attention.cache_width == 16 + 8


def test_yarn_factor_enters_scores_as_transformers_scales_cosines() -> None:
    config = language_config(attention="gqa")
    rope = YarnRope(8, config.rope, config.max_position_embeddings)
    attention = make_attention(config, 0, rope.attention_factor)
    assert rope.attention_factor > 1
    assert attention.scale == pytest.approx(8**-0.5 * rope.attention_factor**2)


@pytest.mark.parametrize("kind", ["mla", "gqa"])
def test_packed_documents_equal_single_documents(kind: str) -> None:
    llm = make_llm(attention=kind, sliding_window=6).eval()
    first, second = random_ids(1, 9), random_ids(1, 7, seed=2)
    documents = torch.tensor([[0] * 9 + [1] * 7])
    with torch.no_grad():
        packed = llm(torch.cat((first, second), dim=1), document_ids_BT=documents).hidden_states_BTD
        torch.testing.assert_close(packed[:, :9], llm(first).hidden_states_BTD, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(packed[:, 9:], llm(second).hidden_states_BTD, rtol=1e-4, atol=1e-5)
