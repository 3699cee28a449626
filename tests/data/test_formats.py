"""What all formats share: rows that need nothing done, columns named by the source, errors, what is learned."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.formatting import formatted, source_of
from support.patience import PATIENT

from xoron_core.contract.errors import ConfigError, DataError
from xoron_core.contract.modalities import modality_infos
from xoron_core.contract.presets import resolve
from xoron_core.contract.sources import demo_corpus
from xoron_core.data.formats import MEDIA_FORMS, TEXT_FORMS, check_format

CATEGORIES = [category for info in modality_infos().values() for category in info.categories]
DEMO = resolve("demo").data.sources


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_category_has_its_forms() -> None:
    assert {*TEXT_FORMS, *MEDIA_FORMS} == set(CATEGORIES)
    assert set(TEXT_FORMS) == set(modality_infos()["text"].categories)


@pytest.mark.parametrize("source", DEMO, ids=[source.name for source in DEMO])
def test_the_rows_shipped_here_are_left_as_they_are(source: Any) -> None:
    folder = demo_corpus() / source.path.removeprefix("demo:")
    for split in (source.split, source.eval_split):
        rows = rows_of(folder / f"{split}.jsonl")
        assert rows
        for row in rows:
            assert formatted(source.category, row) == row
    check_format(source, "data.sources.0")


@pytest.mark.parametrize("category", TEXT_FORMS)
def test_a_text_in_the_format_of_the_project_is_left_alone_whatever_stands_beside_it(category: str) -> None:
    text = "<|user|>\nHello\n<|/user|>\n<|assistant|>\nGood day\n<|/assistant|>"
    row = {"text": text, "title": "T", "question": "q", "answer": "a", "learned": True, "content": "c"}
    assert formatted(category, row) == {"text": text}


def test_a_category_of_another_modality_keeps_its_columns() -> None:
    assert formatted("backwards", {"word": "ton"}) == {"word": "ton"}
    assert formatted("backwards", {"w": "ton"}, fields={"word": "w"}) == {"w": "ton", "word": "ton"}


@pytest.mark.parametrize(
    ("category", "row", "fields", "made"),
    [
        ("conversation", {"a": {"b": "Hello"}, "c": "Hi"}, {"question": "a.b", "answer": "c"}, "Hello"),
        ("conversation", {"m": [{"content": "Hello"}], "c": "Hi"}, {"question": "m.0.content", "answer": "c"}, "Hello"),
        ("conversation", {"Q": "Hello", "c.d": "Hi"}, {"question": "Q", "answer": "c.d"}, "Hello"),
        ("conversation", {"meta": '{"q": "Hello"}', "answer": "Hi"}, {"question": "meta.q"}, "Hello"),
        ("conversation", {"question": "No", "q2": "Hello", "answer": "Hi"}, {"question": "q2"}, "Hello"),
        (
            "conversation",  # messages would be taken first
            {"messages": [{"role": "user", "content": "No"}, {"role": "assistant", "content": "No"}], "x": "Hello",
             "y": "Hi"},
            {"question": "x", "answer": "y"},
            "Hello",
        ),
        ("tool_use", {"x": "Hello", "y": "Hi"}, {"query": "x", "answer": "y"}, "Hello"),
    ],
)  # fmt: skip
def test_a_source_names_its_columns(category: str, row: Any, fields: dict[str, str], made: str) -> None:
    text = f"<|bos|><|user|>\n{made}\n<|/user|><|assistant|>\nHi\n<|/assistant|><|eos|>"
    assert formatted(category, row, fields=fields) == {"text": text}


@pytest.mark.parametrize(
    ("path", "kind"), [("Cap", "empty"), ("list.1", "wrong_type"), ("list.x", "wrong_type"), ("gone", "wrong_type")]
)
def test_a_named_column_is_not_replaced_by_another(path: str, kind: str) -> None:
    row = {"Cap": None, "list": ["a"], "text": "Hello"}
    with pytest.raises(DataError) as caught:
        formatted("conversation", row, fields={"text": path})
    assert caught.value.kind == kind
    assert path in caught.value.reason


def test_media_columns_can_be_named_too() -> None:
    row = {"where": {"path": "a.wav"}, "said": "One", "text": "Two", "speaker": "s"}
    assert formatted("voice_asr", row, fields={"audio": "where.path", "text": "said"}) == {
        "audio": "a.wav", "text": "One", "speaker": "s",
    }  # fmt: skip
    with pytest.raises(DataError, match="column 'said' is empty") as caught:
        formatted("voice_asr", {**row, "said": None}, fields={"audio": "where.path", "text": "said"})
    assert caught.value.kind == "empty"


EXAMPLES = (
    "Hello",
    [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello"}],
    [{"role": "user", "content": "Hello"}],
    [{"name": "Hello", "arguments": {}}],
    [{"action": "Hello"}],
    [{"cell_type": "code", "source": "Hello"}],
    ["Hello", "Hello"],
    {"text": []},
    True,
    False,
)
"""Something for each kind of column to hold."""


def row_with(values: dict[str, Any]) -> dict[str, Any]:
    """A row with these columns; `a.b` is b inside a."""
    parts = ((name.partition("."), value) for name, value in values.items())
    return {head: {rest: value} if dot else value for (head, dot, rest), value in parts}


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_column_is_known_by_all_its_usual_names(category: str) -> None:
    for form in (*TEXT_FORMS.get(category, ()), *MEDIA_FORMS.get(category, ())):
        examples = [next(value for value in EXAMPLES if need.accepts(value)) for need in form.needs]
        first = {need.names[0]: value for need, value in zip(form.needs, examples, strict=True)}
        keys = formatted(category, row_with(first)).keys()
        for need, value in zip(form.needs, examples, strict=True):
            others = {name: other for name, other in first.items() if name != need.names[0]}
            for name in need.names:
                made = formatted(category, row_with({**others, name: value}))
                assert made.keys() == keys


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_row_that_cannot_be_understood_says_what_was_looked_for(category: str) -> None:
    with pytest.raises(DataError) as caught:
        formatted(category, {"foo": 1, "bar": [2]})
    assert caught.value.kind == "wrong_type"
    forms = [*MEDIA_FORMS.get(category, ()), *TEXT_FORMS.get(category, ())]
    for part in (repr(category), "foo, bar", "`fields`", *(need.names[0] for form in forms for need in form.needs)):
        assert part in caught.value.reason


def test_a_row_without_columns_is_refused() -> None:
    with pytest.raises(DataError, match="its columns are none"):
        formatted("conversation", {})


@pytest.mark.parametrize(
    ("category", "row"),
    [("conversation", {"text": " "}), ("document", {"content": None}), ("code", {"code": ""}), ("fim", {"text": "\n"}),
     ("tool_use", {"query": "q", "answers": []})],
)  # fmt: skip
def test_a_row_with_nothing_in_it_is_empty(category: str, row: Any) -> None:
    with pytest.raises(DataError, match="is empty") as caught:
        formatted(category, row)
    assert caught.value.kind == "empty"


NAMES = sorted(
    {name for forms in (*TEXT_FORMS.values(), *MEDIA_FORMS.values()) for form in forms for name in form.names}
)
SPOKEN_KEYS = ("role", "content", "from", "value", "type", "text", "user", "assistant")
ACTED_KEYS = ("name", "arguments", "function", "action", "thought", "observation", "cell_type", "source", "outputs")
KEYS = st.sampled_from([*SPOKEN_KEYS, *ACTED_KEYS])
LEAVES = st.sampled_from(["user", "assistant", "tool", "text", "code", "1", "[1]", '{"name": "x"}', "@@ -1 +1 @@", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | LEAVES | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@PATIENT
@given(
    category=st.sampled_from(CATEGORIES),
    row=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5),
    loss_on=st.sampled_from(["all", "assistant"]),
)
def test_any_row_is_understood_or_a_data_error(category: str, row: Any, loss_on: str) -> None:
    before = repr(row)
    try:
        made = formatted(category, row, loss_on=loss_on)
    except DataError as error:
        assert error.kind in ("wrong_type", "empty", "unreadable")
    else:
        assert all(isinstance(made[name], str) for name in {"text", "caption", "question", "answer"} & made.keys())
        assert made.get("text", "x").strip()
    assert repr(row) == before


def test_a_value_nested_without_end_is_a_data_error() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(DataError, match="nested too deeply"):
        formatted("conversation", {"question": "Hello", "answer": deep})


def test_a_row_that_lacks_a_column_is_not_called_empty_for_another() -> None:
    with pytest.raises(DataError, match="its columns are answer, mine; looked for") as caught:
        formatted("conversation", {"answer": "", "mine": "Hello"})
    assert caught.value.kind == "wrong_type"


def learned(text: str) -> list[str]:
    spans = formatted("conversation", {"text": text}, loss_on="assistant")["learned"]
    return [text[start:stop] for start, stop in spans]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<|bos|><|user|>\na\n<|/user|><|assistant|>\nb\n<|/assistant|><|eos|>", ["\nb\n<|/assistant|><|eos|>"]),
        ("<|user|>a<|/user|>\n<|assistant|>b<|/assistant|>\n<|user|>c<|/user|>\n<|assistant|>d<|/assistant|>\n",
         ["b<|/assistant|>", "d<|/assistant|>"]),
        ("<|assistant|>a<|/assistant|> \n<|eos|>\n", ["a<|/assistant|> \n<|eos|>"]),
        ("<|assistant|>a<|user|>b<|/user|><|assistant|>c", ["a", "c"]),
        ("<|assistant|>a<|eos|>b", ["a<|eos|>"]),
        ("<|assistant|>a<|tool_result|>b<|/tool_result|><|tool_result|>c<|/tool_result|>\nd<|/assistant|><|eos|>",
         ["a", "\nd<|/assistant|><|eos|>"]),
        ("<|assistant|>a<|tool_result|>b<|/assistant|><|user|><|/tool_result|><|/user|><|assistant|>c", ["a", "c"]),
        ("<|assistant|><|think|>a<|/think|>b<|/assistant|>c", ["<|think|>a<|/think|>b<|/assistant|>"]),
    ],
)  # fmt: skip
def test_what_the_assistant_says_is_learned(text: str, parts: list[str]) -> None:
    assert learned(text) == parts


def test_what_a_form_writes_has_its_spans_as_well() -> None:
    made = formatted("tool_use", {"question": "Hello", "answer": "Good day"}, loss_on="assistant")
    [(start, stop)] = made["learned"]
    assert made["text"][start:stop] == "\nGood day\n<|/assistant|><|eos|>"


def test_a_text_without_the_assistant_teaches_nothing() -> None:
    for text in ("<|user|>a<|/user|>", "<|bos|>a<|eos|>", "a", "<|assistant|>"):
        with pytest.raises(DataError, match="the assistant says nothing in it") as caught:
            learned(text)
        assert caught.value.kind == "empty"


@pytest.mark.parametrize(
    ("source", "field", "reason"),
    [
        (
            source_of("conversation", fields={"qestion": "q"}),
            "data.sources.2.fields.qestion",
            "did you mean 'question'",
        ),
        (source_of("vision", fields={"image": "i", "caption": "c"}), "data.sources.2.fields.caption", "unknown key"),
        (source_of("vision", loss_on="assistant"), "data.sources.2.loss_on", "has no conversations"),
        (source_of("fim", loss_on="assistant"), "data.sources.2.loss_on", "fim has no conversations"),
        (source_of("document", loss_on="assistant"), "data.sources.2.loss_on", "document has no conversations"),
    ],
)
def test_options_that_mean_nothing_for_a_category_are_config_errors(source: Any, field: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        check_format(source, "data.sources.2")
    assert [problem.field for problem in caught.value.problems] == [field]


def test_options_that_mean_something_are_fine() -> None:
    check_format(source_of("conversation", fields={"question": "q", "system": "s"}, loss_on="assistant"), "source")
    check_format(source_of("voice_asr", fields={"audio": "a", "speaker": "s"}), "source")
    check_format(source_of("backwards", fields={"anything": "a"}), "source")
