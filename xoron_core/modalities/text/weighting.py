"""How much each token of a document counts in the loss, and which groups it belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xoron_core.contract.modalities.text import TextConfig
from xoron_core.contract.special_tokens import (
    CLOSER_ALIASES,
    CONVERSATION,
    EOS,
    GROUPS,
    UNPAIRED,
    closing,
    opening,
)
from xoron_core.data.tokenizer import Tokenizer

GROUP_TERMS: Mapping[str, str] = {
    "reasoning": "cot_loss",
    "tool": "tool_loss",
    "anti_hallucination": "anti_hallucination_loss",
    "code_execution": "code_exec_loss",
}
"""Group → the name of its loss, in the order of the bits of a group mask."""

LASTS_TO_END_OF_TURN = "beyond_knowledge"


@dataclass(frozen=True)
class WeightedTokens:
    """Per token: its weight (float32 [T]) and its groups, a bit each in the order of `GROUP_TERMS` (uint8 [T])."""

    weights_T: npt.NDArray[np.float32]
    groups_T: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Tag:
    name: str
    opens: bool
    closes: frozenset[str] = frozenset()
    ends_turn: bool = False


class TokenWeighting:
    """Weights in token form (the tags themselves, groups multiply) or in block form (the tokens inside a block, its
    closing tag included, by the largest weight of the open blocks).

    A block ends at its closer, at the closer of a block around it, at an alias, or at the end of the turn. A tag that
    opens nothing (`<|confidence:low|>`) carries its group's weight itself.
    """

    def __init__(self, config: TextConfig, tokenizer: Tokenizer) -> None:
        self.form = config.weighting
        group_weights = {
            "reasoning": config.cot_loss_weight,
            "tool": config.tool_loss_weight,
            "anti_hallucination": config.anti_hallucination_loss_weight,
            "code_execution": config.code_exec_loss_weight,
        }
        self._bits: dict[str, int] = {}
        self._weights: dict[str, list[float]] = {}
        for bit, group in enumerate(GROUP_TERMS):
            for name in GROUPS[group]:
                self._bits[name] = self._bits.get(name, 0) | 1 << bit
                self._weights.setdefault(name, []).append(group_weights[group])
        self._tags = {tokenizer.token_id(token): tag for token, tag in _tags(self._bits)}
        self._tag_ids = np.array(sorted(self._tags), dtype=np.int64)

    def __call__(self, ids: npt.NDArray[np.int64]) -> WeightedTokens:
        """Weights and groups of the tokens of one document."""
        weights = np.ones(len(ids), dtype=np.float32)
        groups = np.zeros(len(ids), dtype=np.uint8)
        open_blocks: list[str] = []
        begin = 0
        for position in np.flatnonzero(np.isin(ids, self._tag_ids)):
            tag = self._tags[int(ids[position])]
            self._fill(weights, groups, begin, int(position) + 1, open_blocks)
            self._weigh_tag(weights, groups, int(position), tag, open_blocks)
            self._update(open_blocks, tag)
            begin = int(position) + 1
        self._fill(weights, groups, begin, len(ids), open_blocks)
        return WeightedTokens(weights, groups)

    def _fill(
        self,
        weights: npt.NDArray[np.float32],
        groups: npt.NDArray[np.uint8],
        start: int,
        stop: int,
        open_blocks: list[str],
    ) -> None:
        if not open_blocks:
            return
        for name in open_blocks:
            groups[start:stop] |= self._bits[name]
        if self.form == "block":
            weights[start:stop] = max(weight for name in open_blocks for weight in self._weights[name])

    def _weigh_tag(
        self,
        weights: npt.NDArray[np.float32],
        groups: npt.NDArray[np.uint8],
        position: int,
        tag: _Tag,
        open_blocks: list[str],
    ) -> None:
        if tag.name not in self._bits:
            return
        if self.form == "token":
            weights[position] *= np.prod(self._weights[tag.name])
        if not tag.opens and not tag.closes:
            self._fill(weights, groups, position, position + 1, [*open_blocks, tag.name])

    @staticmethod
    def _update(open_blocks: list[str], tag: _Tag) -> None:
        if tag.ends_turn:
            open_blocks.clear()
        elif tag.opens:
            open_blocks.append(tag.name)
        elif tag.closes:
            for depth in reversed(range(len(open_blocks))):
                if open_blocks[depth] in tag.closes:
                    del open_blocks[depth:]
                    return


def _tags(grouped: Mapping[str, int]) -> list[tuple[str, _Tag]]:
    """Every token that opens, closes or ends something, and those that carry a weight themselves."""
    tags = [(closing(name), _Tag(name, opens=False, ends_turn=True)) for name in CONVERSATION]
    tags.append((EOS, _Tag("eos", opens=False, ends_turn=True)))
    for name in grouped:
        opens = name not in UNPAIRED or name == LASTS_TO_END_OF_TURN
        tags.append((opening(name), _Tag(name, opens=opens)))
        if name not in UNPAIRED:
            aliases = {block for block, closer in CLOSER_ALIASES.items() if closer == name}
            tags.append((closing(name), _Tag(name, opens=False, closes=frozenset({name} | aliases))))
    return tags
