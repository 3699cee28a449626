"""The data set: every position once an epoch, exact resume, unreadable rows, several ranks, how long an epoch is."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.data_ranks import Ranks, steps, until_epoch_ends
from support.patience import PATIENT
from support.word_rows import ROW_LENGTH, Documents, Word, Words

from xoron_core.contract.config.data import DataConfig, SourceConfig
from xoron_core.contract.errors import AnotherFormatError, DataError, RanksDifferError
from xoron_core.data.dataset import DataShare, TrueStreamingDataset
from xoron_core.data.estimate import estimate_epoch
from xoron_core.data.records import Drawn, MicroBatch

Found = Drawn[MicroBatch]


@dataclass(frozen=True)
class Corpus:
    """Sources by name: the lengths of their documents, -1 for a row that cannot be read."""

    folder: Path
    preparers: dict[str, Documents]
    rows: Mapping[tuple[str, str], Sequence[int]]
    repeat: int = 1
    seed: int = 0
    config: DataConfig = field(default_factory=lambda: DataConfig(max_bad_fraction=1.0, pack_window=5, bucket_window=2))

    def open(
        self, state: str | None = None, skip: Sequence[str] = (), share: DataShare | None = None
    ) -> TrueStreamingDataset:
        sources = []
        for number, ((modality, name), lengths) in enumerate(self.rows.items()):
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            lines = ["{broken" if length < 0 else json.dumps({"length": length}) for length in lengths]
            (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
            source = SourceConfig(
                name=name, category="lengths", path=str(folder), weight=1.0 + number, sample_repeat=self.repeat
            )
            sources.append((source, modality))
        weights = {name: 1.0 + number for number, name in enumerate(self.preparers)}
        dataset = TrueStreamingDataset(sources, self.preparers, weights, self.seed, self.config, skip=skip, share=share)
        if state is not None:
            dataset.load_state_dict(json.loads(state))
        return dataset

    def expected_words(self, skip: Sequence[str] = ()) -> Counter[Word]:
        return Counter(
            {
                (name, index * 1000 + word): self.repeat
                for (_, name), lengths in self.rows.items()
                for index, length in enumerate(lengths)
                for word in range(length)
                if f"{name}[{index}]" not in skip
            }
        )

    def with_config(self, **values: Any) -> "Corpus":
        return replace(self, config=self.config.model_copy(update=values))


def text_only(folder: Path, lengths: Sequence[int], rows_per_batch: int = 2, **config: Any) -> Corpus:
    corpus = Corpus(folder, {"text": Documents("text", rows_per_batch)}, {("text", "a"): lengths})
    return corpus.with_config(**config)


def epochs(dataset: TrueStreamingDataset, count: int) -> list[list[Found]]:
    """The micro-batches of the next epochs, told apart by `ends_epoch`."""
    found: list[list[Found]] = [[]]
    for drawn in steps(dataset):
        found[-1].append(drawn)
        if drawn.ends_epoch:
            if len(found) == count:
                return found
            found.append([])
    raise AssertionError("a data set never ends")


def words_of(found: Sequence[Found]) -> list[Word]:
    return [
        word
        for drawn in found
        if drawn.part is not None
        for sample in drawn.part.samples
        if isinstance(sample, Words)
        for word in sample.words
    ]


def without_state(found: Sequence[Found]) -> list[Found]:
    return [replace(drawn, state={}) for drawn in found]


def stamp(state: dict[str, Any]) -> str:
    return json.dumps(state, sort_keys=True)


@st.composite
def corpora(draw: st.DrawFn, folder: Path, *, with_bad: bool = False) -> Corpus:
    """Two packed modalities and two whose samples are rows, one with a budget; documents up to three rows long."""
    lengths = st.lists(st.integers(-1 if with_bad else 1, 3 * ROW_LENGTH).filter(bool), min_size=1, max_size=9)
    preparers = {
        "text": Documents("text", draw(st.integers(1, 3))),
        "asr": Documents("asr", 2, None, batch_tokens=draw(st.integers(1, 60))),
        "image": Documents("image", draw(st.integers(1, 3)), None, varies_in_length=draw(st.booleans())),
    }
    rows = {("text", "a"): [*draw(lengths), 3], ("text", "b"): draw(lengths), ("asr", "c"): draw(lengths)}
    rows["image", "d"] = draw(lengths)
    config = DataConfig(
        max_bad_fraction=1.0,
        pack_window=draw(st.integers(1, 12)),
        bucket_window=draw(st.integers(1, 3)),
        shuffle_window=draw(st.integers(1, 12)),
    )
    return Corpus(folder, preparers, rows, draw(st.integers(1, 2)), draw(st.integers(0, 99)), config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written anew by every example."""
    return tmp_path_factory.mktemp("corpus")


