"""Against transformers: its layers, and whole models of its kinds with the decoder's own weights copied into them."""

import re
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.small_models import VOCAB_SIZE, make_llm, perturb, random_ids, seeded
from torch import Tensor, nn

from xoron_core.contract.config.model import RopeConfig
from xoron_core.contract.config.moe import MoeConfig
from xoron_core.model.initialise import init_module
from xoron_core.model.language_model import LanguageModel
from xoron_core.model.layers.feed_forward import SwiGLU
from xoron_core.model.layers.moe import Router
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.layers.rope import yarn_frequencies

NUM_TOKENS = 40
"""Longer than the 32 positions that the small decoder's frequencies are made for."""
DOCUMENTS = [[0] * 17 + [1] * 4 + [2] * 19, [5] * 9 + [3] * 25 + [-1] * 6]
"""Two packed rows, the second with padding at its end."""


def yarn(theta: float, original: int, longest: int) -> dict[str, Any]:
    return {
        "rope_type": "yarn",
        "rope_theta": theta,
        "factor": longest / original,
        "original_max_position_embeddings": original,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
    }


@pytest.mark.parametrize(
    ("theta", "original", "longest", "width"),
    [
        (10_000.0, 1024, 4096, 16),
        (500_000.0, 8192, 131_072, 32),
        (500_000.0, 8192, 131_072, 64),
        (100.0, 8, 24, 8),
    ],
)
def test_yarn_equals_transformers(theta: float, original: int, longest: int, width: int) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(
        hidden_size=4 * width,
        num_attention_heads=4,
        head_dim=width,
        max_position_embeddings=longest,
        rope_parameters=yarn(theta, original, longest),
    )
    expected, expected_factor = ROPE_INIT_FUNCTIONS["yarn"](config)
    got, factor = yarn_frequencies(width, RopeConfig(theta=theta, original_max_position=original), longest)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
    assert factor == pytest.approx(expected_factor)


@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_rms_norm_equals_transformers(eps: float) -> None:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    theirs, ours = LlamaRMSNorm(16, eps=eps), RMSNorm(16, eps=eps)
    perturb(theirs)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 16, generator=seeded(1), requires_grad=True)
    probe = torch.randn(2, 3, 16, generator=seeded(2))
    torch.testing.assert_close(ours(x), theirs(x))
    _assert_same_gradients((ours(x) * probe).sum(), (x, ours.weight), (theirs(x) * probe).sum(), (x, theirs.weight))


def test_swiglu_equals_transformers() -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    theirs = LlamaMLP(LlamaConfig(hidden_size=16, num_attention_heads=2, intermediate_size=24, hidden_act="silu"))
    ours = SwiGLU(16, 24)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 16, generator=seeded(), requires_grad=True)
    probe = torch.randn(2, 3, 16, generator=seeded(1))
    torch.testing.assert_close(ours(x), theirs(x))
    _assert_same_gradients(
        (ours(x) * probe).sum(), (x, *ours.parameters()), (theirs(x) * probe).sum(), (x, *theirs.parameters())
    )


def _assert_same_gradients(our_loss: Tensor, ours: Iterable[Tensor], their_loss: Tensor, theirs: Iterable[Tensor]):
    pairs = zip(torch.autograd.grad(our_loss, tuple(ours)), torch.autograd.grad(their_loss, tuple(theirs)), strict=True)
    for own, other in pairs:
        torch.testing.assert_close(own, other)


def test_the_auxiliary_loss_equals_that_of_transformers() -> None:
    """Theirs adds up a share for each of the K choices, ours is a mean over them."""
    from transformers.models.qwen2_moe.modeling_qwen2_moe import load_balancing_loss_func

    router = Router(16, MoeConfig(num_experts=6, top_k=3, balance="aux_loss", aux_loss_weight=0.5))
    init_module(router, seeded())
    x = torch.randn(50, 16, generator=seeded(1))
    with torch.no_grad():
        router.weight_ED[0, 0] = 2.0
        x[:, 0] = 1.0
    valid = torch.rand(50, generator=seeded(2)) > 0.3
    for mask in (None, valid):
        logits = F.linear(x, router.weight_ED)
        theirs = load_balancing_loss_func((logits,), 6, 3, None if mask is None else mask.long().unsqueeze(0))
        ours = router(x, mask).stats.aux_loss
        assert ours > 0.51, "the router is one-sided"
        torch.testing.assert_close(ours, 0.5 * theirs / 3)
        _assert_same_gradients(ours, (router.weight_ED,), 0.5 * theirs / 3, (router.weight_ED,))


