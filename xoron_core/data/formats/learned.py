"""Which characters of a text are learned, where only what the assistant says is."""

import re
from collections.abc import Iterator

from xoron_core.contract.special_tokens import CONVERSATION, EOS, closing, opening

Spans = tuple[tuple[int, int], ...]
"""Starts and ends (not included) of stretches of a text, ascending, none inside another."""

_BEGINS = "|".join(re.escape(opening(name)) for name in CONVERSATION)
TURN = re.compile(
    rf"{re.escape(opening('assistant'))}"
    rf"(.*?(?:{re.escape(closing('assistant'))}(?:\s*{re.escape(EOS)})?|(?={_BEGINS})|{re.escape(EOS)}|\Z))",
    re.DOTALL,
)

RESULT = re.compile(
    rf"{re.escape(opening('tool_result'))}.*?(?:{re.escape(closing('tool_result'))}|\Z)",
    re.DOTALL,
)


def assistant_spans(text: str) -> Spans:
    """What the assistant says in a text of the project's format: from after its tag to its closing tag, which belongs
    to it, as does the end of the text right after it. A turn that stays open ends where another begins, or the text.
    What a tool returns is not said by it, up to its closing tag, or to the end of the turn where there is none."""
    return tuple(span for turn in TURN.finditer(text) for span in _without_results(text, *turn.span(1)))


def _without_results(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for result in RESULT.finditer(text, start, end):
        if start < result.start():
            yield start, result.start()
        start = result.end()
    if start < end:
        yield start, end
