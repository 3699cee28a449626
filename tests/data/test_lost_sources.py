"""A source that goes away: left out and told, its place kept, and all of it there when it is back."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.data_ranks import Ranks, steps
from support.data_ranks import until_epoch_ends as epoch
from support.word_rows import Documents, Word, Words

from xoron_core.contract.config.data import DataConfig, SourceConfig
from xoron_core.contract.errors import SourceLostError
from xoron_core.data.dataset import DataShare, TrueStreamingDataset
from xoron_core.data.records import Drawn, MicroBatch
from xoron_core.data.retry import retried

NUM_ROWS = 24


def folder_of(home: Path, name: str) -> Path:
    """A source whose rows name files beside them."""
    folder = home / name
    (folder / "files").mkdir(parents=True)
    rows = [{"length": 2, "file": f"files/{index}"} for index in range(NUM_ROWS)]
    for row in rows:
        (folder / str(row["file"])).write_bytes(b"here")
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return folder


def open_both(
    home: Path,
    state: str | None = None,
    window: int = 1,
    row_length: int | None = None,
    share: DataShare | None = None,
    rows: int = 4,
) -> TrueStreamingDataset:
    """Windows of `window` micro-batches of `rows` rows."""
    sources = [
        (SourceConfig(name=name, category="lengths", path=str(home / name)), "image") for name in ("there", "lost")
    ]
    config = DataConfig(max_read_retries=0, bucket_window=window, pack_window=rows * window)
    preparers = {"image": Documents("image", rows, row_length)}
    dataset = TrueStreamingDataset(sources, preparers, {"image": 1.0}, 0, config, share=share)
    if state is not None:
        dataset.load_state_dict(json.loads(state))
    return dataset


def words_of(found: list[Drawn[MicroBatch]]) -> Counter[Word]:
    parts = [drawn.part for drawn in found if drawn.part is not None]
    samples = [sample for part in parts for sample in part.samples if isinstance(sample, Words)]
    return Counter(word for sample in samples for word in sample.words)


def all_words(*names: str) -> Counter[Word]:
    return Counter((name, index * 1000 + at) for name in names for index in range(NUM_ROWS) for at in range(2))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("there", "lost"):
        folder_of(tmp_path, name)
    return tmp_path


def test_it_is_left_out_told_once_and_the_epoch_goes_on(home: Path) -> None:
    with closing(open_both(home)) as dataset:
        found = steps(dataset)
        first = [next(found), next(found)]
        (home / "lost").rename(home / "away")
        rest = epoch(found)
    alerts = [alert for drawn in rest for alert in drawn.alerts]
    assert len(alerts) == 1
    assert "source 'lost' cannot be reached" in alerts[0]
    assert not any(drawn.bad for drawn in rest), "nothing is wrong with its rows"
    words = words_of([*first, *rest])
    assert all(words[word] == 1 for word in all_words("there"))
    assert {name for name, _ in words_of(rest[1:])} == {"there"}


def interrupted(home: Path, stop: int, **layout: Any) -> list[Drawn[MicroBatch]]:
    """Micro-batches up to the stop, or the epoch's end, of a run whose second source goes away after two of them; it is
    back afterwards."""
    with closing(open_both(home, **layout)) as dataset:
        found = steps(dataset)
        taken = [next(found), next(found)]
        (home / "lost").rename(home / "away")
        for drawn in found:
            taken.append(drawn)
            if len(taken) == stop or drawn.ends_epoch:
                break
    (home / "away").rename(home / "lost")
    return taken


@pytest.mark.parametrize("stop", range(3, 16))
@pytest.mark.parametrize("layout", [{}, {"window": 3}, {"window": 2, "row_length": 5}])
def test_after_a_resume_it_goes_on_from_its_place(home: Path, layout: dict[str, Any], stop: int) -> None:
    before = interrupted(home, stop, **layout)
    with closing(open_both(home, json.dumps(before[-1].state), **layout)) as resumed:
        rest = epoch(steps(resumed))
    words = words_of([*before, *rest])
    if before[-1].ends_epoch:  # what it owes comes with the next, which has all the rest again
        assert not (all_words("there", "lost") - words)
    else:
        assert words == all_words("there", "lost")


@pytest.mark.parametrize("stop", range(3, 12))
def test_after_a_resume_with_another_batch_size_too(home: Path, stop: int) -> None:
    before = interrupted(home, stop, window=3)
    if before[-1].ends_epoch:
        return
    with closing(open_both(home, json.dumps(before[-1].state), window=2, rows=3)) as resumed:
        rest = epoch(steps(resumed))
    assert words_of([*before, *rest]) == all_words("there", "lost")


@pytest.mark.parametrize("row_length", [None, 5])
def test_ranks_lose_it_together_and_lose_nothing(home: Path, row_length: int | None) -> None:
    def follow(found: Iterator[Drawn[MicroBatch]]) -> list[Drawn[MicroBatch]]:
        taken = [next(found), next(found)]
        gone.wait()
        return taken + epoch(found)

    gone = threading.Barrier(2, action=lambda: (home / "lost").rename(home / "away"), timeout=30)
    ranks = Ranks(lambda share: open_both(home, window=2, row_length=row_length, share=share), 2)
    before = ranks.run(follow)
    (home / "away").rename(home / "lost")
    state = json.dumps(before[0][-1].state)
    ranks = Ranks(lambda share: open_both(home, state, window=2, row_length=row_length, share=share), 2)
    rest = ranks.run(epoch)
    words = words_of([drawn for own in (*before, *rest) for drawn in own])
    assert not (all_words("there", "lost") - words)
    for name in ("there", "lost"):  # two epochs of the one; of the other what was owed, and an epoch
        assert {words[word] for word in all_words(name)} == {2}


def test_a_window_that_was_begun_waits_for_its_rows(home: Path) -> None:
    with closing(open_both(home, window=3)) as dataset:
        first = next(steps(dataset))
    state = json.dumps(first.state)
    with closing(open_both(home, state, window=3)) as resumed:
        found = steps(resumed)
        (home / "lost").rename(home / "away")
        with pytest.raises(SourceLostError, match="rows that the run had begun with are there"):
            next(found)


def test_a_source_that_is_another_than_before_is_told(home: Path) -> None:
    with closing(open_both(home, window=3)) as dataset:
        first = next(steps(dataset))
    rows = [{"length": 2, "file": f"files/{index}"} for index in range(NUM_ROWS - 3)]
    (home / "lost" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    with closing(open_both(home, json.dumps(first.state), window=3)) as resumed:
        rest = epoch(steps(resumed))
    assert "are not what they were" in rest[0].alerts[0]
    assert words_of(rest)[("there", 0)] == 1


def test_the_next_epoch_begins_with_what_it_owes(home: Path) -> None:
    with closing(open_both(home)) as dataset:
        found = steps(dataset)
        first = [next(found), next(found)]
        (home / "lost").rename(home / "away")
        first += epoch(found)
        (home / "away").rename(home / "lost")
        second, third = epoch(found), epoch(found)
    lost = Counter({word: count for word, count in words_of([*first, *second]).items() if word[0] == "lost"})
    assert lost == all_words("lost"), "the two epochs together have it once"
    assert words_of(third) == all_words("there", "lost")


def test_where_nothing_else_is_left_training_ends_and_says_so(home: Path) -> None:
    with closing(open_both(home)) as dataset:
        found = steps(dataset)
        next(found)
        for name in ("lost", "there"):
            (home / name).rename(home / f"{name} is away")
        with pytest.raises(SourceLostError, match="there is no other source to go on with"):
            epoch(found)


def test_it_is_tried_again_before_it_counts_as_lost() -> None:
    tries, pauses = [], []

    def read() -> str:
        tries.append(1)
        if len(tries) < 4:
            raise SourceLostError("a", "the network is down")
        return "row"

    assert retried(read, 3, pauses.append) == "row"
    assert pauses == [1.0, 2.0, 4.0]
    tries.clear()
    with pytest.raises(SourceLostError):
        retried(read, 2, pauses.append)
