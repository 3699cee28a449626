"""Chains of thought, and answers that say how sure they are."""

from typing import Any, Final

from xoron_core.contract.special_tokens import opening
from xoron_core.data.formats.columns import Columns, Form, Names, Need
from xoron_core.data.formats.conversation import ANSWERS, CHAT, CONTEXTS, QUESTIONS, SYSTEMS, TOOLS, exchange
from xoron_core.data.formats.messages import Conversation, Message
from xoron_core.data.formats.values import said
from xoron_core.data.formats.writing import block

CHAINS: Final[Names] = (
    "reasoning", "rationale", "thought", "thoughts", "thinking", "cot", "chain_of_thought", "complex_cot",
    "reasoning_content", "reasoning_trace", "thinking_trajectories", "deepseek_thinking_trajectory",
    "deepseek_reasoning", "steps", "explanation", "solution", "generated_solution",
)  # fmt: skip
CONCLUSIONS: Final[Names] = (
    "answer", "final_answer", "response", "output", "expected_answer", "attempt", "deepseek_attempt",
    "deepseek_solution", "target", "label", "correct",
)  # fmt: skip
STATEMENTS: Final[Names] = (*QUESTIONS, "claim", "statement")
ANSWERABLE: Final[Names] = ("answerable", "is_answerable", "has_answer")
UNANSWERABLE: Final[Names] = ("is_impossible", "unanswerable", "should_abstain", "unknown")
CONFIDENCES: Final[Names] = ("confidence", "confidence_level", "certainty")
SCORES: Final[Names] = ("uncertainty_score", "uncertainty")
CITATIONS: Final[Names] = ("citation", "citations", "source", "sources", "reference", "references")
CORRECTIONS: Final[Names] = ("correction", "corrected_answer", "corrected")

LEVELS = (("high", "high"), ("medium", "medium"), ("moderate", "medium"), ("low", "low"))
UNKNOWN = "I do not know."
LOW = opening("confidence:low")

RESULT_MARK = "\n####"
"""Parts a solution from its result on the last line, as in GSM8K."""


def _reasoned(columns: Columns, question: Any, chain: Any, answer: Any) -> Conversation:
    return exchange(columns, said(question), Message("assistant", said(answer), reasoning=_chain(chain)))


def _solved(columns: Columns, question: Any, solution: Any) -> Conversation:
    """A solution that may have its result at its end."""
    text = said(solution)
    chain, _, result = (part.strip() for part in text.rpartition(RESULT_MARK))
    if chain and result and "\n" not in result:
        return _reasoned(columns, question, chain, result)
    return exchange(columns, said(question), Message("assistant", text))


def _chain(value: Any) -> str:
    """A chain of thought; one in steps as blocks."""
    if isinstance(value, list | tuple) and len(value) > 1:
        return "\n".join(block("step", text.strip()) for item in value if (text := said(item)))
    return said(value)


def _judged(columns: Columns, question: Any, answer: Any) -> Conversation:
    """An answer with what the row says about how far it can be trusted."""
    if _is_unanswerable(columns):
        return _refused(columns, question, said(answer))
    level = confidence_level(columns.value(CONFIDENCES))
    body = said(answer)
    if level is not None:
        body = block("confident" if level == "high" else "uncertain", body)
    if source := columns.text(CITATIONS):
        body += f" {block('cite', block('source', source))}"
    if correction := columns.text(CORRECTIONS):
        body += f"\n{block('correction', correction)}"
    if score := columns.text(SCORES):
        body = f"{block('uncertainty_score', score)}\n\n{body}"
    if level is not None:
        body += f"\n{opening(f'confidence:{level}')}"
    return exchange(columns, said(question), Message("assistant", body))


def _corrected(columns: Columns, statement: Any, correction: Any) -> Conversation:
    return exchange(columns, said(statement), Message("assistant", block("correction", said(correction))))


def _unanswered(columns: Columns, question: Any, _verdict: Any) -> Conversation:
    return _refused(columns, question, UNKNOWN)


def _refused(columns: Columns, question: Any, refusal: str) -> Conversation:
    return exchange(columns, said(question), Message("assistant", f"{block('idk', refusal)}\n{LOW}"))


def _is_unanswerable(columns: Columns) -> bool:
    return any(columns.find(need) is not None for need in NO_ANSWER)


def says_yes(value: Any) -> bool:
    """Whether a value is a yes."""
    return str(value).strip().lower() in ("true", "yes", "1")


def says_no(value: Any) -> bool:
    """Whether a value is a no."""
    return str(value).strip().lower() in ("false", "no", "0")


def has_no_answer(value: Any) -> bool:
    """Whether answers are listed, and there are none, as in SQuAD 2."""
    return isinstance(value, dict) and value.get("text") == []


def confidence_level(value: Any) -> str | None:
    """`low`, `medium` or `high` of a word or a number (a share, or a percentage), in thirds; None where it is
    neither."""
    words = "" if isinstance(value, bool) else said(value).lower()
    try:
        number = float(words)
    except ValueError:
        return next((level for word, level in LEVELS if word in words), None)
    share = number if number <= 1 else number / 100
    if not 0 <= share <= 1:
        return None
    return "low" if share < 1 / 3 else "medium" if share < 2 / 3 else "high"


NO_ANSWER: Final = (Need(UNANSWERABLE, says_yes), Need(ANSWERABLE, says_no), Need(("answers",), has_no_answer))
"""What says that a question cannot be answered."""

_AROUND = (CONTEXTS, SYSTEMS, TOOLS)

CHAIN_OF_THOUGHT: Final = (
    *CHAT,
    Form((Need((*QUESTIONS, "source")), Need(CHAINS), Need(CONCLUSIONS)), _reasoned, _AROUND),
    Form((Need(QUESTIONS), Need(ANSWERS)), _solved, _AROUND),
)
ANTI_HALLUCINATION: Final = (
    *CHAT,
    Form(
        (Need(STATEMENTS), Need(ANSWERS)),
        _judged,
        (*_AROUND, ANSWERABLE, UNANSWERABLE, CONFIDENCES, SCORES, CITATIONS, CORRECTIONS),
    ),
    *(Form((Need(STATEMENTS), need), _unanswered, _AROUND) for need in NO_ANSWER),
    Form((Need(STATEMENTS), Need(CORRECTIONS)), _corrected, _AROUND),
)
