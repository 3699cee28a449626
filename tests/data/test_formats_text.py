"""Rows of thoughts, judgements, documents, code and commits in every way that data sets write them, and their texts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.formatting import formatted
from support.patience import PATIENT

from xoron_core.contract.errors import DataError

Row = dict[str, Any]


def chat(question: str, answer: str) -> str:
    return f"<|bos|><|user|>\n{question}\n<|/user|><|assistant|>\n{answer}\n<|/assistant|><|eos|>"


def doc(body: str) -> str:
    return f"<|bos|>{body}<|eos|>"


THOUGHT = chat("What is 1 + 2?", "<|think|>\nCount on.\n<|/think|>\n3")
STEPS = chat("What is 1 + 2?", "<|think|>\n<|step|>Take 1.<|/step|>\n<|step|>Count on.<|/step|>\n<|/think|>\n3")
ASKED = {"question": "What is 1 + 2?"}

CHAIN_OF_THOUGHT: list[tuple[Row, str]] = [
    ({**ASKED, "reasoning": "Count on.", "answer": "3"}, THOUGHT),
    ({"problem": "What is 1 + 2?", "solution": "Count on.", "answer": 3}, THOUGHT),
    ({"instruction": "What is 1 + 2?", "rationale": "Count on.", "final_answer": "3"}, THOUGHT),
    ({"Question": "What is 1 + 2?", "Complex_CoT": "Count on.", "Response": "3"}, THOUGHT),
    ({**ASKED, "thinking_trajectories": ["Count on."], "attempt": "3", "solution": "three"}, THOUGHT),
    ({**ASKED, "steps": ["Take 1.", "Count on."], "answer": "3"}, STEPS),
    ({**ASKED, "answer": "Count on.\n#### 3"}, THOUGHT),
    ({**ASKED, "answer": "So:\n#### Count\non."}, chat("What is 1 + 2?", "So:\n#### Count\non.")),
    ({"prompt": "What is 1 + 2?", "response": "<think>\nCount on.\n</think>\n\n3"}, THOUGHT),
    ({"prompt": "What is 1 + 2?", "response": "<thinking>Count on.</thinking>3"}, THOUGHT),
    ({"conversations": [
        {"from": "user", "value": "What is 1 + 2?"},
        {"from": "assistant", "value": "<|begin_of_thought|>\n\nCount on.\n\n<|end_of_thought|>\n\n"
                                       "<|begin_of_solution|>\n\n3\n\n<|end_of_solution|>"}]}, THOUGHT),
    ({"messages": [{"role": "user", "content": "What is 1 + 2?"}], "reasoning": "Count on.", "answer": "3"}, THOUGHT),
    ({"problem": "What is 1 + 2?", "solution": "It is 3."}, chat("What is 1 + 2?", "It is 3.")),
]  # fmt: skip

CITED = "<|cite|><|source|>An atlas<|/source|><|/cite|>"
UNKNOWN = "<|idk|>I do not know.<|/idk|>\n<|confidence:low|>"

ANTI_HALLUCINATION: list[tuple[Row, str]] = [
    ({"question": "Where?", "answer": "Bern", "confidence": "high", "source": "An atlas"},
     chat("Where?", f"<|confident|>Bern<|/confident|> {CITED}\n<|confidence:high|>")),
    ({"question": "Where?", "answer": "Bern", "citation": ["An atlas"]}, chat("Where?", f"Bern {CITED}")),
    ({"question": "Where?", "answer": "Bern", "confidence": 0.5},
     chat("Where?", "<|uncertain|>Bern<|/uncertain|>\n<|confidence:medium|>")),
    ({"question": "Where?", "answer": "Bern", "confidence": 12, "uncertainty": 88},
     chat("Where?", "<|uncertainty_score|>88<|/uncertainty_score|>\n\n"
                    "<|uncertain|>Bern<|/uncertain|>\n<|confidence:low|>")),
    ({"question": "Where?", "answer": "Rome", "correction": "Bern"},
     chat("Where?", "Rome\n<|correction|>Bern<|/correction|>")),
    ({"claim": "It is in Rome.", "correction": "Bern"}, chat("It is in Rome.", "<|correction|>Bern<|/correction|>")),
    ({"question": "Where?", "answer": None, "answerable": False}, chat("Where?", UNKNOWN)),
    ({"question": "Where?", "unanswerable": "true"}, chat("Where?", UNKNOWN)),
    ({"question": "Where?", "answer": "It is nowhere.", "is_impossible": True},
     chat("Where?", "<|idk|>It is nowhere.<|/idk|>\n<|confidence:low|>")),
    ({"question": "Where?", "is_impossible": "false", "answer": "Bern"}, chat("Where?", "Bern")),
    ({"context": "A text.", "question": "Where?", "answers": {"text": ["Bern"], "answer_start": [0]}},
     chat("Where?\n\nA text.", "Bern")),
    ({"context": "A text.", "question": "Where?", "answers": {"text": [], "answer_start": []}},
     chat("Where?\n\nA text.", UNKNOWN)),
    ({"knowledge": "A text.", "question": "Where?", "right_answer": "Bern", "hallucinated_answer": "Rome"},
     chat("Where?\n\nA text.", "Bern")),
    ({"question": "Where?", "best_answer": "Bern", "correct_answers": ["Bern"]}, chat("Where?", "Bern")),
    ({"question": "Where?", "answer": "Bern", "confidence": "who knows"}, chat("Where?", "Bern")),
    ({"question": "Where?", "answer": "Bern", "confidence": "nan"}, chat("Where?", "Bern")),
]  # fmt: skip

DOCUMENT: list[tuple[Row, str]] = [
    ({"text": "A text.\n", "url": "u"}, doc("A text.\n")),
    ({"title": "Title", "text": "A text."}, doc("Title\n\nA text.")),
    ({"title": "Title", "text": "Title\n\nA text."}, doc("Title\n\nA text.")),
    *(({name: "A text."}, doc("A text.")) for name in ("content", "body", "article", "document", "maintext")),
]

PYTHON = "<|code|><|lang:python|>\nx = 1\n<|/code|>"
PLAIN_CODE = "<|code|>\nx = 1\n<|/code|>"

CODE: list[tuple[Row, str]] = [
    ({"content": "x = 1\n", "lang": "Python", "ext": "py"}, doc(PYTHON)),
    ({"code": "x = 1", "language": "fortran"}, doc(PLAIN_CODE)),
    ({"code": "x = 1", "repo_name": "a/b"}, doc(PLAIN_CODE)),
    ({"text": "x = 1"}, doc(PLAIN_CODE)),
    ({"func_code_string": "x = 1", "func_documentation_string": "Set x.", "language": "python"},
     chat("Set x.", PYTHON)),
    ({"text": "Set x.", "code": "x = 1", "test_list": []}, chat("Set x.", PLAIN_CODE)),
    ({"instruction": "Set x.", "input": "", "output": "x = 1"}, chat("Set x.", "x = 1")),
    ({"problem": "Set x.", "solution": "```python\nx = 1\n```", "lang": "python"},
     chat("Set x.", "```python\nx = 1\n```")),
    ({"prompt": "Set x.", "canonical_solution": "x = 1", "programming_language": "py"}, chat("Set x.", PYTHON)),
    ({"query": "Set x.", "answer": "So: `x = 1`"}, chat("Set x.", "So: `x = 1`")),
    ({"messages": [{"role": "user", "content": "Set x."}, {"role": "assistant", "content": "x = 1"}]},
     chat("Set x.", "x = 1")),
]  # fmt: skip


def fim(prefix: str, suffix: str, middle: str) -> str:
    return doc(
        f"<|fim_prefix|>{prefix}<|/fim_prefix|><|fim_suffix|>{suffix}<|/fim_suffix|><|fim_middle|>{middle}<|/fim_middle|>"
    )


FIM: list[tuple[Row, str]] = [
    ({"prefix": "def f():\n", "suffix": "\n", "middle": "    pass"}, fim("def f():\n", "\n", "    pass")),
    ({"fim_prefix": None, "fim_suffix": "b", "fim_middle": "a"}, fim("", "b", "a")),
    ({"content": "a"}, fim("", "", "a")),
]

CHANGE = "<|commit_before|>\na\n<|/commit_before|>\n<|commit_after|>\nb\n<|/commit_after|>"
DIFF = (
    "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@ f\n same\n--- old\n+++ new\n"
    "--- a/y\n+++ b/y\n@@ -1 +1 @@\n-c\n+d\n"
)
DIFFED = (
    "<|diff|>\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@ f\nsame\n<|diff_del|>-- old<|/diff_del|>\n"
    "<|diff_add|>++ new<|/diff_add|>\n--- a/y\n+++ b/y\n@@ -1 +1 @@\n<|diff_del|>c<|/diff_del|>\n"
    "<|diff_add|>d<|/diff_add|>\n<|/diff|>"
)

GIT: list[tuple[Row, str]] = [
    ({"old_contents": "a\n", "new_contents": "b\n", "subject": "Fix a"}, doc(f"{CHANGE}\nFix a")),
    ({"before": "a", "after": "b"}, doc(CHANGE)),
    ({"old_contents": "a", "new_contents": "b", "message": "Fix a\n", "old_file": "x.py", "new_file": "x.py"},
     doc(f"<|edit_file|>\nx.py\n{CHANGE}\n<|/edit_file|>\nFix a")),
    ({"old_contents": "a", "new_contents": "b", "message": "Move", "old_file": "x.py", "new_file": "y.py"},
     doc(f"<|edit_file|>\nx.py => y.py\n{CHANGE}\n<|/edit_file|>\nMove")),
    ({"old_contents": "", "new_contents": "b", "message": "Add", "new_file": "y.py"},
     doc("<|add_file|>\ny.py\nb\n<|/add_file|>\nAdd")),
    ({"old_contents": "a", "new_contents": "", "message": "Drop", "old_file": "x.py"},
     doc("<|delete_file|>\nx.py\n<|/delete_file|>\nDrop")),
    ({"instruction": "Fix a.", "old_contents": "a", "new_contents": "b"},
     chat("Fix a.\n<|commit_before|>\na\n<|/commit_before|>", "<|commit_after|>\nb\n<|/commit_after|>")),
    ({"diff": DIFF, "message": "Fix"}, doc(f"{DIFFED}\nFix")),
    ({"patch": "+a", "msg": "Add a", "path": "x"},
     doc("<|edit_file|>\nx\n<|diff|>\n<|diff_add|>a<|/diff_add|>\n<|/diff|>\n<|/edit_file|>\nAdd a")),
    ({"problem_statement": "It fails.", "patch": DIFF}, chat("It fails.", DIFFED)),
]  # fmt: skip

RUN = f"{PYTHON}\n\n<|exec|>\n$ python script.py\n<|/exec|>\n"
CELLS = [
    {"cell_type": "markdown", "source": ["# One\n", "text"]},
    {"cell_type": "code", "source": "print(1)", "outputs": [{"output_type": "stream", "text": ["1\n", "2\n"]}]},
    {"cell_type": "code", "source": "3", "outputs": [{"output_type": "execute_result", "data": {"text/plain": "3"}}]},
    {"cell_type": "code", "source": "1/0",
     "outputs": [{"output_type": "error", "ename": "ZeroDivisionError", "evalue": "division by zero"}]},
    {"cell_type": "code", "source": "x = 1", "outputs": []},
    {"cell_type": "code", "source": "", "outputs": []},
]  # fmt: skip


def cell(source: str, output: str) -> str:
    return f"<|jupyter|>\n<|jupyter_code|>\n{source}\n<|/jupyter_code|>\n{output}\n<|/jupyter|>"


NOTEBOOK = doc(
    "\n".join(
        [
            "# One\ntext",
            cell("print(1)", "<|jupyter_output|>1\n2<|/jupyter_output|>"),
            cell("3", "<|jupyter_output|>3<|/jupyter_output|>"),
            cell("1/0", "<|jupyter_error|>ZeroDivisionError: division by zero<|/jupyter_error|>"),
            cell("x = 1", "<|no_error|>"),
        ]
    )
)

CODE_EXECUTION: list[tuple[Row, str]] = [
    ({"code": "x = 1", "language": "python", "output": "1\n"}, doc(f"{RUN}<|exec_result|>\n1\n<|/exec_result|>")),
    ({"instruction": "Run this.", "code": "x = 1", "lang": "python", "stdout": "1", "stderr": "warning\n"},
     chat("Run this.", f"{RUN}<|exec_result|>\n1\n<|/exec_result|>\n<|exec_error|>\nwarning\n<|/exec_error|>")),
    ({"code": "x = 1", "traceback": "NameError"}, doc(f"{PLAIN_CODE}\n\n<|exec_error|>\nNameError\n<|/exec_error|>")),
    ({"code": "x = 1", "language": "python", "output": "", "error": None}, doc(f"{RUN}<|no_error|>")),
    ({"cells": CELLS}, NOTEBOOK),
    ({"content": json.dumps({"cells": CELLS, "nbformat": 4})}, NOTEBOOK),
    ({"question": "Run it?", "answer": "No."}, chat("Run it?", "No.")),
]  # fmt: skip

TABLE = {
    "chain_of_thought": CHAIN_OF_THOUGHT,
    "anti_hallucination": ANTI_HALLUCINATION,
    "document": DOCUMENT,
    "code": CODE,
    "fim": FIM,
    "git_operations": GIT,
    "code_execution": CODE_EXECUTION,
}


@pytest.mark.parametrize(
    ("category", "row", "text"), [(category, *pair) for category, pairs in TABLE.items() for pair in pairs]
)
def test_a_row_becomes_this_text(category: str, row: Row, text: str) -> None:
    assert formatted(category, row) == {"text": text}


def test_a_question_that_can_be_answered_needs_an_answer() -> None:
    with pytest.raises(DataError, match="column 'answer' is empty") as caught:
        formatted("anti_hallucination", {"question": "Where?", "answer": None, "answerable": True})
    assert caught.value.kind == "empty"


TAGS = ("<|bos|><|fim_prefix|>", "<|/fim_prefix|><|fim_suffix|>", "<|/fim_suffix|><|fim_middle|>", "<|/fim_middle|>")


def pieces(text: str) -> tuple[str, str, str]:
    found = []
    for begin, end in zip(TAGS, (*TAGS[1:], "<|eos|>"), strict=True):
        assert text.startswith(begin)
        piece, text = text[len(begin) :].split(end, 1)
        text = end + text
        found.append(piece)
    prefix, suffix, middle, rest = found
    assert (rest, text) == ("", "<|eos|>")
    return prefix, middle, suffix


@PATIENT
@given(content=st.text(min_size=1).filter(lambda text: text.strip() and "<|" not in text), seed=st.integers(0, 2**63))
def test_the_pieces_of_a_text_that_is_cut_make_it_up_again(content: str, seed: int) -> None:
    text = formatted("fim", {"content": content}, seed)["text"]
    assert "".join(pieces(text)) == content
    assert pieces(text)[1], "something is to be filled in"
    assert formatted("fim", {"content": content}, seed)["text"] == text


def test_each_seed_cuts_elsewhere_and_all_places_come_up() -> None:
    middles = {pieces(formatted("fim", {"code": "abcd"}, seed)["text"])[1] for seed in range(200)}
    assert middles == {"a", "b", "c", "d", "ab", "bc", "cd", "abc", "bcd", "abcd"}
