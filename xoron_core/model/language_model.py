"""The decoder: pre-norm layers of attention and feed-forward or experts, embedding and head tied.

Shapes: B batch, T tokens, D width, V vocabulary (padded), R half the rotary width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xoron_core.contract.config.model import LanguageModelConfig
from xoron_core.model import generation
from xoron_core.model.cross_entropy import IGNORED, linear_cross_entropy
from xoron_core.model.fusion import FusedMedia
from xoron_core.model.initialise import Initialised
from xoron_core.model.layers.attention import make_attention
from xoron_core.model.layers.attention_mask import AttentionMask, make_attention_mask
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.layers.feed_forward import SwiGLU
from xoron_core.model.layers.kv_cache import KeyValueCache
from xoron_core.model.layers.moe import MoE, RouterStats
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.layers.rope import Rotary, YarnRope

TABLE_MULTIPLE = 128
"""The table's rows are padded to a multiple of this: matrix products like it, and shards divide it."""


@dataclass(frozen=True)
class LanguageModelOutput:
    """What a pass gives; the loss fields are None without labels."""

    hidden_states_BTD: Tensor
    """After the final norm."""
    aux_loss: Tensor
    """Weighted balance loss of the experts, summed over layers; a scalar, zero where the balance is loss-free."""
    logits_BTV: Tensor | None = None
    """Only where asked for."""
    loss_sum: Tensor | None = None
    """Σ weight · cross-entropy over labels other than -100; a scalar."""
    weight_sum: Tensor | None = None
    """Σ weight over the same labels; a scalar."""
    token_losses_BT: Tensor | None = None
    """Unweighted loss of predicting the token at t from those before it; 0 where ignored; no gradient."""


class DecoderLayer(nn.Module):
    """Attention, then a feed-forward or experts, each normalised before and added after."""

    def __init__(self, config: LanguageModelConfig, layer: int, attention_factor: float) -> None:
        super().__init__()
        eps, hidden = config.rms_norm_eps, config.hidden_size
        self.attention_norm = RMSNorm(hidden, eps=eps)
        self.attention = make_attention(config, layer, attention_factor)
        self.feed_forward_norm = RMSNorm(hidden, eps=eps)
        self.feed_forward: MoE | SwiGLU
        if config.moe_every and (layer + 1) % config.moe_every == 0:
            self.feed_forward = MoE(hidden, config.moe, config.initializer_range)
        else:
            self.feed_forward = SwiGLU(hidden, config.intermediate_size)

    def forward(
        self,
        x_BTD: Tensor,
        rotary: Rotary,
        mask: AttentionMask,
        valid_BT: Tensor | None,
        cache: KeyValueCache | None = None,
    ) -> tuple[Tensor, RouterStats | None]:
        """[B, T, D] → the same, and the router's statistics where there are experts."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), rotary, mask, cache)
        normed_BTD = self.feed_forward_norm(x_BTD)
        if isinstance(self.feed_forward, MoE):
            y_BTD, stats = self.feed_forward(normed_BTD, valid_BT)
            return x_BTD + y_BTD, stats
        return x_BTD + self.feed_forward(normed_BTD), None


class Decoder(Checkpointed):
    """Embedding, layers, final norm."""

    def __init__(self, config: LanguageModelConfig, num_rows: int) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(num_rows, config.hidden_size)
        width = config.qk_rope_head_dim if config.attention == "mla" else config.head_dim
        self.rope = YarnRope(width, config.rope, config.max_position_embeddings)
        factor = self.rope.attention_factor
        self.layers = nn.ModuleList(DecoderLayer(config, layer, factor) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    @property
    def cache_width(self) -> int:
        """Values that generation keeps of a token in each layer."""
        first = self.layers[0]
        assert isinstance(first, DecoderLayer)
        return first.attention.cache_width

    def forward(
        self,
        x_BTD: Tensor,
        positions_BT: Tensor,
        mask: AttentionMask,
        valid_BT: Tensor | None = None,
        cache: KeyValueCache | None = None,
        media: FusedMedia | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embedded tokens → final hidden states and the layers' summed balance loss; `media` is attended to between
        the layers."""
        rotary = self.rope(positions_BT)
        aux_loss = x_BTD.new_zeros((), dtype=torch.float32)
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, DecoderLayer)
            x_BTD, stats = self.run_layer(layer, x_BTD, rotary, mask, valid_BT, cache)
            if isinstance(layer.feed_forward, MoE):
                assert stats is not None
                layer.feed_forward.record(stats)
                aux_loss = aux_loss + stats.aux_loss
            if media is not None:
                x_BTD = media.follow(index, x_BTD)
        return self.norm(x_BTD), aux_loss


def document_positions(document_ids_BT: Tensor) -> Tensor:
    """Positions that start at zero with every document: tokens since the id last changed."""
    positions_T = torch.arange(document_ids_BT.shape[1], device=document_ids_BT.device)
    changed_BT = torch.zeros_like(document_ids_BT, dtype=torch.bool)
    changed_BT[:, 1:] = document_ids_BT[:, 1:] != document_ids_BT[:, :-1]
    starts_BT = torch.where(changed_BT, positions_T, 0).cummax(dim=1).values
    return positions_T - starts_BT


