"""The data set: every token once an epoch, exact resume, unreadable rows, and how long an epoch is."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.patience import PATIENT

from xoron_core.contract.config.data import SourceConfig
from xoron_core.contract.errors import DataError
from xoron_core.data.dataset import TrueStreamingDataset, share_of
from xoron_core.data.packing import pack
from xoron_core.data.records import MicroBatch, Record, SampleOrigin

ROW_LENGTH = 8


@dataclass(frozen=True)
class Words:
    """A sample that can be cut anywhere."""

    origin: SampleOrigin
    words: tuple[int, ...]

    @property
    def length(self) -> int:
        return len(self.words)

    def piece(self, start: int, stop: int) -> "Words":
        return Words(self.origin, self.words[start:stop])


@dataclass(frozen=True)
class Documents:
    """Prepares rows `{"length": n}`: n words that occur nowhere else in their source."""

    name: str
    rows_per_batch: int
    row_length: int | None = ROW_LENGTH

    def prepare(self, record: Record, origin: SampleOrigin) -> Words:
        length = record.fields.get("length")
        if not isinstance(length, int):
            raise record.error("no length")
        return Words(origin, tuple(range(record.index * 1000, record.index * 1000 + length)))


@dataclass(frozen=True)
class Corpus:
    """Sources by name: the lengths of their documents, -1 for a row that cannot be read."""

    folder: Path
    preparers: dict[str, Documents]
    rows: Mapping[tuple[str, str], Sequence[int]]
    repeat: int = 1
    seed: int = 0
    limit: float = 1.0

    def open(self, state: str | None = None, skip: Sequence[str] = (), num_ranks: int = 1) -> TrueStreamingDataset:
        sources = []
        for number, ((modality, name), lengths) in enumerate(self.rows.items()):
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            lines = ["{broken" if length < 0 else json.dumps({"length": length}) for length in lengths]
            (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
            config = SourceConfig(
                name=name, category="any", path=str(folder), weight=1.0 + number, sample_repeat=self.repeat
            )
            sources.append((config, modality))
        weights = {name: 1.0 + number for number, name in enumerate(self.preparers)}
        dataset = TrueStreamingDataset(sources, self.preparers, weights, self.seed, self.limit, skip, num_ranks)
        if state is not None:
            dataset.load_state_dict(json.loads(state))
        return dataset

    def expected_words(self) -> Counter[tuple[str, int]]:
        return Counter(
            {
                (name, index * 1000 + word): self.repeat
                for (_, name), lengths in self.rows.items()
                for index, length in enumerate(lengths)
                for word in range(length)
            }
        )


def text_only(folder: Path, lengths: Sequence[int], limit: float = 1.0, rows_per_batch: int = 2) -> Corpus:
    return Corpus(folder, {"text": Documents("text", rows_per_batch)}, {("text", "a"): lengths}, limit=limit)


def epochs(dataset: TrueStreamingDataset, count: int) -> list[list[MicroBatch]]:
    """The micro-batches of the next epochs, told apart by `ends_epoch`."""
    found: list[list[MicroBatch]] = [[]]
    for micro in dataset:
        found[-1].append(micro)
        if micro.ends_epoch:
            if len(found) == count:
                return found
            found.append([])
    raise AssertionError("a data set never ends")


def words_of(batches: Sequence[MicroBatch]) -> list[tuple[str, int]]:
    return [
        (sample.origin.source, word)
        for micro in batches
        for sample in micro.samples
        if isinstance(sample, Words)
        for word in sample.words
    ]


@st.composite
def corpora(draw: st.DrawFn, folder: Path, *, with_bad: bool = False) -> Corpus:
    """Two packed modalities and one whose samples are rows; documents up to three rows long."""
    lengths = st.lists(st.integers(-1 if with_bad else 1, 3 * ROW_LENGTH).filter(bool), min_size=1, max_size=9)
    preparers = {
        "text": Documents("text", draw(st.integers(1, 3))),
        "asr": Documents("asr", draw(st.integers(1, 2)), 5),
        "image": Documents("image", draw(st.integers(1, 3)), None),
    }
    rows = {("text", "a"): [*draw(lengths), 3], ("text", "b"): draw(lengths), ("asr", "c"): draw(lengths)}
    rows["image", "d"] = [1] * draw(st.integers(1, 7))
    return Corpus(folder, preparers, rows, draw(st.integers(1, 2)), draw(st.integers(0, 99)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written anew by every example."""
    return tmp_path_factory.mktemp("corpus")


