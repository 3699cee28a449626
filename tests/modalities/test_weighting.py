"""Token weights and groups, against a reference that is slow and plain."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.patience import PATIENT
from support.plain_weighting import BITS, groups_of, plain_learned, plain_weights

from xoron_core.contract.config.data import SourceConfig
from xoron_core.contract.errors import DataError
from xoron_core.contract.modalities.text import TextConfig
from xoron_core.contract.presets import resolve
from xoron_core.contract.sources import demo_corpus
from xoron_core.contract.special_tokens import all_special_tokens
from xoron_core.data.formats import format_record
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.text.modality import Text, TextSample
from xoron_core.modalities.text.weighting import GROUP_TERMS, TokenWeighting, begins_inside

WEIGHTS = {"reasoning": 1.5, "tool": 1.3, "anti_hallucination": 1.75, "code_execution": 0.5}
FORMS = ("token", "block")
Weighed = list[tuple[str, float, int]]


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.load("demo")


def options(form: str) -> dict[str, Any]:
    return {
        "weighting": form,
        "cot_loss_weight": WEIGHTS["reasoning"],
        "tool_loss_weight": WEIGHTS["tool"],
        "anti_hallucination_loss_weight": WEIGHTS["anti_hallucination"],
        "code_exec_loss_weight": WEIGHTS["code_execution"],
    }


@cache
def weighting(form: str) -> TokenWeighting:
    return TokenWeighting(TextConfig.model_validate(options(form)), tokenizer())


@cache
def text_modality(form: str) -> Text:
    return Text(resolve("demo", {"modalities": {"text": options(form)}}), tokenizer())


def prepared(text: str, form: str, loss_on: str) -> TextSample:
    """What a row becomes on its way through the source's format and the modality."""
    source = SourceConfig.parse({"name": "a", "category": "conversation", "path": "p", "loss_on": loss_on})
    record = Record("a", 0, {"text": text}, lambda name: name.encode())
    return text_modality(form).prepare(format_record(record, source, seed=1), SampleOrigin("a", 0, 1))


def reference(tokens: Sequence[str], form: str) -> Iterator[tuple[float, int]]:
    return plain_weights(tokens, form, WEIGHTS)


def weigh(text: str, form: str) -> Weighed:
    ids = np.array(tokenizer().encode(text), dtype=np.int64)
    weighted = weighting(form)(ids)
    assert (weighted.weights_T.dtype, weighted.groups_T.dtype) == (np.float32, np.uint8)
    tokens = [tokenizer().decode([token]) for token in ids]
    return list(zip(tokens, weighted.weights_T.tolist(), weighted.groups_T.tolist(), strict=True))


def weights(text: str, form: str) -> dict[str, float]:
    """The weight of every token of a text in which none stands twice."""
    weighed = weigh(text, form)
    found = {token: pytest.approx(weight) for token, weight, _ in weighed}
    assert len(found) == len(weighed)
    return found


def groups(text: str) -> dict[str, int]:
    masks = [{token: mask for token, _, mask in weigh(text, form)} for form in FORMS]
    assert masks[0] == masks[1], "groups are the same in both forms"
    return masks[0]