@settings(PATIENT, max_examples=40)
@given(st.data())
def test_every_word_comes_once_an_epoch_for_each_repeat(folder: Path, data: st.DataObject) -> None:
    corpus = data.draw(corpora(folder))
    with closing(corpus.open()) as dataset:
        for found in epochs(dataset, 2):
            assert Counter(words_of(found)) == corpus.expected_words()
            assert [drawn.ends_epoch for drawn in found] == [False] * (len(found) - 1) + [True]


@settings(PATIENT, max_examples=40)
@given(st.data())
def test_micro_batches_are_of_one_modality_and_fit(folder: Path, data: st.DataObject) -> None:
    corpus = data.draw(corpora(folder))
    modality_of = {name: modality for modality, name in corpus.rows}
    with closing(corpus.open()) as dataset:
        (found,) = epochs(dataset, 1)
    for drawn in found:
        assert drawn.part is not None
        samples = [sample for sample in drawn.part.samples if isinstance(sample, Words)]
        assert {modality_of[source] for sample in samples for source, _ in sample.words} == {drawn.modality}
        preparer = corpus.preparers[drawn.modality]
        longest = max(sample.length for sample in samples)
        if preparer.row_length is not None:
            assert longest <= preparer.row_length
        else:
            assert len({sample.shape for sample in samples}) == 1
        if preparer.batch_tokens is None:
            assert len(samples) <= preparer.rows_per_batch
        else:
            assert len(samples) == 1 or len(samples) * longest <= preparer.batch_tokens