@settings(PATIENT, max_examples=40)
@given(st.data())
def test_every_word_comes_once_an_epoch_for_each_repeat(folder: Path, data: st.DataObject) -> None:
    corpus = data.draw(corpora(folder))
    with closing(corpus.open()) as dataset:
        for batches in epochs(dataset, 2):
            assert Counter(words_of(batches)) == corpus.expected_words()
            assert [micro.ends_epoch for micro in batches] == [False] * (len(batches) - 1) + [True]


@settings(PATIENT, max_examples=40)
@given(st.data())
def test_micro_batches_are_of_one_modality_and_their_rows_never_overflow(folder: Path, data: st.DataObject) -> None:
    corpus = data.draw(corpora(folder))
    modality_of = {name: modality for modality, name in corpus.rows}
    with closing(corpus.open()) as dataset:
        (batches,) = epochs(dataset, 1)
    for micro in batches:
        preparer = corpus.preparers[micro.modality]
        assert micro.samples
        assert "image" not in micro.state["pending"], "a picture was decoded before its micro-batch"
        assert {modality_of[sample.origin.source] for sample in micro.samples} == {micro.modality}
        rows = pack([sample.length for sample in micro.samples], preparer.rows_per_batch, preparer.row_length or 1)
        assert len(rows) <= preparer.rows_per_batch
    pictures = [len(micro.samples) for micro in batches if micro.modality == "image"]
    assert set(pictures[:-1]) <= {corpus.preparers["image"].rows_per_batch}


@settings(PATIENT, max_examples=30)
@given(st.data())
def test_a_long_document_goes_on_where_it_was_cut(folder: Path, data: st.DataObject) -> None:
    corpus = data.draw(corpora(folder))
    with closing(corpus.open()) as dataset:
        (batches,) = epochs(dataset, 1)
    pieces: dict[SampleOrigin, list[int]] = {}
    for micro in batches:
        for sample in micro.samples:
            assert isinstance(sample, Words)
            pieces.setdefault(sample.origin, []).extend(sample.words)
    assert len(pieces) == corpus.repeat * sum(map(len, corpus.rows.values()))
    for origin, words in pieces.items():
        assert words == list(range(origin.index * 1000, origin.index * 1000 + len(words)))


@settings(PATIENT, max_examples=40)
@given(st.data())
def test_a_resumed_run_gives_the_same_micro_batches(folder: Path, data: st.DataObject) -> None:
    corpus = data.draw(corpora(folder, with_bad=True))
    with closing(corpus.open()) as dataset:
        length = sum(map(len, epochs(dataset, 2)))
    with closing(corpus.open()) as dataset:
        batches, states = [], []
        for micro in islice(dataset, length + 3):
            batches.append(micro)
            states.append(json.dumps(micro.state, sort_keys=True))  # as it is now; nothing later may change it
    assert [json.dumps(micro.state, sort_keys=True) for micro in batches] == states
    ends = [at for at, micro in enumerate(batches) if micro.ends_epoch]
    at = data.draw(st.sampled_from(range(length)) | st.sampled_from(ends[:2]))
    with closing(corpus.open(states[at])) as resumed:
        assert json.dumps(resumed.state_dict(), sort_keys=True) == states[at]
        assert list(islice(resumed, len(batches) - at - 1)) == batches[at + 1 :]


def test_a_state_taken_before_the_first_micro_batch_is_the_beginning(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [3, 20, 5, 5, 1])
    with closing(corpus.open()) as dataset:
        state = json.dumps(dataset.state_dict())
        batches = list(islice(dataset, 6))
    with closing(corpus.open(state)) as resumed:
        assert list(islice(resumed, 6)) == batches