@cache
def demo_documents() -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The ids of every document of the corpus."""
    return [
        np.array(tokenizer().encode(json.loads(line)["text"]), dtype=np.int64)
        for path in sorted((demo_corpus() / "text").rglob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


@pytest.mark.parametrize("form", FORMS)
def test_every_document_of_the_demo_corpus_is_weighed_as_the_reference_does(form: str) -> None:
    names = {number: token for token, number in tokenizer().backend.get_vocab().items()}
    seen = 0
    for ids in demo_documents():
        found = weighting(form)(ids)
        expected = list(reference([names[number] for number in ids.tolist()], form))
        assert np.allclose(found.weights_T, [weight for weight, _ in expected], rtol=1e-6, atol=0.0)
        assert found.groups_T.tolist() == [mask for _, mask in expected]
        seen |= int(np.bitwise_or.reduce(found.groups_T))
    assert seen == 15, "the corpus has blocks of every group"


RELEVANT = [
    token
    for token in all_special_tokens()
    if groups_of(token.strip("<|/>")) or token.strip("<|/>") in ("system", "user", "assistant", "eos", "lang:python")
]
TOKENS = st.sampled_from(RELEVANT) | st.sampled_from(
    ["a", "b", "<|think|>", "<|/think|>", "<|verify|>", "<|/verify|>", "<|speculative|>", "<|/uncertain|>", "<|code|>"]
)


@pytest.mark.parametrize("form", FORMS)
@PATIENT
@given(tokens=st.lists(TOKENS, max_size=40))
def test_any_sequence_of_tags_is_weighed_as_the_reference_does(form: str, tokens: list[str]) -> None:
    ids = np.array([tokenizer().token_id(token) for token in tokens], dtype=np.int64)
    found = weighting(form)(ids)
    expected = list(reference(tokens, form))
    assert np.allclose(found.weights_T, [weight for weight, _ in expected], rtol=1e-6, atol=0.0)
    assert found.groups_T.tolist() == [mask for _, mask in expected]


DOCUMENTS = st.lists(
    st.sampled_from(RELEVANT)
    | st.sampled_from(["<|assistant|>", "<|/assistant|>", "<|user|>", "<|eos|>", "<|bos|>", "<|assistant|>\nyes"])
    | st.sampled_from(["<|assistant|>", "<|tool_result|>", "<|/tool_result|>", "<|assistant|>yes<|tool_result|>no"])
    | st.sampled_from(["\n", " ", "a word", " and more", "naïve 🦊"]),
    min_size=1,
    max_size=30,
).map(lambda parts: re.sub(r"(<\|assistant\|>|<\|/tool_result\|>)+\Z", "", "".join(parts)))  # an answer is to follow


@pytest.mark.parametrize("loss_on", ["all", "assistant"])
@pytest.mark.parametrize("form", FORMS)
@PATIENT
@given(text=DOCUMENTS)
def test_any_document_is_weighed_as_the_reference_does(form: str, loss_on: str, text: str) -> None:
    whole = text if text.startswith("<|bos|>") else "<|bos|>" + text
    whole = whole if whole.rstrip().endswith("<|eos|>") else whole + "<|eos|>"
    tokens = [tokenizer().decode([number]) for number in tokenizer().encode(whole)]
    learned = plain_learned(tokens) if loss_on == "assistant" else [True] * len(tokens)
    expected = list(reference(tokens, form))
    if not text.strip() or not any(learned):
        with pytest.raises(DataError) as caught:
            prepared(text, form, loss_on)
        assert caught.value.kind == "empty"
        return
    found = prepared(text, form, loss_on)
    assert found.ids.tolist() == tokenizer().encode(whole)
    assert found.weights.dtype == np.float32
    wanted = [weight * is_learned for (weight, _), is_learned in zip(expected, learned, strict=True)]
    assert np.allclose(found.weights, wanted, rtol=1e-6, atol=0.0)
    assert found.groups.tolist() == [mask for _, mask in expected]


def test_the_turns_of_the_assistant_alone_are_learned() -> None:
    found = prepared("<|user|>\na\n<|/user|><|assistant|>\nb\n<|/assistant|>", "block", "assistant")
    pairs = [(tokenizer().decode([token]), weight) for token, weight in zip(found.ids, found.weights, strict=True)]
    assert pairs == [
        ("<|bos|>", 0), ("<|user|>", 0), ("\n", 0), ("a", 0), ("\n", 0), ("<|/user|>", 0), ("<|assistant|>", 0),
        ("\n", 1), ("b", 1), ("\n", 1), ("<|/assistant|>", 1), ("<|eos|>", 1),
    ]  # fmt: skip


def test_a_token_counts_where_it_begins() -> None:
    starts = np.array([0, 2, 4, 4, 7, 9])
    assert begins_inside(starts, [(2, 4), (7, 8)]).tolist() == [False, True, False, False, True, False]
    assert begins_inside(starts, [(0, 0), (4, 4), (4, 9)]).tolist() == [False, False, True, True, True, False]
    assert not begins_inside(starts, []).any()


@pytest.mark.parametrize("form", FORMS)
def test_a_text_without_tags_weighs_one(form: str) -> None:
    assert {(weight, mask) for _, weight, mask in weigh("<|bos|>Nothing special here.<|eos|>", form)} == {(1.0, 0)}


@pytest.mark.parametrize("form", FORMS)
def test_a_document_without_tokens_has_no_weights(form: str) -> None:
    assert weigh("", form) == []


def test_token_form_weighs_the_tags_alone() -> None:
    found = weights("a<|think|>b<|tool_call|>c<|/tool_call|>d<|/think|>e", "token")
    assert found == {
        "a": 1, "<|think|>": 1.5, "b": 1, "<|tool_call|>": 1.3, "c": 1,
        "<|/tool_call|>": 1.3, "d": 1, "<|/think|>": 1.5, "e": 1,
    }  # fmt: skip


def test_groups_multiply_in_token_form() -> None:
    assert weights("<|verify|>a<|/verify|>", "token") == {
        "<|verify|>": 1.5 * 1.75, "a": 1, "<|/verify|>": 1.5 * 1.75,
    }  # fmt: skip


def test_block_form_weighs_what_is_inside_and_the_closing_tag() -> None:
    assert weights("a<|think|>b<|/think|>c", "block") == {
        "a": 1, "<|think|>": 1, "b": 1.5, "<|/think|>": 1.5, "c": 1,
    }  # fmt: skip


def test_the_largest_weight_of_the_open_blocks_counts() -> None:
    assert weights("<|think|>a<|tool_call|>b<|cite|>c<|/cite|>d<|/tool_call|>e<|/think|>f", "block") == {
        "<|think|>": 1, "a": 1.5, "<|tool_call|>": 1.5, "b": 1.5, "<|cite|>": 1.5, "c": 1.75,
        "<|/cite|>": 1.75, "d": 1.5, "<|/tool_call|>": 1.5, "e": 1.5, "<|/think|>": 1.5, "f": 1,
    }  # fmt: skip
    assert weights("<|verify|>a", "block")["a"] == 1.75


def test_a_weight_below_one_makes_a_block_lighter() -> None:
    assert weights("<|exec|>a<|/exec|>b", "block") == {"<|exec|>": 1, "a": 0.5, "<|/exec|>": 0.5, "b": 1}


def test_a_block_that_stays_open_ends_with_the_block_around_it() -> None:
    assert weights("<|exec|>a<|think|>b<|/exec|>c", "block")["c"] == 1
    assert groups("<|exec|>a<|think|>b<|/exec|>c") == {
        "<|exec|>": 0, "a": 8, "<|think|>": 8, "b": 9, "<|/exec|>": 9, "c": 0,
    }  # fmt: skip


def test_a_closer_without_its_block_closes_nothing() -> None:
    assert weights("<|think|>a<|/exec|>b", "block")["b"] == 1.5
    assert weights("a<|/think|>b", "block") == {"a": 1, "<|/think|>": 1, "b": 1}


def test_the_innermost_of_blocks_with_one_name_is_closed_first() -> None:
    found = weigh("<|step|>a<|step|>b<|/step|>c<|/step|>d", "block")
    assert {token: weight for token, weight, _ in found if token in "abcd"} == {"a": 1.5, "b": 1.5, "c": 1.5, "d": 1}


def test_a_block_ends_at_the_alias_of_its_closer() -> None:
    assert weights("<|speculative|>a<|/uncertain|>b", "block") == {
        "<|speculative|>": 1, "a": 1.75, "<|/uncertain|>": 1.75, "b": 1,
    }  # fmt: skip
    assert weights("<|uncertain|>a<|/speculative|>b", "block")["b"] == 1.75, "not the other way round"


@pytest.mark.parametrize("end", ["<|/assistant|>", "<|/user|>", "<|/system|>", "<|eos|>"])
def test_a_block_ends_with_the_turn(end: str) -> None:
    assert weights(f"<|think|>a{end}b", "block") == {"<|think|>": 1, "a": 1.5, end: 1.5, "b": 1}


def test_beyond_knowledge_lasts_to_the_end_of_the_turn() -> None:
    text = "<|assistant|>a<|beyond_knowledge|>b<|tool_call|>c<|/tool_call|>d<|/assistant|><|user|>e"
    assert weights(text, "block") == {
        "<|assistant|>": 1, "a": 1, "<|beyond_knowledge|>": 1, "b": 1.75, "<|tool_call|>": 1.75, "c": 1.75,
        "<|/tool_call|>": 1.75, "d": 1.75, "<|/assistant|>": 1.75, "<|user|>": 1, "e": 1,
    }  # fmt: skip
    assert weights(text, "token")["<|beyond_knowledge|>"] == 1.75
    assert groups(text)["d"] == 4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("level", ["low", "medium", "high"])
def test_a_confidence_tag_carries_its_weight_itself(form: str, level: str) -> None:
    tag = f"<|confidence:{level}|>"
    assert weights(f"a{tag}b", form) == {"a": 1, tag: 1.75, "b": 1}
    assert groups(f"a{tag}b") == {"a": 0, tag: 4, "b": 0}
    assert groups(f"<|think|>a{tag}b")[tag] == 5


def test_a_confidence_tag_may_weigh_less_than_one() -> None:
    light = TokenWeighting(TextConfig(anti_hallucination_loss_weight=0.25, weighting="block"), tokenizer())
    ids = np.array(tokenizer().encode("a<|confidence:low|><|think|>b<|confidence:low|>"), dtype=np.int64)
    assert light(ids).weights_T.tolist() == [1.0, 0.25, 1.0, 1.5, 1.5]


def test_a_no_error_that_stands_alone_lasts_until_its_block_ends() -> None:
    assert groups("<|exec_result|>a<|no_error|>b<|/exec_result|>c") == {
        "<|exec_result|>": 0, "a": 8, "<|no_error|>": 8, "b": 8, "<|/exec_result|>": 8, "c": 0,
    }  # fmt: skip


def test_the_bits_of_a_mask_are_in_the_order_of_the_group_losses() -> None:
    assert list(GROUP_TERMS) == list(BITS)
    inside = groups("<|think|>a<|/think|><|tool_def|>b<|/tool_def|><|idk|>c<|/idk|><|code|>d<|/code|><|verify|>e")
    assert [inside[token] for token in "abcde"] == [1, 2, 4, 8, 5]


def test_languages_and_media_belong_to_no_group() -> None:
    text = "<|lang:python|>a<|image|>b<|/image|>c<|diff|>d<|/diff|>"
    assert {mask for _, _, mask in weigh(text, "block")} == {0}
    assert {weight for form in FORMS for _, weight, _ in weigh(text, form)} == {1.0}


def test_the_ids_are_left_alone() -> None:
    ids = np.array(tokenizer().encode("<|think|>a<|/think|>"), dtype=np.int64)
    before = ids.copy()
    weighting("block")(ids)
    assert (ids == before).all()
