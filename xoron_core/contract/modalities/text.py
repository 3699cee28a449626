"""Text: next-token prediction with heavier weights on marked tokens."""

from typing import ClassVar, Literal

from pydantic import Field

from xoron_core.contract.modalities.base import MetricInfo, ModalityConfig, ModalityInfo


class TextConfig(ModalityConfig):
    """The language model's own loss."""

    info: ClassVar[ModalityInfo] = ModalityInfo(
        name="text",
        label="Text",
        categories=(
            "code",
            "conversation",
            "tool_use",
            "agentic",
            "chain_of_thought",
            "anti_hallucination",
            "document",
            "fim",
            "git_operations",
            "code_execution",
        ),
        metrics=(
            MetricInfo(name="text/loss", label="Weighted loss", unit="nats/token"),
            MetricInfo(name="text/ce", label="Cross-entropy", unit="nats/token"),
            MetricInfo(name="text/perplexity", label="Perplexity"),
            MetricInfo(name="text/cot_loss", label="Reasoning", unit="nats/token"),
            MetricInfo(name="text/tool_loss", label="Tools", unit="nats/token"),
            MetricInfo(name="text/anti_hallucination_loss", label="Anti-hallucination", unit="nats/token"),
            MetricInfo(name="text/code_exec_loss", label="Code execution", unit="nats/token"),
        ),
    )

    weighting: Literal["token", "block"] = "block"
    """`token`: the tags themselves weigh more, groups multiply; `block`: the tokens inside a block do."""
    cot_loss_weight: float = Field(1.5, gt=0)
    """Weight of reasoning."""
    tool_loss_weight: float = Field(1.3, gt=0)
    """Weight of tool calls."""
    anti_hallucination_loss_weight: float = Field(1.2, gt=0)
    """Weight of uncertainty and citation."""
    code_exec_loss_weight: float = Field(1.2, gt=0)
    """Weight of code execution."""
    sample_prompts: tuple[str, ...] = ()
    """Texts that samples continue."""
    sample_tokens: int = Field(96, ge=1)
    """Tokens of a sample."""
    sample_temperature: float = Field(0.8, ge=0)
    """Randomness of a sample; 0: the likeliest token."""