def test_a_data_set_that_was_used_goes_back_to_a_saved_position(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [5 * ROW_LENGTH, 4 * ROW_LENGTH, 3 * ROW_LENGTH], rows_per_batch=1)
    with closing(corpus.open()) as dataset:
        batches = list(islice(dataset, 12))
        dataset.load_state_dict(json.loads(json.dumps(batches[0].state)))
        assert list(islice(dataset, 11)) == batches[1:]
        other = next(micro.state for micro in batches if micro.samples[0].origin != batches[0].samples[0].origin)
        list(islice(dataset, 13))  # into the next epoch, where another document waits
        dataset.load_state_dict(other)
        at = next(at for at, micro in enumerate(batches) if micro.state == other)
        assert list(islice(dataset, 11 - at)) == batches[at + 1 :]


def test_documents_that_wait_at_the_end_come_before_the_next_epoch_in_one_order(tmp_path: Path) -> None:
    preparers = {name: Documents(name, 1) for name in ("text", "asr", "tts")}
    corpus = Corpus(tmp_path, preparers, {(name, name): [3 * ROW_LENGTH] for name in preparers})
    with closing(corpus.open()) as dataset:
        first, second = epochs(dataset, 2)
    assert len(first) == len(second) == 9
    assert Counter(words_of(first)) == corpus.expected_words()
    middle = json.dumps(first[5].state, sort_keys=True)
    assert len(first[5].state["pending"]) > 1
    with closing(corpus.open(middle)) as resumed:
        assert list(islice(resumed, 3)) == first[6:]


def test_a_source_that_is_gone_takes_its_waiting_document_along(tmp_path: Path) -> None:
    both = Corpus(
        tmp_path,
        {"text": Documents("text", 1)},
        {("text", "a"): [2] * 4, ("text", "b"): [5 * ROW_LENGTH]},
    )
    with closing(both.open()) as dataset:
        micro = next(micro for micro in dataset if micro.state["pending"].get("text", {}).get("source") == "b")
    alone = Corpus(tmp_path, both.preparers, {("text", "a"): [2] * 4})
    with closing(alone.open(json.dumps(micro.state))) as resumed:
        batches = epochs(resumed, 2)
    assert Counter(words_of(batches[1])) == alone.expected_words()


def test_epochs_differ_in_order_and_in_randomness(tmp_path: Path) -> None:
    with closing(text_only(tmp_path, [1] * 60).open()) as dataset:
        first, second = epochs(dataset, 2)
    assert words_of(first) != words_of(second)
    seeds = [sample.origin.seed for micro in (*first, *second) for sample in micro.samples]
    assert len(set(seeds)) == 120


def test_rows_drawn_are_counted_by_source(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, {"text": Documents("text", 1)}, {("text", "a"): [2] * 3, ("text", "b"): [2, -1]}, 2)
    with closing(corpus.open()) as dataset:
        epochs(dataset, 2)
        assert dataset.source_counts == {"a": 12, "b": 8}


def test_an_unreadable_row_is_named_and_counted_and_training_goes_on(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [3] * 12 + [-1] + [3] * 12, limit=0.04)
    with closing(corpus.open()) as dataset:
        found = epochs(dataset, 2)
    for epoch, batches in enumerate(found):
        (bad,) = [bad for micro in batches for bad in micro.bad]
        assert (bad.source, bad.index, bad.count) == ("a", 12, epoch + 1)
        assert "not JSON" in bad.reason
        assert Counter(words_of(batches)) == corpus.expected_words()


def test_a_row_that_cannot_be_prepared_is_unreadable_too(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [3] * 12, limit=0.2)
    with closing(corpus.open()) as dataset:
        path = tmp_path / "a" / "train.jsonl"
        path.write_text(path.read_text().replace('{"length": 3}', '{"lenght": 3}', 1))
        (batches,) = epochs(dataset, 1)
    assert [(bad.index, bad.reason) for micro in batches for bad in micro.bad] == [(0, "no length")]


