"""Tokenizers from every place they can come from; special tokens are one id each in all of them."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.patience import PATIENT
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from xoron_core.contract.errors import ConfigError
from xoron_core.contract.sources import demo_corpus
from xoron_core.contract.special_tokens import BOS, EOS, PAD, all_special_tokens
from xoron_core.data.tokenizer import Tokenizer

SENTENCE = "The quick brown fox; naïve 漢字 🦊\n\tdef f(x): return x"


@pytest.fixture(scope="module")
def demo() -> Tokenizer:
    return Tokenizer.load("demo")


def byte_level(special: Sequence[str] = ()) -> Backend:
    """A tokenizer as the hub has them, which has never heard of this project."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([SENTENCE, "a step, a step, a step"], trainer)
    return backend


def saved(backend: Backend, folder: Path, **changes: Any) -> Path:
    path = folder / "tokenizer.json"
    backend.save(str(path))
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return path


def assert_special_tokens_are_single(tokenizer: Tokenizer) -> None:
    for token in all_special_tokens():
        number = tokenizer.token_id(token)
        assert tokenizer.encode(token) == [number]
        middle = tokenizer.encode(f"a{token}b")
        assert middle.count(number) == 1
        assert tokenizer.decode(middle) == f"a{token}b"
    assert tokenizer.encode(f"a {PAD} b") == [*tokenizer.encode("a "), tokenizer.pad_id, *tokenizer.encode(" b")]


def test_the_demo_tokenizer_has_the_special_tokens_first_and_in_order(demo: Tokenizer) -> None:
    assert [demo.token_id(token) for token in all_special_tokens()] == list(range(len(all_special_tokens())))
    assert (demo.pad_id, demo.bos_id, demo.eos_id) == (0, 1, 2)
    assert_special_tokens_are_single(demo)


@PATIENT
@given(st.text())
def test_any_text_comes_back_and_nothing_is_put_around_it(demo: Tokenizer, text: str) -> None:
    ids = demo.encode(text)
    assert demo.decode(ids) == text
    if not text.startswith("<|"):
        assert not {demo.bos_id, demo.eos_id} & set(ids)


@PATIENT
@given(st.lists(st.sampled_from([*all_special_tokens()[:8], "\n", "naïve ", "漢字", "🦊", "a step"]) | st.text()))
def test_each_token_begins_where_it_is_said_to(demo: Tokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    ids, starts = demo.encode_with_starts(text)
    assert ids == demo.encode(text) == demo.backend.encode(text, add_special_tokens=False).ids
    assert starts == sorted(starts)
    special = [demo.token_id(token) for token in all_special_tokens()]
    for number, start in zip(ids, starts, strict=True):
        assert number not in special or text.startswith(demo.decode([number]), start)
    for at in range(1, len(ids)):
        if "\ufffd" not in (head := demo.decode(ids[:at])):
            assert starts[at] == len(head)


def test_loading_the_demo_tokenizer_changes_none_of_its_ids(demo: Tokenizer) -> None:
    shipped = Backend.from_file(str(demo_corpus() / "tokenizer" / "tokenizer.json"))
    assert demo.backend.get_vocab() == shipped.get_vocab()


def test_a_file_and_its_folder_give_the_same_as_the_name(demo: Tokenizer) -> None:
    folder = demo_corpus() / "tokenizer"
    for place in (folder, folder / "tokenizer.json"):
        loaded = Tokenizer.load(str(place))
        assert loaded.backend.get_vocab() == demo.backend.get_vocab()
        assert loaded.encode(BOS + SENTENCE + EOS) == demo.encode(BOS + SENTENCE + EOS)


def test_special_tokens_are_added_to_a_tokenizer_that_lacks_them(tmp_path: Path) -> None:
    backend = byte_level(["<|endoftext|>"])
    before = backend.get_vocab()
    tokenizer = Tokenizer.load(str(saved(backend, tmp_path)))
    assert_special_tokens_are_single(tokenizer)
    after = tokenizer.backend.get_vocab()
    assert {token: after[token] for token in before} == before
    assert tokenizer.encode(SENTENCE) == backend.encode(SENTENCE).ids
    assert tokenizer.vocab_size == len(before) + len(all_special_tokens())


def test_special_tokens_that_a_tokenizer_has_keep_their_ids(tmp_path: Path) -> None:
    known = ["<|eos|>", "<|think|>"]
    tokenizer = Tokenizer.load(str(saved(byte_level(known), tmp_path)))
    assert [tokenizer.token_id(token) for token in known] == [0, 1]
    assert_special_tokens_are_single(tokenizer)


def test_a_special_token_that_is_an_ordinary_entry_is_not_cut_up(tmp_path: Path) -> None:
    path = saved(byte_level(["<|think|>"]), tmp_path, added_tokens=[])
    assert len(Backend.from_file(str(path)).encode("<|think|>").ids) > 1
    tokenizer = Tokenizer.load(str(path))
    assert tokenizer.token_id("<|think|>") == 0
    assert_special_tokens_are_single(tokenizer)


def test_a_file_that_asks_for_truncation_and_padding_does_not_get_them(tmp_path: Path) -> None:
    backend = byte_level()
    backend.enable_truncation(8)
    backend.enable_padding(length=64)
    tokenizer = Tokenizer.load(str(saved(backend, tmp_path)))
    assert tokenizer.decode(tokenizer.encode(SENTENCE * 20)) == SENTENCE * 20
    assert len(tokenizer.encode("a")) == 1


def test_a_post_processor_puts_nothing_around_a_text(tmp_path: Path) -> None:
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|bos|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [0], "tokens": ["<|bos|>"]}},
    }
    path = saved(byte_level(["<|bos|>"]), tmp_path, post_processor=template)
    assert Backend.from_file(str(path)).encode("a").ids[0] == 0
    assert Tokenizer.load(str(path)).bos_id not in Tokenizer.load(str(path)).encode("a")


