"""What training will take of a GPU's memory, from a model that has none itself (meta device).

Exact are weights, gradients and optimizer states. Activations are those of a micro-batch of text; other modalities'
are not told. They are added up as if all were there at once, and before a compiler has fused anything: an upper figure.

Bytes a token, where e is the size of what is computed (2 under bf16 or fp16), s that of the residual stream, D the
width, H heads, N and R their widths without and with position, V that of values, C the latent width, I the hidden
width of the feed-forward, K routed experts a token, S shared ones, F their hidden width:

    latent attention   s·D + e·(2·D + H·(3·N + 2·R + 2·V) + 2·C + R)
    grouped attention  s·D + e·(3·D + 2·H·W + 2·G·W)          W width of a head, G key-value heads
    feed-forward       s·D + e·(2·D + 4·I)
    experts            (s + 4)·D + e·(2·K·D + 4·K·F) + (e·(2·D + 4·S·F) with shared experts)

Each product keeps a copy of its own of a normalised input that is cast (the 2·D and 3·D); uncast they share one. With
recomputation only s·D of each layer stays, and a single layer is there in full.
"""

from dataclasses import dataclass

from torch import nn

from xoron_core.contract.config.model import LanguageModelConfig
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.config.training import TrainingConfig
from xoron_core.model.cross_entropy import chunk_tokens
from xoron_core.model.flops import has_experts, table_rows
from xoron_core.model.layers.moe import Experts
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.trained_parameters import num_adapter_parameters, num_trained

_FLOAT32 = 4
_EIGHT_BIT_STATES = 2 + 2 * _FLOAT32 / 256
"""Bytes a parameter: two moments of a byte, and a scale for every 256 values of each."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one GPU (every rank of several has as much)."""

    weights: int
    """Parameters and buffers."""
    gradients: int
    """One for each trained parameter."""
    optimizer: int
    """Moments, and the masters of weights that are kept in half precision."""
    casts: int
    """Copies of the language model's weights in the precision that a pass computes in."""
    activations: int
    """What a forward pass of text keeps for the backward pass."""
    cross_entropy: int
    """Logits of a chunk of tokens, and the table's gradient."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.casts + self.activations + self.cross_entropy


def estimate_memory(config: RunConfig, model: XoronMultimodalModel, *, device_type: str = "cuda") -> MemoryEstimate:
    """What training `model` as `config` says takes on such a device; the model may be on the meta device."""
    training = config.training
    kept = 2 if training.model_dtype == "float16" else _FLOAT32
    computed = _computed_bytes(training, device_type)
    trained = num_trained(config, model)
    batch_size = config.modalities.text.batch_size or training.batch_size
    num_tokens = batch_size * training.max_seq_length
    tensors = [*model.parameters(), *model.buffers()]
    return MemoryEstimate(
        weights=kept * (sum(tensor.numel() for tensor in tensors) + num_adapter_parameters(config.lora, model.llm)),
        gradients=_FLOAT32 * trained,
        optimizer=round(_state_bytes(training) * trained),
        casts=_cast_bytes(training, model.llm, computed) if computed < kept else 0,
        activations=activation_bytes(
            config.model.language,
            num_tokens,
            kept=kept,
            computed=computed,
            is_recomputed=is_recomputed(training, "llm"),
        ),
        cross_entropy=cross_entropy_bytes(
            config.model.language.hidden_size,
            table_rows(model.llm.vocab_size),
            num_tokens,
            computed=computed,
            device_type=device_type,
        ),
    )


def activation_bytes(
    config: LanguageModelConfig, num_tokens: int, *, kept: int, computed: int, is_recomputed: bool
) -> int:
    """What the language model's forward pass keeps for its backward pass; the formula stands above."""
    hidden = config.hidden_size
    layers = [_layer_bytes(config, layer, kept, computed) for layer in range(config.num_layers)]
    inside = config.num_layers * kept * hidden + max(layers) if is_recomputed else sum(layers)
    # the final norm's input and output, and the gradient that the cross-entropy prepares
    return num_tokens * (inside + 3 * kept * hidden)


def cross_entropy_bytes(hidden_size: int, num_rows: int, num_tokens: int, *, computed: int, device_type: str) -> int:
    """Logits and their gradient for one chunk of tokens, on the CPU log-probabilities, too; the table, cast, and its
    gradient."""
    is_cast = computed < _FLOAT32
    at_a_time = min(num_tokens, chunk_tokens(num_rows, device_type))
    chunk = at_a_time * num_rows * (2 * computed + (0 if device_type == "cuda" or not is_cast else _FLOAT32))
    return chunk + num_rows * hidden_size * (_FLOAT32 + (2 * computed if is_cast else 0))


def is_recomputed(training: TrainingConfig, component: str) -> bool:
    """Whether a component's layers are recomputed in the backward pass."""
    chosen = training.checkpointed_components
    return training.gradient_checkpointing and (chosen is None or component in chosen)


def _computed_bytes(training: TrainingConfig, device_type: str) -> int:
    """Size of a value that a product makes."""
    is_half = training.model_dtype == "float16" or (device_type == "cuda" and (training.bf16 or training.fp16))
    return 2 if is_half else _FLOAT32


def _state_bytes(training: TrainingConfig) -> float:
    """Optimizer states of one parameter."""
    if training.model_dtype == "float16":
        return 3 * _FLOAT32
    return _EIGHT_BIT_STATES if training.use_8bit_optimizer else 2 * _FLOAT32


def _cast_bytes(training: TrainingConfig, llm: nn.Module, computed: int) -> int:
    """Autocast keeps its copies of linear layers' weights for the pass; those of experts live as long as what their
    layer keeps."""
    experts = [_size(module) for module in llm.modules() if isinstance(module, Experts)]
    linears = sum(_size(module) for module in llm.modules() if isinstance(module, nn.Linear))
    held = max(experts, default=0) if is_recomputed(training, "llm") else sum(experts)
    return computed * (linears + held)


def _layer_bytes(config: LanguageModelConfig, layer: int, kept: int, computed: int) -> int:
    """Bytes a token of one layer."""
    hidden, moe = config.hidden_size, config.moe
    is_cast = computed < kept
    attention_reads, attention = _attention_values(config)
    total = kept * hidden + computed * (hidden * (attention_reads if is_cast else 1) + attention)
    if not has_experts(config, layer):
        reads = 2 if is_cast else 1
        return total + kept * hidden + computed * (reads * hidden + 4 * config.intermediate_size)
    total += (kept + _FLOAT32) * hidden + computed * moe.top_k * (2 * hidden + 4 * moe.expert_size)
    if moe.num_shared_experts:
        reads = 2 if is_cast else int(computed < _FLOAT32)  # in float32 they read what the router reads
        total += computed * (reads * hidden + 4 * moe.num_shared_experts * moe.expert_size)
    return total


def _attention_values(config: LanguageModelConfig) -> tuple[int, int]:
    """Products that read the normalised input, and values kept of a token besides that."""
    heads = config.num_heads
    if config.attention == "gqa":
        return 3, 2 * config.head_dim * (heads + config.num_kv_heads)
    nope, rope, value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
    return 2, heads * (3 * nope + 2 * rope + 2 * value) + 2 * config.kv_lora_rank + rope


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