def test_bad_rows_before_the_end_of_an_epoch_are_reported_without_samples(tmp_path: Path) -> None:
    preparers = {"text": Documents("text", 1), "image": Documents("image", 1, None)}
    corpus = Corpus(tmp_path, preparers, {("text", "a"): [-1], ("image", "b"): [1] * 5})
    with closing(corpus.open()) as dataset:
        (batches,) = epochs(dataset, 1)
    (empty,) = [micro for micro in batches if not micro.samples]
    assert (empty.modality, [bad.source for bad in empty.bad]) == ("text", ["a"])


@settings(PATIENT, max_examples=40)
@given(num_rows=st.integers(1, 120), percent=st.integers(0, 100), seed=st.integers(0, 99), data=st.data())
def test_the_limit_is_a_share_of_the_rows_whatever_their_order(
    folder: Path, num_rows: int, percent: int, seed: int, data: st.DataObject
) -> None:
    num_allowed = num_rows * percent // 100
    num_bad = min(num_allowed, num_rows - 1)
    bad = data.draw(st.permutations(range(num_rows)))
    within = [-1 if index in bad[:num_bad] else 1 for index in range(num_rows)]
    preparers = {"text": Documents("text", 1)}
    with closing(Corpus(folder, preparers, {("text", "a"): within}, 1, seed, percent / 100).open()) as dataset:
        assert len(epochs(dataset, 3)) == 3
    if num_allowed < num_rows:
        beyond = [-1 if index in bad[: num_allowed + 1] else 1 for index in range(num_rows)]
        dataset = Corpus(folder, preparers, {("text", "a"): beyond}, 1, seed, percent / 100).open()
        with closing(dataset), pytest.raises(DataError):
            epochs(dataset, 1)


def test_too_many_unreadable_rows_stop_the_run_and_name_the_source(tmp_path: Path) -> None:
    corpus = Corpus(
        tmp_path,
        {"text": Documents("text", 1)},
        {("text", "good"): [2] * 20, ("text", "rotten"): [2] * 5 + [-1] * 5},
        limit=0.1,
    )
    with closing(corpus.open()) as dataset, pytest.raises(DataError, match=r"max_bad_fraction 0\.1") as caught:
        epochs(dataset, 1)
    assert caught.value.source == "rotten"
    assert caught.value.index is not None
    assert caught.value.index >= 5
    assert "not JSON" in caught.value.reason


def test_none_allowed_means_none(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [2] * 50 + [-1], limit=0.0)
    with closing(corpus.open()) as dataset, pytest.raises(DataError):
        epochs(dataset, 1)


def test_a_large_source_that_is_all_broken_is_not_read_to_its_end(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [-1] * 3000, limit=0.1)
    with closing(corpus.open()) as dataset:
        with pytest.raises(DataError, match="20 unreadable rows of 20"):
            next(iter(dataset))
        assert dataset.source_counts == {"a": 20}


def test_nothing_but_unreadable_rows_is_an_error_even_where_all_may_be(tmp_path: Path) -> None:
    preparers = {"text": Documents("text", 1), "image": Documents("image", 1, None)}
    corpus = Corpus(tmp_path, preparers, {("text", "a"): [-1] * 4, ("image", "b"): [-1] * 30}, limit=1.0)
    with closing(corpus.open()) as dataset, pytest.raises(DataError, match="no row of any source can be read"):
        epochs(dataset, 1)


def test_bad_rows_are_counted_on_after_a_resume(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [2] * 30 + [-1] * 3, limit=0.1)
    with closing(corpus.open()) as dataset:
        first, second = epochs(dataset, 2)
    with closing(corpus.open(json.dumps(first[-1].state))) as resumed:
        assert epochs(resumed, 1) == [second]
    assert [bad.count for micro in second for bad in micro.bad] == [4, 5, 6]


def test_a_missing_file_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [1])
    corpus.open().close()
    there = SourceConfig(name="a", category="any", path=str(tmp_path / "a"))
    gone = SourceConfig(name="gone", category="any", path=str(tmp_path / "gone"))
    with pytest.raises(DataError, match="gone: cannot open"):
        TrueStreamingDataset([(there, "text"), (gone, "text")], corpus.preparers, {"text": 1.0}, 0, 0.1)