class LanguageModel(Initialised):
    """The decoder with its tied head: losses, hidden states, logits, generation."""

    def __init__(self, config: LanguageModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        """Token ids that exist; the table has more rows."""
        num_rows = -(-vocab_size // TABLE_MULTIPLE) * TABLE_MULTIPLE
        self.model = Decoder(config, num_rows)

    def init_own(self, generator: torch.Generator) -> None:
        """Scale what writes into the residual stream by 1/√(2 · layers), as GPT-2 does."""
        factor = (2 * self.config.num_layers) ** -0.5
        for name, parameter in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "experts.down_EFD")):
                parameter.mul_(factor)

    def gradient_checkpointing_enable(self, enabled: bool = True) -> None:
        """Recompute each layer's activations in the backward pass, or stop doing so."""
        self.model.gradient_checkpointing_enable(enabled)

    def forward(
        self,
        input_ids_BT: Tensor | None = None,
        *,
        inputs_embeds_BTD: Tensor | None = None,
        position_ids_BT: Tensor | None = None,
        document_ids_BT: Tensor | None = None,
        media: FusedMedia | None = None,
        labels_BT: Tensor | None = None,
        loss_weights_BT: Tensor | None = None,
        return_logits: bool = False,
    ) -> LanguageModelOutput:
        """One pass over tokens or their embeddings (exactly one of the two).

        `document_ids_BT`: tokens see their own document only, and positions restart with it; a negative id is
        padding, which the experts' load does not count. `position_ids_BT` overrules those positions.
        `media`: states that every token of its row attends to between the layers.
        `labels_BT` stand where the tokens stand, as in Hugging Face: the label at t is predicted from t - 1, the
        shift happens in here. -100 is ignored; the first token of every packed document must be -100, or the last
        token of the document before would predict it. `loss_weights_BT` stand beside the labels, 1 where None.
        """
        if (input_ids_BT is None) == (inputs_embeds_BTD is None):
            raise ValueError("give either input_ids_BT or inputs_embeds_BTD, not both and not neither")
        x_BTD = self.model.embed_tokens(input_ids_BT) if inputs_embeds_BTD is None else inputs_embeds_BTD
        num_tokens, device = x_BTD.shape[1], x_BTD.device
        if position_ids_BT is None:
            if document_ids_BT is None:
                position_ids_BT = torch.arange(num_tokens, device=device).unsqueeze(0)
            else:
                position_ids_BT = document_positions(document_ids_BT)
        mask = make_attention_mask(document_ids_BT, num_tokens, self.config.sliding_window, device)
        valid_BT = None if document_ids_BT is None else document_ids_BT >= 0
        hidden_BTD, aux_loss = self.model(x_BTD, position_ids_BT, mask, valid_BT, media=media)
        logits_BTV = self.logits(hidden_BTD) if return_logits else None
        if labels_BT is None:
            return LanguageModelOutput(hidden_BTD, aux_loss, logits_BTV)
        if loss_weights_BT is None:
            loss_weights_BT = torch.ones_like(labels_BT, dtype=torch.float32)
        return self._with_loss(hidden_BTD, aux_loss, logits_BTV, labels_BT, loss_weights_BT)

    def _with_loss(
        self,
        hidden_BTD: Tensor,
        aux_loss: Tensor,
        logits_BTV: Tensor | None,
        labels_BT: Tensor,
        loss_weights_BT: Tensor,
    ) -> LanguageModelOutput:
        """Shift labels and weights to the position that predicts them, sum, shift the single losses back."""
        next_labels_BT = labels_BT.roll(-1, dims=1)
        next_labels_BT[:, -1] = IGNORED
        next_weights_BT = loss_weights_BT.float().roll(-1, dims=1).masked_fill(next_labels_BT == IGNORED, 0.0)
        loss_sum, losses_N = linear_cross_entropy(
            hidden_BTD.flatten(0, 1),
            self.model.embed_tokens.weight,
            next_labels_BT.flatten(),
            next_weights_BT.flatten(),
        )
        # the last column is ignored, hence zero, and rolls to the front
        token_losses_BT = losses_N.view(labels_BT.shape).roll(1, dims=1)
        return LanguageModelOutput(hidden_BTD, aux_loss, logits_BTV, loss_sum, next_weights_BT.sum(), token_losses_BT)

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Scores of the next token over the padded table."""
        return nn.functional.linear(hidden_BTD, self.model.embed_tokens.weight)

    def generate(
        self,
        input_ids_BT: Tensor,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        eos_token_id: int | None = None,
    ) -> Tensor:
        """Continue prompts of equal length, [B, T] → [B, up to T + max_new_tokens]: see `generation.generate`."""
        new_BN = generation.generate(
            self,
            self.model.embed_tokens(input_ids_BT),
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            generator=generator,
            eos_token_id=eos_token_id,
        )
        return torch.cat((input_ids_BT, new_BN), dim=1)
