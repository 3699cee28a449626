"""Token weights worked out token by token: slow, plain, and independent of the code that it is compared with."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from math import prod

from xoron_core.contract.special_tokens import GROUPS

BITS = {"reasoning": 1, "tool": 2, "anti_hallucination": 4, "code_execution": 8}


@cache
def groups_of(name: str) -> tuple[str, ...]:
    """The groups that a block's name stands in."""
    return tuple(group for group in BITS if name in GROUPS[group])


@cache
def tag_of(token: str) -> tuple[bool, str]:
    """Whether a token closes, and the name in it; no name where it is ordinary text."""
    tag = re.fullmatch(r"<\|(/?)([a-z_:]+)\|>", token)
    return (tag[1] == "/", tag[2]) if tag else (False, "")


def plain_weights(tokens: Sequence[str], form: str, group_weights: Mapping[str, float]) -> Iterator[tuple[float, int]]:
    """Weight and group mask of every token of a document, one after the other."""
    stack: list[str] = []
    for token in tokens:
        closes, name = tag_of(token)
        own = groups_of(name)
        stands_alone = name.startswith("confidence:")
        inside = [group for block in stack for group in groups_of(block)] + (list(own) if stands_alone else [])
        mask = sum(BITS[group] for group in set(inside))
        if form == "block":
            yield max((group_weights[group] for group in inside), default=1.0), mask
        else:
            yield prod(group_weights[group] for group in own), mask

        if token in ("<|/system|>", "<|/user|>", "<|/assistant|>", "<|eos|>"):
            stack = []
        elif closes and own:
            mine = [
                at for at, block in enumerate(stack) if block == name or (block, name) == ("speculative", "uncertain")
            ]
            stack = stack[: mine[-1]] if mine else stack
        elif own and not stands_alone:
            stack.append(name)


def plain_learned(tokens: Sequence[str]) -> list[bool]:
    """Which tokens of a document are learned where only the assistant is: what follows its tag, up to its closing tag,
    and the end of the document where it comes next, but for white space; what tools return is not."""
    learned = [False] * len(tokens)
    speaks = returns = False
    waiting: list[int] | None = None  # the white space since the assistant's last closing tag
    for at, token in enumerate(tokens):
        if waiting is not None and token.isspace():
            waiting.append(at)
            continue
        if waiting is not None and token == "<|eos|>":
            for place in (*waiting, at):
                learned[place] = True
        waiting = None
        if token in ("<|system|>", "<|user|>", "<|assistant|>"):
            speaks, returns = token == "<|assistant|>", False
        elif speaks:
            returns = returns or token == "<|tool_result|>"
            learned[at] = not returns
            speaks = token not in ("<|/assistant|>", "<|eos|>")
            waiting = [] if token == "<|/assistant|>" and not returns else None
            returns = returns and token != "<|/tool_result|>"
    return learned