@settings(PATIENT, max_examples=30)
@given(st.data())
def test_samples_to_skip_are_passed_over_and_all_others_come(folder: Path, data: st.DataObject) -> None:
    corpus = data.draw(corpora(folder))
    skip = [f"{name}[{index}]" for (_, name), rows in corpus.rows.items() for index in range(len(rows))]
    skip = data.draw(st.lists(st.sampled_from(skip), unique=True, max_size=len(skip) - 1))
    with closing(corpus.open(skip=skip)) as dataset:
        found = epochs(dataset, 2)
    for batches in found:
        kept = {
            (name, word): count
            for (name, word), count in corpus.expected_words().items()
            if f"{name}[{word // 1000}]" not in skip
        }
        assert Counter(words_of(batches)) == kept
    told = [name for batches in found for micro in batches for name in micro.skipped]
    assert sorted(told) == sorted(skip), "each is told once"
    assert found[1][-1].state["skipped"] == dict.fromkeys(skip, 2 * corpus.repeat)


def test_a_resume_goes_on_exactly_with_the_samples_left_out(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [3, 20, 5, 5, 1, 7])
    skip = ["a[2]", "a[5]"]
    with closing(corpus.open(skip=skip)) as dataset:
        batches = list(islice(dataset, 14))
    for at in (0, 3, 8):
        with closing(corpus.open(json.dumps(batches[at].state), skip=skip)) as resumed:
            assert list(islice(resumed, 13 - at)) == batches[at + 1 :]


def test_the_rest_of_a_document_that_is_to_be_skipped_now_does_not_come(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [5 * ROW_LENGTH, 4 * ROW_LENGTH], rows_per_batch=1)
    with closing(corpus.open()) as dataset:
        first = next(iter(dataset))
    name = first.samples[0].origin.id
    assert first.state["pending"]
    with closing(corpus.open(json.dumps(first.state), skip=[name])) as resumed:
        (batches,) = epochs(resumed, 1)
    assert name not in {sample.origin.id for micro in batches for sample in micro.samples}
    assert batches[-1].state["skipped"] == {name: 1}


def test_an_epoch_of_which_only_a_rest_to_be_skipped_was_left_ends(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [2, 5 * ROW_LENGTH], rows_per_batch=1)
    with closing(corpus.open()) as dataset:
        (batches,) = epochs(dataset, 1)
    micro, name = batches[-2], batches[-1].samples[0].origin.id
    with closing(corpus.open(json.dumps(micro.state), skip=[name])) as resumed:
        (rest,) = epochs(resumed, 1)
    assert [(found.samples, found.skipped, found.state["plan"]["epoch"]) for found in rest] == [((), (name,), 0)]


def test_an_epoch_that_ends_with_skipped_samples_ends(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, {"image": Documents("image", 1, None)}, {("image", "a"): [1] * 3})
    with closing(corpus.open()) as dataset:
        (batches,) = epochs(dataset, 1)
    last = batches[-1].samples[0].origin.id
    with closing(corpus.open(skip=[last])) as dataset:
        (shorter,) = epochs(dataset, 1)
    assert (shorter[-1].samples, shorter[-1].skipped, shorter[-1].ends_epoch) == ((), (last,), True)


def test_skipping_everything_is_an_error(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [3, 3])
    dataset = corpus.open(skip=["a[0]", "a[1]"])
    with closing(dataset), pytest.raises(DataError, match="not among the 2 left out"):
        next(iter(dataset))


def test_an_epoch_of_which_everything_is_skipped_is_an_error_whatever_came_before_it(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [3, 3])
    with closing(corpus.open()) as dataset:
        (batches,) = epochs(dataset, 1)
    dataset = corpus.open(json.dumps(batches[-1].state), skip=["a[0]", "a[1]"])
    with closing(dataset), pytest.raises(DataError, match="not among the 2 left out"):
        next(iter(dataset))


