"""The special tokens of the Xoron text format: names, weighted groups, and how a block ends.

A special token is written `<|name|>`; most open a block that `<|/name|>` closes. A vocabulary holds each as one id.
In the demo tokenizer the ids follow `all_special_tokens()` (pad, bos and eos are 0, 1 and 2), so a changed order or
a new name needs that tokenizer trained anew; its test says so.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PAD: Final = "<|pad|>"
BOS: Final = "<|bos|>"
EOS: Final = "<|eos|>"

MARKERS: Final[tuple[str, ...]] = ("pad", "bos", "eos")
"""Mark a position. Their closing tags exist because the format gives every such token one; no document has them."""

CONVERSATION: Final[tuple[str, ...]] = ("system", "user", "assistant")

GROUPS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "reasoning": (
            "think", "plan", "plan_step", "critique", "analysis", "breakdown", "decision", "observation",
            "reflection", "hypothesis", "conclusion", "verify", "step", "note",
        ),
        "tool": (
            "tool_call", "tool_result", "function_name", "function_args", "tool_calls", "available_tools",
            "tool_def", "tool_params",
        ),
        "anti_hallucination": (
            "uncertain", "verify", "correction", "cite", "source", "idk", "confident", "needs_verify",
            "beyond_knowledge", "speculative", "uncertainty_score",
            "confidence:low", "confidence:medium", "confidence:high",
        ),
        "code_execution": (
            "exec", "exec_result", "exec_error", "jupyter", "jupyter_code", "jupyter_output", "jupyter_error",
            "no_error", "code",
        ),
    }
)  # fmt: skip
"""Weighted groups by the names of the blocks they open; a name may stand in two groups (`verify` does)."""

MEDIA: Final[tuple[str, ...]] = ("image", "video", "audio", "gen_image", "gen_video", "gen_audio")

FIM_AND_FILES: Final[tuple[str, ...]] = (
    "fim_prefix", "fim_middle", "fim_suffix",
    "add_file", "delete_file", "edit_file", "read_file",
    "commit_before", "commit_after", "diff", "diff_add", "diff_del",
)  # fmt: skip

LANGUAGES: Final[tuple[str, ...]] = ("lang:python", "lang:javascript", "lang:bash")
"""Follow `<|code|>` and name the block's language."""

PLACEHOLDER: Final = "placeholder"
"""Stands in a media block once for every embedding that an encoder puts there."""

UNPAIRED: Final[frozenset[str]] = frozenset(
    {"beyond_knowledge", "confidence:low", "confidence:medium", "confidence:high", PLACEHOLDER, *LANGUAGES}
)
"""Names without a closing tag: they open nothing, or (`beyond_knowledge`) a block that lasts to the end of the turn."""

OPTIONAL_CLOSERS: Final[frozenset[str]] = frozenset({"no_error"})
"""Names that may stand alone though a closing tag exists; alone, they last until the block around them ends."""

CLOSER_ALIASES: Final[Mapping[str, str]] = MappingProxyType({"speculative": "uncertain"})
"""A block of the key is also closed by the closing tag of the value."""


def opening(name: str) -> str:
    """The tag that opens a block, or the whole token of an unpaired name."""
    return f"<|{name}|>"


def closing(name: str) -> str:
    """The tag that closes a block.

    Raises:
        ValueError: the name has no closing tag.
    """
    if name in UNPAIRED:
        raise ValueError(f"{opening(name)} has no closing tag: see UNPAIRED in {__name__}")
    return f"<|/{name}|>"


def all_names() -> tuple[str, ...]:
    """Every name once, in the order of the vocabulary."""
    grouped = [name for names in GROUPS.values() for name in names]
    return tuple(dict.fromkeys([*MARKERS, *CONVERSATION, *grouped, *MEDIA, *FIM_AND_FILES, *LANGUAGES, PLACEHOLDER]))


def all_special_tokens() -> tuple[str, ...]:
    """Every special token once: the markers, then each name's opening tag followed by its closing tag."""
    tokens = [opening(name) for name in MARKERS]
    for name in all_names():
        if name not in MARKERS:
            tokens.append(opening(name))
        if name not in UNPAIRED:
            tokens.append(closing(name))
    return tuple(tokens)