RENAMED = (
    ("attention_norm", "input_layernorm"),
    ("feed_forward_norm", "post_attention_layernorm"),
    ("attention.kv_down_proj", "self_attn.kv_a_proj_with_mqa"),
    ("attention.kv_norm", "self_attn.kv_a_layernorm"),
    ("attention.kv_up_proj", "self_attn.kv_b_proj"),
    ("attention.", "self_attn."),
    ("feed_forward.router.weight_ED", "mlp.gate.weight"),
    ("feed_forward.experts.gate_up_EDF", "mlp.experts.gate_up_proj"),
    ("feed_forward.experts.down_EFD", "mlp.experts.down_proj"),
    ("feed_forward.shared.", "mlp.shared_expert."),
    ("feed_forward.", "mlp."),
)


class Twin:
    """A decoder of ours and a model of transformers that has the same weights, under its names and in its layout.

    Mapped are: experts' weights, which lie transposed there; the output of shared experts, which there goes through a
    sigmoid gate: with a gate of zeros it is halved, and twice as large before; the rotary planes of DeepSeek-V2, of
    which there are neighbours what here is a half's width apart.
    """

    def __init__(self, kind: str, **changes: Any) -> None:
        self.kind = kind
        self.ours = make_llm(initializer_range=0.15, **changes)
        perturb(self.ours)
        torch.nn.init.normal_(self.ours.model.norm.weight, generator=seeded(7))  # or it would say the same for ever
        self.theirs = _transformers_model(kind, self.ours)
        state = {self.their_name(name): self.as_theirs(name, p) for name, p in self.ours.named_parameters()}
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
        for name, tensor in self.theirs.state_dict().items():
            if name.endswith("shared_expert_gate.weight"):
                state[name] = torch.zeros_like(tensor)
        self.theirs.load_state_dict(state)

    @staticmethod
    def their_name(name: str) -> str:
        for own, other in RENAMED:
            if f".{own}" in name:
                return name.replace(f".{own}", f".{other}")
        return name

    def as_theirs(self, name: str, tensor: Tensor, *, is_gradient: bool = False) -> Tensor:
        """A weight or a gradient as it is over there."""
        tensor = tensor.detach()
        if name.endswith(("gate_up_EDF", "down_EFD")):
            return tensor.transpose(1, 2)
        if name.endswith("shared.down_proj.weight"):
            return tensor / 2 if is_gradient else tensor * 2
        config = self.ours.config
        if config.attention == "mla" and re.search(r"attention\.(q_proj|kv_down_proj)\.weight", name):
            heads = config.num_heads if "q_proj" in name else 1
            plain = config.qk_nope_head_dim if "q_proj" in name else config.kv_lora_rank
            rotary = config.qk_rope_head_dim
            order = [*range(plain), *(plain + at for pair in range(rotary // 2) for at in (pair, pair + rotary // 2))]
            return tensor.view(heads, plain + rotary, -1)[:, order].reshape(tensor.shape)
        return tensor

    def assert_same(self, ids: Tensor, documents: Tensor | None = None) -> None:
        """Logits, loss and every gradient agree, with documents and the window as a mask that is written out."""
        window = self.ours.config.sliding_window
        labels = ids.clone()
        seen = torch.ones_like(ids, dtype=torch.bool)
        options: dict[str, Any] = {}
        if documents is not None:
            seen = documents >= 0
            positions, mask, first = _written_out(documents.tolist(), window)
            labels[first | ~seen] = -100
            options = {"attention_mask": mask, "position_ids": positions}
        got = self.ours(ids, document_ids_BT=documents, labels_BT=labels, return_logits=True)
        expected = self.theirs(ids, labels=labels, use_cache=False, **options)
        assert got.logits_BTV is not None and got.loss_sum is not None and got.weight_sum is not None
        assert expected.logits[seen].std() > 0.5, "logits that say something"
        torch.testing.assert_close(got.logits_BTV[seen], expected.logits[seen], rtol=0, atol=1e-5)
        loss = got.loss_sum / got.weight_sum
        torch.testing.assert_close(loss, expected.loss, rtol=1e-5, atol=0)
        loss.backward()
        expected.loss.backward()
        theirs = dict(self.theirs.named_parameters())
        for name, parameter in self.ours.named_parameters():
            own, other = self.as_theirs(name, parameter.grad, is_gradient=True), theirs[self.their_name(name)].grad
            assert own.abs().max() > 0, name
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def _written_out(documents: list[list[int]], window: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """By loops: position within the document, additive mask [B, 1, T, T], and which tokens are a document's first."""
    positions, masks, firsts = [], [], []
    for row in documents:
        starts = [max(at for at in range(token + 1) if at == 0 or row[at] != row[at - 1]) for token in range(len(row))]
        positions.append([token - start for token, start in enumerate(starts)])
        firsts.append([token == start for token, start in enumerate(starts)])
        masks.append(
            [
                [
                    0.0 if start <= key <= query and (window is None or query - key < window) else float("-inf")
                    for key in range(len(row))
                ]
                for query, start in enumerate(starts)
            ]
        )
    return torch.tensor(positions), torch.tensor(masks).unsqueeze(1), torch.tensor(firsts)


def _transformers_model(kind: str, ours: LanguageModel) -> nn.Module:
    from transformers import (
        DeepseekV2Config,
        DeepseekV2ForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        Qwen2MoeConfig,
        Qwen2MoeForCausalLM,
    )

    config = ours.config
    rope = yarn(config.rope.theta, config.rope.original_max_position, config.max_position_embeddings)
    if rope["factor"] == 1:
        rope = {"rope_type": "default", "rope_theta": config.rope.theta}
    common = {
        "vocab_size": ours.model.embed_tokens.num_embeddings,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": rope,
        "tie_word_embeddings": True,
        "attn_implementation": "eager",
    }
    moe = config.moe
    match kind:
        case "llama":
            return LlamaForCausalLM(LlamaConfig(**common))
        case "mistral":
            return MistralForCausalLM(MistralConfig(**common, sliding_window=config.sliding_window))
        case "qwen2_moe":
            experts = {
                "num_experts": moe.num_experts,
                "num_experts_per_tok": moe.top_k,
                "norm_topk_prob": True,
                "moe_intermediate_size": moe.expert_size,
                "shared_expert_intermediate_size": moe.num_shared_experts * moe.expert_size,
                "decoder_sparse_step": config.moe_every,
                "qkv_bias": False,
            }
            return Qwen2MoeForCausalLM(Qwen2MoeConfig(**common, **experts))
        case _:
            # DeepSeek's two factors, both 1: all of the softmax is scaled, as here, and not the rotary part alone
            rope |= {"mscale": 1.0, "mscale_all_dim": 1.0} if rope["rope_type"] == "yarn" else {}
            latent = {
                "num_key_value_heads": config.num_heads,
                "q_lora_rank": None,
                "kv_lora_rank": config.kv_lora_rank,
                "qk_nope_head_dim": config.qk_nope_head_dim,
                "qk_rope_head_dim": config.qk_rope_head_dim,
                "v_head_dim": config.v_head_dim,
                "first_k_dense_replace": config.num_layers,
            }
            return DeepseekV2ForCausalLM(DeepseekV2Config(**(common | latent)))


LONG_ROPE = {"theta": 10_000.0, "original_max_position": 32}
SHORT_ROPE = {"theta": 10_000.0, "original_max_position": 128}


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("rope", [LONG_ROPE, SHORT_ROPE], ids=["yarn", "plain rope"])
def test_grouped_query_attention_equals_llama(num_kv_heads: int, rope: dict[str, float]) -> None:
    twin = Twin("llama", attention="gqa", moe_every=0, num_kv_heads=num_kv_heads, rope=rope, rms_norm_eps=1e-3)
    twin.assert_same(random_ids(2, NUM_TOKENS))


@pytest.mark.parametrize("window", [None, 1, 7, 30])
def test_window_and_documents_equal_llama_with_a_dense_mask(window: int | None) -> None:
    twin = Twin("llama", attention="gqa", moe_every=0, sliding_window=window)
    twin.assert_same(random_ids(2, NUM_TOKENS), torch.tensor(DOCUMENTS))


@pytest.mark.parametrize("window", [1, 7, 39])
def test_the_window_is_that_of_mistral(window: int) -> None:
    Twin("mistral", attention="gqa", moe_every=0, sliding_window=window).assert_same(random_ids(2, NUM_TOKENS))


def softmax_moe(**changes: Any) -> MoeConfig:
    """Qwen2-MoE's scores are a softmax, which here is the router's where the balance is an auxiliary loss."""
    return MoeConfig(**({"num_experts": 4, "top_k": 2, "expert_size": 24, "balance": "aux_loss"} | changes))


@pytest.mark.parametrize(
    "moe",
    [softmax_moe(), softmax_moe(num_experts=7, top_k=3, num_shared_experts=2), softmax_moe(top_k=4)],
    ids=["2 of 4", "3 of 7 and 2 shared", "4 of 4"],
)
@pytest.mark.parametrize("moe_every", [1, 2])
def test_experts_equal_qwen2_moe(moe: MoeConfig, moe_every: int) -> None:
    Twin("qwen2_moe", attention="gqa", moe=moe, moe_every=moe_every).assert_same(random_ids(2, NUM_TOKENS))


def test_experts_in_packed_rows_equal_qwen2_moe() -> None:
    twin = Twin("qwen2_moe", attention="gqa", moe=softmax_moe(), sliding_window=7)
    twin.assert_same(random_ids(2, NUM_TOKENS), torch.tensor(DOCUMENTS))


@pytest.mark.parametrize("rope", [LONG_ROPE, SHORT_ROPE], ids=["yarn", "plain rope"])
def test_latent_attention_equals_deepseek_v2(rope: dict[str, float]) -> None:
    Twin("deepseek_v2", moe_every=0, rope=rope, v_head_dim=12, qk_nope_head_dim=6).assert_same(
        random_ids(2, NUM_TOKENS)
    )


@pytest.mark.parametrize("window", [None, 7])
def test_latent_attention_in_packed_rows_equals_deepseek_v2(window: int | None) -> None:
    twin = Twin("deepseek_v2", moe_every=0, sliding_window=window)
    twin.assert_same(random_ids(2, NUM_TOKENS), torch.tensor(DOCUMENTS))


@pytest.mark.parametrize(("kind", "attention"), [("deepseek_v2", "mla"), ("llama", "gqa")])
def test_cached_generation_equals_uncached_passes_of_transformers(kind: str, attention: str) -> None:
    """For DeepSeek-V2: the absorbed form over cached latents against keys and values that are expanded each time."""
    twin = Twin(kind, attention=attention, moe_every=0)
    prompt = random_ids(2, 9)
    got = twin.ours.eval().generate(prompt, max_new_tokens=NUM_TOKENS - 9, temperature=0.0)
    tokens = prompt
    with torch.no_grad():
        while tokens.shape[1] < NUM_TOKENS:
            logits = twin.theirs(tokens, use_cache=False).logits[:, -1, :VOCAB_SIZE]
            tokens = torch.cat((tokens, logits.argmax(-1, keepdim=True)), dim=1)
    assert got.tolist() == tokens.tolist()
    assert len(set(got[:, 9:].flatten().tolist())) > 15