@settings(PATIENT, max_examples=30)
@given(st.data())
def test_a_source_goes_through_its_rows_window_by_window(folder: Path, data: st.DataObject) -> None:
    """Without shuffling, and with packing over a few documents, the order of a source is that of its file, within so
    many documents."""
    corpus = data.draw(corpora(folder)).with_config(shuffle_window=1, bucket_window=1)
    with closing(corpus.open()) as dataset:
        (found,) = epochs(dataset, 1)
    for (modality, name), lengths in corpus.rows.items():
        seen = list(dict.fromkeys(word // 1000 for source, word in words_of(found) if source == name))
        window = corpus.config.pack_window if modality == "text" else corpus.preparers[modality].rows_per_batch
        assert sorted(seen) == list(range(len(lengths)))
        assert all(abs(at - row) < window for at, row in enumerate(seen))


@settings(PATIENT, max_examples=40)
@given(st.data())
def test_a_resumed_run_gives_the_same_micro_batches(folder: Path, data: st.DataObject) -> None:
    corpus = data.draw(corpora(folder, with_bad=True))
    with closing(corpus.open()) as dataset:
        length = sum(map(len, epochs(dataset, 2)))
    with closing(corpus.open()) as dataset:
        found, states = [], []
        for drawn in islice(steps(dataset), length + 3):
            found.append(drawn)
            states.append(stamp(drawn.state))  # as it is now; nothing later may change it
    assert [stamp(drawn.state) for drawn in found] == states
    ends = [at for at, drawn in enumerate(found) if drawn.ends_epoch]
    at = data.draw(st.sampled_from(range(length)) | st.sampled_from(ends[:2]))
    with closing(corpus.open(states[at])) as resumed:
        assert stamp(resumed.state_dict()) == states[at]
        assert list(islice(steps(resumed), len(found) - at - 1)) == found[at + 1 :]


@settings(PATIENT, max_examples=40)
@given(st.data())
def test_a_layout_that_changes_at_a_resume_loses_and_repeats_nothing(folder: Path, data: st.DataObject) -> None:
    """Micro-batches of another size, rows of another length, windows of other sizes: twice in a row."""
    corpus = data.draw(corpora(folder))
    seen: Counter[Word] = Counter()
    state = None
    for _ in range(data.draw(st.integers(1, 2))):
        with closing(corpus.open(state)) as dataset:
            found = list(islice(steps(dataset), data.draw(st.integers(1, 6))))
            ends = [at for at, drawn in enumerate(found) if drawn.ends_epoch]
            found = found[: ends[0]] if ends else found
            seen.update(words_of(found))
            state = stamp(found[-1].state) if found else state
        preparers = {
            name: replace(
                own,
                rows_per_batch=data.draw(st.integers(1, 4)),
                row_length=own.row_length and data.draw(st.integers(3, 12)),
            )
            for name, own in corpus.preparers.items()
        }
        corpus = replace(corpus, preparers=preparers).with_config(
            pack_window=data.draw(st.integers(1, 9)), bucket_window=data.draw(st.integers(1, 3))
        )
    with closing(corpus.open(state)) as dataset:
        (rest, following) = epochs(dataset, 2)
    seen.update(words_of(rest))
    assert seen == corpus.expected_words()
    assert Counter(words_of(following)) == corpus.expected_words()


def ranks_of(corpus: Corpus, num_ranks: int, state: str | None = None) -> Ranks:
    return Ranks(lambda share: corpus.open(state, share=share), num_ranks)


def at_most(count: int) -> Callable[[Iterator[Found]], list[Found]]:
    """So many, or up to the last but one of the epoch."""

    def take(found: Iterator[Found]) -> list[Found]:
        taken = list(islice(found, count))
        ends = [at for at, drawn in enumerate(taken) if drawn.ends_epoch]
        return taken[: ends[0]] if ends else taken

    return take


@settings(PATIENT, max_examples=30)
@given(st.data(), st.integers(1, 4))
def test_ranks_share_an_epoch_and_agree_on_everything_else(folder: Path, data: st.DataObject, num_ranks: int) -> None:
    corpus = data.draw(corpora(folder, with_bad=True))
    found = ranks_of(corpus, num_ranks).run(until_epoch_ends)
    assert Counter(word for own in found for word in words_of(own)) == corpus.expected_words()
    bad = [index for lengths in corpus.rows.values() for index in lengths if index < 0]
    for together in zip(*found, strict=True):
        assert len({stamp(drawn.state) for drawn in together}) == 1
        assert len({(drawn.modality, drawn.sample_ids, drawn.bad, drawn.ends_epoch) for drawn in together}) == 1
        named = {name for drawn in together if drawn.part is not None for name in drawn.part.sample_ids}
        assert named == set(together[0].sample_ids)
    assert sum(len(drawn.bad) for drawn in found[0]) == len(bad) * corpus.repeat


@settings(PATIENT, max_examples=40)
@given(st.data())
def test_each_sample_comes_once_though_the_number_of_ranks_changes(folder: Path, data: st.DataObject) -> None:
    corpus = data.draw(corpora(folder))
    seen: Counter[Word] = Counter()
    state = None
    for _ in range(data.draw(st.integers(1, 3))):
        found = ranks_of(corpus, data.draw(st.integers(1, 4)), state).run(at_most(data.draw(st.integers(1, 5))))
        seen.update(word for own in found for word in words_of(own))
        state = stamp(found[0][-1].state) if found[0] else state
    rest = ranks_of(corpus, data.draw(st.integers(1, 4)), state).run(until_epoch_ends)
    seen.update(word for own in rest for word in words_of(own))
    assert seen == corpus.expected_words()


@settings(PATIENT, max_examples=20)
@given(st.data(), st.integers(2, 3))
def test_ranks_resume_exactly(folder: Path, data: st.DataObject, num_ranks: int) -> None:
    corpus = data.draw(corpora(folder, with_bad=True))
    found = ranks_of(corpus, num_ranks).run(lambda own: list(islice(own, 12)))
    at = data.draw(st.integers(0, 11))
    resumed = ranks_of(corpus, num_ranks, stamp(found[0][at].state)).run(lambda own: list(islice(own, 11 - at)))
    assert resumed == [own[at + 1 :] for own in found]


def test_one_row_a_window_is_shared_as_one_rank_with_twice_the_rows_reads_it(tmp_path: Path) -> None:
    rows = {("image", "a"): [1] * 21}
    one = Corpus(tmp_path, {"image": Documents("image", 4, None)}, rows).with_config(bucket_window=1)
    two = Corpus(tmp_path, {"image": Documents("image", 2, None)}, rows).with_config(bucket_window=1)
    [alone] = ranks_of(one, 1).run(until_epoch_ends)
    together = ranks_of(two, 2).run(until_epoch_ends)
    for mine, *theirs in zip(alone, *together, strict=True):
        assert sorted(words_of([mine])) == sorted(words_of(theirs))


def test_sources_that_take_turns_do_not_fall_to_one_rank_each(tmp_path: Path) -> None:
    corpus = Corpus(
        tmp_path,
        {"image": Documents("image", 8, None)},
        {("image", "a"): [1] * 64, ("image", "b"): [1] * 64},
    ).with_config(bucket_window=1)
    for own in ranks_of(corpus, 2).run(until_epoch_ends):
        counts = Counter(source for source, _ in words_of(own))
        assert min(counts["a"], counts["b"]) > 16


def test_ranks_that_see_other_files_are_told_apart(tmp_path: Path) -> None:
    share = DataShare(0, 2, lambda item: [item, replace(item, digest=item.digest + 1)])
    corpus = text_only(tmp_path, [3] * 20)
    with closing(corpus.open(share=share)) as dataset, pytest.raises(RanksDifferError, match="ranks 0 and 1"):
        next(steps(dataset))


def test_a_state_taken_before_the_first_micro_batch_is_the_beginning(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [3, 20, 5, 5, 1])
    with closing(corpus.open()) as dataset:
        state = stamp(dataset.state_dict())
        found = list(islice(steps(dataset), 6))
    with closing(corpus.open(state)) as resumed:
        assert list(islice(steps(resumed), 6)) == found


def test_a_data_set_that_was_used_goes_back_to_a_saved_position(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [5 * ROW_LENGTH, 4 * ROW_LENGTH, 3 * ROW_LENGTH], rows_per_batch=1)
    with closing(corpus.open()) as dataset:
        found = list(islice(steps(dataset), 12))
        dataset.load_state_dict(json.loads(stamp(found[0].state)))
        assert list(islice(steps(dataset), 11)) == found[1:]
        list(islice(steps(dataset), 15))  # into the next epoch
        dataset.load_state_dict(json.loads(stamp(found[6].state)))
        assert list(islice(steps(dataset), 5)) == found[7:]


def test_a_state_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    with closing(text_only(tmp_path, [3]).open()) as dataset, pytest.raises(AnotherFormatError, match="start anew"):
        dataset.load_state_dict({"plan": {}, "drawn": {}})


def test_a_source_that_is_gone_takes_its_rest_along(tmp_path: Path) -> None:
    both = text_only(tmp_path, [2] * 4)
    both = replace(both, rows={("text", "a"): [2] * 4, ("text", "b"): [5 * ROW_LENGTH]})
    with closing(both.open()) as dataset:
        first = next(steps(dataset))
    alone = replace(both, rows={("text", "a"): [2] * 4})
    with closing(alone.open(stamp(first.state))) as resumed:
        _, following = epochs(resumed, 2)
    assert Counter(words_of(following)) == alone.expected_words()


def test_a_new_modality_begins_in_the_epoch_that_it_comes_to(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [2] * 4)
    with closing(corpus.open()) as dataset:
        state = epochs(dataset, 3)[2][0].state
    both = Corpus(
        tmp_path,
        {**corpus.preparers, "image": Documents("image", 1, None)},
        {**corpus.rows, ("image", "b"): [1, 1]},
        config=corpus.config,
    )
    with closing(both.open(stamp(state))) as dataset:
        rest, following = epochs(dataset, 2)
    assert [word for word in words_of(rest) if word[0] == "b"] != []
    assert Counter(words_of(following)) == both.expected_words()


def test_epochs_differ_in_order_and_in_randomness(tmp_path: Path) -> None:
    with closing(text_only(tmp_path, [ROW_LENGTH] * 60).open()) as dataset:
        first, second = epochs(dataset, 2)
    assert words_of(first) != words_of(second)
    seeds = [
        sample.origin.seed for drawn in (*first, *second) if drawn.part is not None for sample in drawn.part.samples
    ]
    assert len(set(seeds)) == 120


def test_rows_used_are_counted_by_source(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, {"text": Documents("text", 1)}, {("text", "a"): [2, 20, 2], ("text", "b"): [2, -1]}, 2)
    with closing(corpus.open()) as dataset:
        epochs(dataset, 2)
        assert dataset.source_counts == {"a": 12, "b": 8}


@settings(PATIENT, max_examples=30)
@given(st.data())
def test_limits_of_an_epoch_hold(folder: Path, data: st.DataObject) -> None:
    corpus = data.draw(corpora(folder))
    limits = [data.draw(st.none() | st.integers(1, 30)) for _ in range(3)]
    preparers = {**corpus.preparers, "text": replace(corpus.preparers["text"], max_per_epoch=limits[2])}
    corpus = replace(corpus, preparers=preparers).with_config(max_per_epoch=limits[0], max_per_dataset=limits[1])
    total = {name: len(rows) * corpus.repeat for (_, name), rows in corpus.rows.items()}
    with closing(corpus.open()) as dataset:
        before: dict[str, int] = dict.fromkeys(total, 0)
        for found in epochs(dataset, 3):
            drawn = found[-1].state["drawn"]
            used = {name: drawn[name] - before[name] for name in total}
            before = drawn
            assert limits[0] is None or sum(used.values()) <= limits[0]
            assert limits[1] is None or max(used.values()) <= limits[1]
            assert limits[2] is None or used["a"] + used["b"] <= limits[2]
            if limits == [None, None, None]:
                assert used == total


def test_an_unreadable_row_is_named_and_counted_and_training_goes_on(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [3] * 12 + [-1] + [3] * 12, max_bad_fraction=0.04)
    with closing(corpus.open()) as dataset:
        found = epochs(dataset, 2)
    for epoch, batches in enumerate(found):
        (bad,) = [bad for drawn in batches for bad in drawn.bad]
        assert (bad.source, bad.index, bad.kind, bad.count) == ("a", 12, "unreadable", epoch + 1)
        assert "not JSON" in bad.reason
        assert Counter(words_of(batches)) == corpus.expected_words()


def test_a_row_that_cannot_be_prepared_is_unreadable_too(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [3] * 12)
    with closing(corpus.open()) as dataset:
        path = tmp_path / "a" / "train.jsonl"
        path.write_text(path.read_text().replace('{"length": 3}', '{"lenght": 3}', 1))
        (found,) = epochs(dataset, 1)
    assert [(bad.index, bad.kind, bad.reason) for drawn in found for bad in drawn.bad] == [
        (0, "wrong_type", "no length")
    ]


def test_a_window_of_unreadable_rows_is_told_without_samples(tmp_path: Path) -> None:
    preparers = {"text": Documents("text", 1), "image": Documents("image", 1, None)}
    corpus = Corpus(tmp_path, preparers, {("text", "a"): [-1], ("image", "b"): [1] * 5})
    with closing(corpus.open()) as dataset:
        (found,) = epochs(dataset, 1)
    (empty,) = [drawn for drawn in found if drawn.part is None]
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
    corpus = replace(text_only(folder, within, 1, max_bad_fraction=percent / 100), seed=seed)
    with closing(corpus.open()) as dataset:
        assert len(epochs(dataset, 3)) == 3
    if num_allowed < num_rows:
        beyond = [-1 if index in bad[: num_allowed + 1] else 1 for index in range(num_rows)]
        dataset = replace(corpus, rows={("text", "a"): beyond}).open()
        with closing(dataset), pytest.raises(DataError):
            epochs(dataset, 1)


def test_too_many_unreadable_rows_stop_the_run_and_name_the_source(tmp_path: Path) -> None:
    rows = {("text", "good"): [2] * 20, ("text", "rotten"): [2] * 5 + [-1] * 5}
    corpus = replace(text_only(tmp_path, [], max_bad_fraction=0.1), rows=rows)
    with closing(corpus.open()) as dataset, pytest.raises(DataError, match=r"max_bad_fraction 0\.1") as caught:
        epochs(dataset, 1)
    assert caught.value.source == "rotten"
    assert caught.value.index is not None
    assert caught.value.index >= 5
    assert "not JSON" in caught.value.reason


def test_none_allowed_means_none(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [2] * 50 + [-1], max_bad_fraction=0.0)
    with closing(corpus.open()) as dataset, pytest.raises(DataError):
        epochs(dataset, 1)


def test_a_large_source_that_is_all_broken_is_not_read_to_its_end(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [-1] * 3000, max_bad_fraction=0.1, pack_window=100)
    with closing(corpus.open()) as dataset, pytest.raises(DataError, match="unreadable rows of 100"):
        next(steps(dataset))


def test_nothing_but_unreadable_rows_is_an_error_even_where_all_may_be(tmp_path: Path) -> None:
    preparers = {"text": Documents("text", 1), "image": Documents("image", 1, None)}
    corpus = Corpus(tmp_path, preparers, {("text", "a"): [-1] * 4, ("image", "b"): [-1] * 30})
    with closing(corpus.open()) as dataset, pytest.raises(DataError, match="no row of any source can be read"):
        epochs(dataset, 1)


def test_bad_rows_are_counted_on_after_a_resume(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [2] * 30 + [-1] * 3, max_bad_fraction=0.1)
    with closing(corpus.open()) as dataset:
        first, second = epochs(dataset, 2)
    with closing(corpus.open(stamp(first[-1].state))) as resumed:
        assert epochs(resumed, 1) == [second]
    assert [bad.count for drawn in second for bad in drawn.bad] == [4, 5, 6]


@settings(PATIENT, max_examples=30)
@given(st.data())
def test_samples_to_skip_are_passed_over_and_all_others_come(folder: Path, data: st.DataObject) -> None:
    corpus = data.draw(corpora(folder))
    skip = [f"{name}[{index}]" for (_, name), rows in corpus.rows.items() for index in range(len(rows))]
    skip = data.draw(st.lists(st.sampled_from(skip), unique=True, max_size=len(skip) - 1))
    with closing(corpus.open(skip=skip)) as dataset:
        found = epochs(dataset, 2)
    for batches in found:
        assert Counter(words_of(batches)) == corpus.expected_words(skip)
    told = [name for batches in found for drawn in batches for name in drawn.skipped]
    assert sorted(told) == sorted(skip), "each is told once"
    assert found[1][-1].state["skipped"] == dict.fromkeys(skip, 2 * corpus.repeat)


@settings(PATIENT, max_examples=30)
@given(st.data())
def test_samples_that_are_to_be_skipped_after_a_resume_do_not_come_and_nothing_else_is_lost(
    folder: Path, data: st.DataObject
) -> None:
    corpus = data.draw(corpora(folder))
    with closing(corpus.open()) as dataset:
        (whole,) = epochs(dataset, 1)
    before = whole[: data.draw(st.integers(1, len(whole) - 1))] if len(whole) > 1 else []
    names = sorted({name for drawn in whole[len(before) :] for name in drawn.sample_ids})
    skip = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    seen = Counter(words_of(before))
    resumed = corpus.open(stamp(before[-1].state) if before else None, skip=skip)
    with closing(resumed):
        try:
            (rest,) = epochs(resumed, 1)
        except DataError:  # nothing at all was left of the epoch
            assert set(names) == set(skip)
            return
    for name, word in words_of(rest):
        assert f"{name}[{word // 1000}]" not in skip
        seen[name, word] += 1
    kept = corpus.expected_words(skip)
    assert all(seen[word] == count for word, count in kept.items())


def test_skipping_everything_is_an_error(tmp_path: Path) -> None:
    dataset = text_only(tmp_path, [3, 3]).open(skip=["a[0]", "a[1]"])
    with closing(dataset), pytest.raises(DataError, match="not among the 2 left out"):
        next(steps(dataset))


def test_an_epoch_of_which_everything_is_skipped_is_an_error_whatever_came_before_it(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [3, 3])
    with closing(corpus.open()) as dataset:
        (found,) = epochs(dataset, 1)
    dataset = corpus.open(stamp(found[-1].state), skip=["a[0]", "a[1]"])
    with closing(dataset), pytest.raises(DataError, match="not among the 2 left out"):
        next(steps(dataset))


def test_by_itself_it_gives_this_process_the_micro_batches(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [3, 20, 5, 5, 1])
    with closing(corpus.open()) as dataset, closing(corpus.open()) as other:
        assert list(islice(dataset, 5)) == [drawn.part for drawn in islice(steps(other), 5)]


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
        "ascending": lambda: np.sort(generator.integers(1, 512, count)),
    }[kind]()
    return [int(length) for length in drawn]


@pytest.mark.parametrize("count", [300, 1000])
@pytest.mark.parametrize(
    "kind", ["short", "half a row", "most of a row", "any", "longer than rows", "skewed", "two kinds", "ascending"]
)
def test_the_length_of_an_epoch_is_estimated(tmp_path: Path, kind: str, count: int) -> None:
    preparers = {"text": Documents("text", 2, 512), "image": Documents("image", 4, None, varies_in_length=False)}
    rows = {("text", "a"): draw_lengths(kind, count), ("text", "b"): [100] * 90, ("image", "c"): [1] * 42}
    corpus = Corpus(tmp_path, preparers, rows, repeat=2).with_config(pack_window=256)
    with closing(corpus.open()) as dataset:
        before = dataset.state_dict()
        estimate = estimate_epoch(dataset)
        assert dataset.state_dict() == before
        actual = len(epochs(dataset, 1)[0])
    assert abs(estimate / actual - 1) < 0.15, (estimate, actual)


def test_the_estimate_of_what_is_not_packed_is_exact(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, {"image": Documents("image", 4, None)}, {("image", "a"): [1] * 22}, 3)
    with closing(corpus.open()) as dataset:
        assert estimate_epoch(dataset) == len(epochs(dataset, 1)[0]) == 17


def test_rows_that_cannot_be_read_take_no_room_in_the_estimate(tmp_path: Path) -> None:
    with closing(text_only(tmp_path, [ROW_LENGTH, -1] * 50, pack_window=100).open()) as dataset:
        assert estimate_epoch(dataset) == len(epochs(dataset, 1)[0]) == 25


def test_all_of_a_source_counts_in_the_estimate_where_others_have_more_rows(tmp_path: Path) -> None:
    rows = {("text", "a"): [1] * 150 + [3 * ROW_LENGTH] * 150, ("text", "b"): [1] * 1200}
    corpus = Corpus(tmp_path, {"text": Documents("text", 2)}, rows).with_config(pack_window=100)
    with closing(corpus.open()) as dataset:
        estimate = estimate_epoch(dataset)
        actual = len(epochs(dataset, 1)[0])
    assert abs(estimate / actual - 1) < 0.15, (estimate, actual)


def test_the_estimate_packs_what_one_rank_packs(tmp_path: Path) -> None:
    corpus = text_only(tmp_path, [3, 5] * 48, rows_per_batch=4, pack_window=4)
    with closing(corpus.open(share=DataShare(0, 3, lambda item: [item] * 3))) as dataset:
        estimate = estimate_epoch(dataset)
    assert estimate == len(ranks_of(corpus, 3).run(until_epoch_ends)[0]) == 8


@pytest.mark.parametrize("batch_tokens", [None, 40])
def test_samples_of_several_shapes_are_estimated(tmp_path: Path, batch_tokens: int | None) -> None:
    lengths = [int(length) for length in np.random.default_rng(0).integers(4, 6, 400)]
    documents = Documents("image", 8, None, batch_tokens)
    corpus = Corpus(tmp_path, {"image": documents}, {("image", "a"): lengths}, repeat=2)
    with closing(corpus.open()) as dataset:
        estimate = estimate_epoch(dataset)
        actual = len(epochs(dataset, 1)[0])
    assert actual > 130  # of one shape, 100
    assert abs(estimate / actual - 1) < 0.15, (estimate, actual)
