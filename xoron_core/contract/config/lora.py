"""Low-rank adapters in the place of whole weights. Defaults are the reference's."""

from typing import Literal

from pydantic import Field, model_validator

from xoron_core.contract.config.model import LanguageModelConfig
from xoron_core.contract.config.section import FieldValueError, Section

LoraTarget = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""Logical names: what stands for each depends on the kind of attention."""

EXPERT_TARGETS: tuple[LoraTarget, ...] = ("gate_proj", "up_proj", "down_proj")
"""Those that mean weights of experts, too."""


class LoraConfig(Section):
    """LoRA (arXiv 2106.09685) on the language model; everything below `use_lora` rests until that is true."""

    use_lora: bool = False
    """Train adapters in the place of the weights that they are on."""
    r: int = Field(32, ge=1)
    """Rank of an adapter."""
    alpha: float = Field(64.0, gt=0)
    """Scale of what an adapter adds, over `r`, or its square root with `use_rslora`."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Share of an adapter's inputs that training leaves out; experts' adapters have none."""
    use_rslora: bool = True
    """Scale by the square root of the rank (arXiv 2312.03732)."""
    use_dora: bool = False
    """Learn a weight's length apart from its direction (arXiv 2402.09353)."""
    target_modules: tuple[LoraTarget, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Weights that get an adapter; `gate_proj`, `up_proj` and `down_proj` are those of the experts, too."""
    train_lora_only: bool = False
    """Train nothing but adapters in the whole model; false: the weights without an adapter are trained as well."""
    use_lora_plus: bool = True
    """Let the second matrix of an adapter learn faster than the first (arXiv 2402.12354)."""
    lora_plus_lr_ratio: float = Field(4.0, gt=0)
    """How much faster."""

    @model_validator(mode="after")
    def _has_targets(self) -> "LoraConfig":
        if self.use_lora and not self.target_modules:
            raise ValueError("use_lora is true and target_modules is empty; name what adapters are to be on")
        return self

    def check(self, language: LanguageModelConfig) -> None:
        """See that it fits the decoder.

        Raises: ValueError naming field, value and cure.
        """
        has_experts = 0 < language.moe_every <= language.num_layers
        named = [target for target in self.target_modules if target in EXPERT_TARGETS]
        if self.use_dora and has_experts and named:
            raise FieldValueError(
                "lora.use_dora",
                f"DoRA cannot be on experts, and lora.target_modules names {', '.join(named)}; take gate_proj, up_proj "
                "and down_proj out of lora.target_modules, or set lora.use_dora to false",
            )
