"""Attention, masks and rotary positions against plain references."""

import pytest
import torch
from support.small_models import language_config, make_llm, random_ids, seeded

from xoron_core.contract.config.model import RopeConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.model.layers.attention import LatentAttention, make_attention
from xoron_core.model.layers.attention_mask import AttentionMask, attend, make_attention_mask
from xoron_core.model.layers.kv_cache import KeyValueCache
from xoron_core.model.layers.rope import YarnRope, grid_rotary, grid_rotary_3d, rotate, yarn_frequencies

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("theta", "original", "longest", "width"),
    [(10_000.0, 1024, 4096, 16), (500_000.0, 8192, 131_072, 32), (500_000.0, 8192, 131_072, 64)],
)
def test_yarn_equals_transformers(theta: float, original: int, longest: int, width: int) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(
        hidden_size=4 * width,
        num_attention_heads=4,
        head_dim=width,
        max_position_embeddings=longest,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": theta,
            "factor": longest / original,
            "original_max_position_embeddings": original,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
        },
    )
    expected, expected_factor = ROPE_INIT_FUNCTIONS["yarn"](config)
    got, factor = yarn_frequencies(width, RopeConfig(theta=theta, original_max_position=original), longest)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
    assert factor == pytest.approx(expected_factor)


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


def test_window_and_documents_equal_a_mask_written_by_loops() -> None:
    documents = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1], [3, 3, 4, 4, 4, 4, 4, -1]])
    window = 3
    q, k, v = torch.randn(3, 2, 2, 8, 4, generator=seeded()).unbind()
    got = attend(q, k, v, make_attention_mask(documents, 8, window, CPU), scale=0.5)
    for row in range(2):
        for query in range(8):
            seen = [
                key for key in range(query + 1) if query - key < window and documents[row, key] == documents[row, query]
            ]
            weights = (q[row, :, query, None] * k[row, :, seen]).sum(-1).mul(0.5).softmax(-1)
            expected = (weights.unsqueeze(-1) * v[row, :, seen]).sum(1)
            torch.testing.assert_close(got[row, :, query], expected)


def test_a_window_no_shorter_than_the_row_is_plain_causal() -> None:
    assert make_attention_mask(None, 8, 8, CPU) == AttentionMask()
    assert make_attention_mask(None, 9, 8, CPU).dense_B1TT is not None


def test_the_cpu_refuses_masks_over_2048_tokens() -> None:
    with pytest.raises(ConfigError, match=r"max_seq_length.*2048.*2049"):
        make_attention_mask(None, 2049, 16, CPU)
    make_attention_mask(None, 4096, None, CPU)


@pytest.mark.parametrize("kind", ["mla", "gqa"])
@pytest.mark.parametrize("window", [None, 5])
def test_token_by_token_equals_the_whole_row(kind: str, window: int | None) -> None:
    """For latent attention: the absorbed form over cached latents equals expanded keys and values."""
    config = language_config(attention=kind, sliding_window=window)
    rope = YarnRope(8, config.rope, config.max_position_embeddings)
    attention = make_attention(config, 0, rope.attention_factor)
    x = torch.randn(2, 12, 32, generator=seeded())
    with torch.no_grad():
        whole = attention(x, rope(torch.arange(12).unsqueeze(0)), make_attention_mask(None, 12, window, CPU))
        cache = KeyValueCache(1, 2, 12, attention.cache_width, like=x)
        first = attention(
            x[:, :7], rope(torch.arange(7).unsqueeze(0)), make_attention_mask(None, 7, window, CPU), cache
        )
        cache.num_tokens = 7
        pieces = [first]
        for position in range(7, 12):
            rotary = rope(torch.tensor([[position]]))
            pieces.append(attention(x[:, position : position + 1], rotary, AttentionMask(), cache))
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
