"""Code, code to fill in, and code that is run: scripts and notebooks."""

from collections.abc import Mapping
from typing import Any, Final

from xoron_core.contract.special_tokens import opening
from xoron_core.data.formats.columns import Columns, Form, Names, Need
from xoron_core.data.formats.conversation import CHAT, PAIR, SYSTEMS, exchange
from xoron_core.data.formats.messages import Conversation, Message
from xoron_core.data.formats.values import decoded, is_text, said
from xoron_core.data.formats.writing import LANGUAGES, block, code_block, document, lines, trimmed
from xoron_core.data.records import derive_seed

SOURCES: Final[Names] = (
    "code", "content", "func_code_string", "whole_func_string", "original_string", "canonical_solution", "solution",
    "source_code", "program", "script", "text",
)  # fmt: skip
REQUESTS: Final[Names] = (
    "instruction", "prompt", "docstring", "func_documentation_string", "problem", "question", "query", "description",
    "task", "text", "nl",
)  # fmt: skip
LANGUAGE_NAMES: Final[Names] = ("language", "lang", "programming_language")
OUTPUTS: Final[Names] = ("output", "stdout", "result", "execution_output", "execution_result", "exec_result")
ERRORS: Final[Names] = ("error", "stderr", "traceback", "exception", "exec_error")
NOTEBOOKS: Final[Names] = ("cells", "notebook", "content", "text")
PREFIXES: Final[Names] = ("prefix", "fim_prefix")
SUFFIXES: Final[Names] = ("suffix", "fim_suffix")
MIDDLES: Final[Names] = ("middle", "fim_middle")


def is_code(value: Any) -> bool:
    """Whether a column holds code alone: a fence would part it from what is said about it."""
    return is_text(value) and "```" not in said(value)


def is_notebook(value: Any) -> bool:
    """Whether a column holds a Jupyter notebook, or its cells."""
    return bool(_cells(value))


def _program(columns: Columns, source: Any) -> Conversation | str:
    code = said(source)
    return _on_request(columns, code, code_block(code, columns.text(LANGUAGE_NAMES)))


def _run(columns: Columns, source: Any, _result: Any) -> Conversation | str:
    """A script, how it is run where its language is known, and what comes of it."""
    code, language = said(source), columns.text(LANGUAGE_NAMES)
    output, error = columns.text(OUTPUTS), columns.text(ERRORS)
    known = LANGUAGES.get(language.strip().lower())
    shown = [lines("exec", f"$ {known.command}")] if known else []
    shown += [lines("exec_result", trimmed(output))] if output else []
    shown += [lines("exec_error", trimmed(error))] if error else []
    shown += [] if output or error else [opening("no_error")]
    return _on_request(columns, code, "\n".join([code_block(code, language) + "\n", *shown]))


def _on_request(columns: Columns, code: str, body: str) -> Conversation | str:
    """The answer to what the row asks for; where it asks for nothing, a document."""
    request = columns.text(REQUESTS)
    if not request or request == code:
        return document(body)
    return exchange(columns, request, Message("assistant", body))


def _notebook(_columns: Columns, notebook: Any) -> str:
    shown = [text for cell in _cells(notebook) if (text := _cell(cell))]
    return document("\n".join(shown))


def _cells(value: Any) -> list[Any]:
    value = decoded(value)
    cells = decoded(value.get("cells")) if isinstance(value, dict) else value
    is_cells = isinstance(cells, list) and all(isinstance(cell, dict) and "cell_type" in cell for cell in cells)
    return list(cells) if is_cells else []


def _cell(cell: Mapping[str, Any]) -> str:
    source = trimmed(_joined(cell.get("source")))
    if not source or cell["cell_type"] != "code":
        return source
    outputs = [_output(output) for output in cell.get("outputs") or () if isinstance(output, dict)]
    shown = [text for text in outputs if text] or [opening("no_error")]
    return lines("jupyter", lines("jupyter_code", source), *shown)


def _output(output: Mapping[str, Any]) -> str:
    """What one output of a cell says; pictures say nothing."""
    if output.get("output_type") == "error":
        return block("jupyter_error", f"{said(output.get('ename'))}: {said(output.get('evalue'))}")
    data = output.get("data")
    text = output.get("text") or (data.get("text/plain") if isinstance(data, dict) else None)
    printed = _joined(text).strip("\n")
    return block("jupyter_output", printed) if printed else ""


def _joined(value: Any) -> str:
    """A text that may be a list of lines."""
    return "".join(map(said, value)) if isinstance(value, list | tuple) else said(value)


def _given_pieces(_columns: Columns, prefix: Any, suffix: Any, middle: Any) -> str:
    return fill_in(*(text if isinstance(text, str) else said(text) for text in (prefix, middle, suffix)))


def _cut_in_three(columns: Columns, source: Any) -> str:
    text = said(source)
    start, stop = cut_places(len(text), columns.seed)
    return fill_in(text[:start], text[start:stop], text[stop:])


def cut_places(length: int, seed: int) -> tuple[int, int]:
    """Two different places in a text of so many characters, all pairs alike likely (arXiv 2207.14255, section 3)."""
    first, second = derive_seed(seed, "cut", 0) % (length + 1), derive_seed(seed, "cut", 1) % length
    second += second >= first
    return min(first, second), max(first, second)


def fill_in(prefix: str, middle: str, suffix: str) -> str:
    """Prefix, suffix, then the middle: what has to be filled in comes last."""
    return document(block("fim_prefix", prefix) + block("fim_suffix", suffix) + block("fim_middle", middle))


_AROUND = (REQUESTS, LANGUAGE_NAMES, SYSTEMS)
_PROGRAM = Form((Need(SOURCES, is_code),), _program, _AROUND)

CODE: Final = (*CHAT, Form((Need(SOURCES[:-1], is_code),), _program, _AROUND), PAIR, _PROGRAM)
FIM: Final = (
    Form((Need(PREFIXES, may_be_empty=True), Need(SUFFIXES, may_be_empty=True), Need(MIDDLES)), _given_pieces),
    Form((Need(SOURCES, is_text),), _cut_in_three),
)
CODE_EXECUTION: Final = (
    *CHAT,
    Form((Need(NOTEBOOKS, is_notebook),), _notebook),
    Form((Need(SOURCES, is_code), Need((*OUTPUTS, *ERRORS), may_be_empty=True)), _run, _AROUND),
    PAIR,
)
