"""The language model of an exported folder for transformers: `AutoModelForCausalLM`, `generate`, `Trainer`.

Shapes: B batch, T new tokens, S tokens in the cache and new ones, D width, C cached values a token, V vocabulary.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from xoron_core.contract.errors import CheckpointError
from xoron_core.export.description import MODEL_TYPE, ModelDescription
from xoron_core.export.weights import restore_unsaved
from xoron_core.model.initialise import init_module
from xoron_core.model.language_model import LanguageModel
from xoron_core.model.layers.attention_mask import AttentionMask, make_attention_mask
from xoron_core.model.layers.kv_cache import KeyValueCache


class XoronPretrainedConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """`config.json`, as transformers wants it; `ModelDescription` is what is in it."""

    model_type: ClassVar[str] = MODEL_TYPE
    vocab_size: int = 0
    components: list[str] | None = None
    xoron: dict[str, Any] | None = None
    autoencoder: dict[str, Any] | None = None
    num_hidden_layers: int = 0
    hidden_size: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        """What transformers asks of every language model."""
        if self.xoron is not None:
            language = self.description().config.language
            self.num_hidden_layers, self.hidden_size = language.num_layers, language.hidden_size
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]

    def description(self) -> ModelDescription:
        """What the model is built from. Raises: CheckpointError, ConfigError."""
        values = {
            "model_type": MODEL_TYPE,
            "xoron": self.xoron,
            "components": self.components,
            "vocab_size": self.vocab_size,
            "autoencoder": self.autoencoder,
        }
        return ModelDescription.of_json({key: value for key, value in values.items() if value is not None}, "config")


class _CacheView(KeyValueCache):
    """A cache of transformers in the place of the model's own: its keys are what the layers keep, its values empty."""

    def __init__(self, cache: Cache, window: int | None) -> None:
        self._cache = cache
        self._window = window
        self.num_tokens = cache.get_seq_length()

    def append(self, layer: int, new_BTC: Tensor, window: int | None) -> Tensor:
        """Store a layer's new values and give all that any new token may see."""
        nothing = new_BTC.new_empty(new_BTC.shape[0], 1, new_BTC.shape[1], 0)
        keys, _ = self._cache.update(new_BTC.unsqueeze(1), nothing, layer)
        return keys[:, 0, self.start(new_BTC.shape[1]) :]

    def start(self, num_new: int) -> int:
        """The first token that one of the new ones sees."""
        return 0 if self._window is None else max(0, self.num_tokens + 1 - self._window)


class XoronForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """The language model alone; the other components of a folder are left out."""

    config_class = XoronPretrainedConfig
    base_model_prefix = "llm"
    main_input_name = "input_ids"
    _keys_to_ignore_on_load_unexpected = [r"^(?!llm\.)"]
    _keep_in_fp32_modules_strict = ["router"]
    _no_split_modules = ["DecoderLayer"]

    def __init__(self, config: XoronPretrainedConfig) -> None:
        super().__init__(config)
        language = config.description().config.language
        self.llm = LanguageModel(language, config.vocab_size)
        if not self.llm.model.embed_tokens.weight.is_meta:
            generator = torch.Generator().manual_seed(torch.initial_seed())
            init_module(self.llm, generator, language.initializer_range)
        config.components = ["llm"]  # what is saved again is no more than this
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        """Called for what no file holds."""
        restore_unsaved(module, self.llm.model.embed_tokens.weight.device)

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As transformers has it. Raises: CheckpointError for weights that are missing, which it would make up."""
        load: Any = super().from_pretrained  # its annotation does not know that it may return a pair
        model, info = load(*args, output_loading_info=True, **kwargs)
        if missing := sorted(info["missing_keys"]):
            raise CheckpointError(f"the weights of {', '.join(missing[:5])} are missing")
        return (model, info) if output_loading_info else model

    def get_input_embeddings(self) -> nn.Module:
        """The table, which is also the head."""
        return self.llm.model.embed_tokens

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
    ) -> Any:
        """One pass; `attention_mask` [B, S] is 0 where there is padding. Labels stand where the tokens stand.

        Logits are those of the last `logits_to_keep` tokens (0: of all), over the ids that exist. With labels the loss
        is the mean over those that are not -100.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds, not both and not neither")
        x_BTD = self.llm.model.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if labels is None and (use_cache or cache is not None):
            cache = DynamicCache(config=self.config) if cache is None else cache
            hidden_BTD, loss = self._continue(x_BTD, attention_mask, position_ids, cache), None
        else:
            ids_BT = None if attention_mask is None or bool(attention_mask.all()) else attention_mask.long() - 1
            out = self.llm(
                inputs_embeds_BTD=x_BTD, position_ids_BT=position_ids, document_ids_BT=ids_BT, labels_BT=labels
            )
            hidden_BTD = out.hidden_states_BTD
            loss = None if labels is None else out.loss_sum / out.weight_sum.clamp(min=1)
        logits_BTV = self.llm.logits(hidden_BTD[:, -logits_to_keep:])[..., : self.llm.vocab_size]
        output = CausalLMOutputWithPast(loss=loss, logits=logits_BTV, cache=cache)
        return output.to_tuple() if return_dict is False else output

    def _continue(
        self, x_BTD: Tensor, attention_mask_BS: Tensor | None, positions_BT: Tensor | None, cache: Cache
    ) -> Tensor:
        """Final states of new tokens after those in the cache, [B, T, D]."""
        window, device = self.llm.config.sliding_window, x_BTD.device
        view = _CacheView(cache, window)
        past, num_new = view.num_tokens, x_BTD.shape[1]
        valid_BS = torch.ones((x_BTD.shape[0], past + num_new), dtype=torch.bool, device=device)
        if attention_mask_BS is not None:
            valid_BS = attention_mask_BS.bool()
        if positions_BT is None:
            positions_BT = (valid_BS.cumsum(dim=1) - 1).clamp(min=0)[:, past:]
        if past:
            mask = _continued_mask(valid_BS, past, view.start(num_new), window)
        else:
            ids_BT = None if attention_mask_BS is None or bool(valid_BS.all()) else valid_BS.long() - 1
            mask = make_attention_mask(ids_BT, num_new, window, device)
        hidden_BTD, _ = self.llm.model(x_BTD, positions_BT, mask, valid_BS[:, past:], cache=view)
        return hidden_BTD  # type: ignore[no-any-return]


def _continued_mask(valid_BS: Tensor, past: int, start: int, window: int | None) -> AttentionMask:
    """Who of the tokens from `start` on is seen by those after the first `past`."""
    positions_S = torch.arange(valid_BS.shape[1], device=valid_BS.device)
    back_TS = positions_S[past:, None] - positions_S[start:]
    seen_TS = back_TS >= 0 if window is None else (back_TS >= 0) & (back_TS < window)
    return AttentionMask(dense_B1TT=(seen_TS & valid_BS[:, None, start:]).unsqueeze(1))


def register_classes() -> None:
    """Tell transformers which classes `model_type: xoron` means; a second time changes nothing."""
    AutoConfig.register(MODEL_TYPE, XoronPretrainedConfig, exist_ok=True)
    AutoModelForCausalLM.register(XoronPretrainedConfig, XoronForCausalLM, exist_ok=True)