def test_every_id_is_smaller_than_the_vocabulary_also_where_ids_have_gaps(tmp_path: Path) -> None:
    backend = Backend(models.WordLevel({"[UNK]": 0, "a": 1, "b": 5000}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = Tokenizer.load(str(saved(backend, tmp_path)))
    ids = tokenizer.backend.get_vocab().values()
    assert len(set(ids)) == len(ids)
    assert tokenizer.encode("a b") == [1, 5000]
    assert tokenizer.vocab_size == max(ids) + 1


def test_a_token_that_is_not_there_is_a_key_error(demo: Tokenizer) -> None:
    with pytest.raises(KeyError, match="nonsense"):
        demo.token_id("<|nonsense|>")


def test_the_home_of_nobody_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"model\.tokenizer: is no path"):
        Tokenizer.load("~no-such-user-7f3a/tokenizer.json")


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": {"type": "Nonsense"}}'])
def test_a_file_that_is_no_tokenizer_is_a_config_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    for name in (str(path), str(tmp_path)):
        with pytest.raises(ConfigError, match=r"model\.tokenizer: .* is not a tokenizer\.json") as caught:
            Tokenizer.load(name)
        assert caught.value.problems[0].value == name


@pytest.mark.parametrize(
    "name", ["no-such-owner/no-such-tokenizer-7f3a", "demmo", "/no/such/folder/anywhere", "a b", ".."]
)
def test_an_unknown_name_is_a_config_error_at_once_and_without_a_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    begin = time.monotonic()
    with pytest.raises(ConfigError, match=r"model\.tokenizer: cannot be loaded .*give 'demo', a folder") as caught:
        Tokenizer.load(name)
    assert time.monotonic() - begin < 5 or name == ".."  # a folder is for transformers to judge, and slow to import
    (problem,) = caught.value.problems
    assert (problem.field, problem.value) == ("model.tokenizer", name)


def test_a_folder_that_only_transformers_can_read(tmp_path: Path) -> None:
    source = byte_level()
    source.model.save(str(tmp_path))  # vocab.json and merges.txt, as older tokenizers have them
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    tokenizer = Tokenizer.load(str(tmp_path))
    assert tokenizer.encode(SENTENCE) == source.encode(SENTENCE).ids
    assert_special_tokens_are_single(tokenizer)