def test_an_epoch_of_which_the_rest_is_skipped_after_a_resume_ends(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [ROW_LENGTH, ROW_LENGTH], rows_per_batch=1)
    with closing(corpus.open()) as dataset:
        (first, second) = islice(dataset, 2)
    skip = [second.samples[0].origin.id]
    with closing(corpus.open(json.dumps(first.state), skip=skip)) as resumed:
        (rest, following) = epochs(resumed, 2)
    assert [micro.samples for micro in rest] == [()]
    assert [sample.origin.id for micro in following for sample in micro.samples] == [first.samples[0].origin.id]


@settings(PATIENT, max_examples=30)
@given(st.data(), st.integers(1, 3))
def test_the_ranks_shares_are_the_micro_batch_and_fit(folder: Path, data: st.DataObject, num_ranks: int) -> None:
    corpus = data.draw(corpora(folder))
    with closing(corpus.open(num_ranks=num_ranks)) as dataset:
        (batches,) = epochs(dataset, 1)
    for micro in batches:
        preparer = corpus.preparers[micro.modality]
        shares = [share_of(micro.samples, preparer, rank, num_ranks) for rank in range(num_ranks)]
        assert Counter(sample for share in shares for sample in share) == Counter(micro.samples)
        for share in shares:
            rows = pack([sample.length for sample in share], preparer.rows_per_batch, preparer.row_length or 1)
            assert len(rows) <= preparer.rows_per_batch


@settings(PATIENT, max_examples=20)
@given(st.data())
def test_more_ranks_with_fewer_rows_each_see_what_one_sees(folder: Path, data: st.DataObject) -> None:
    corpus = data.draw(corpora(folder))
    wider = {name: Documents(name, 2 * own.rows_per_batch, own.row_length) for name, own in corpus.preparers.items()}
    alone = Corpus(corpus.folder, wider, corpus.rows, corpus.repeat, corpus.seed, corpus.limit)
    with closing(alone.open()) as one, closing(corpus.open(num_ranks=2)) as two:
        assert epochs(one, 2) == epochs(two, 2)
        assert one.estimate_epoch() == two.estimate_epoch()


def draw_lengths(kind: str, count: int) -> list[int]:
    generator = np.random.default_rng(count)
    drawn: Any = {
        "short": lambda: generator.integers(1, 60, count),
        "half a row": lambda: generator.integers(150, 350, count),
        "most of a row": lambda: generator.integers(260, 512, count),
        "any": lambda: generator.integers(1, 512, count),
        "longer than rows": lambda: generator.integers(500, 3000, count),
        "skewed": lambda: np.minimum(generator.lognormal(4.5, 1.2, count), 20_000).astype(int) + 1,
        "two kinds": lambda: generator.choice([20, 400], count),
    }[kind]()
    return [int(length) for length in drawn]


@pytest.mark.parametrize("count", [300, 1000])
@pytest.mark.parametrize(
    "kind", ["short", "half a row", "most of a row", "any", "longer than rows", "skewed", "two kinds"]
)
def test_the_length_of_an_epoch_is_estimated(tmp_path: Path, kind: str, count: int) -> None:
    preparers = {"text": Documents("text", 2, 512), "image": Documents("image", 4, None)}
    rows = {("text", "a"): draw_lengths(kind, count), ("text", "b"): [100] * 90, ("image", "c"): [1] * 42}
    with closing(Corpus(tmp_path, preparers, rows, repeat=2).open()) as dataset:
        before = dataset.state_dict()
        estimate = dataset.estimate_epoch()
        assert dataset.state_dict() == before
        actual = len(epochs(dataset, 1)[0])
    assert abs(estimate / actual - 1) < 0.15, (estimate, actual)


def test_the_estimate_of_what_is_not_packed_is_exact(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, {"image": Documents("image", 4, None)}, {("image", "a"): [1] * 22}, 3)
    with closing(corpus.open()) as dataset:
        assert dataset.estimate_epoch() == len(epochs(dataset, 1)[0]) == 17


def test_rows_that_cannot_be_read_take_no_room_in_the_estimate(tmp_path: Path) -> None:
    with closing(text_only(tmp_path, [ROW_LENGTH, -1] * 50).open()) as dataset:
        assert dataset.estimate_epoch() == len(epochs(dataset, 1)[0]) == 25
