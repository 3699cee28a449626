"""A source that goes away: left out and told, its place kept, and all of it there when it is back."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.word_rows import Documents, Word, Words

from xoron_core.contract.config.data import DataConfig, SourceConfig
from xoron_core.contract.errors import DataError, SourceLostError
from xoron_core.data.dataset import TrueStreamingDataset
from xoron_core.data.records import Drawn, MicroBatch
from xoron_core.data.retry import retried
from xoron_core.data.runner import Here

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


def open_both(home: Path, state: str | None = None) -> TrueStreamingDataset:
    sources = [
        (SourceConfig(name=name, category="lengths", path=str(home / name)), "image") for name in ("there", "lost")
    ]
    config = DataConfig(max_read_retries=0, bucket_window=1)
    dataset = TrueStreamingDataset(sources, {"image": Documents("image", 4, None)}, {"image": 1.0}, 0, config)
    if state is not None:
        dataset.load_state_dict(json.loads(state))
    return dataset


def steps(dataset: TrueStreamingDataset) -> Iterator[Drawn[MicroBatch]]:
    return dataset.follow(Here(dataset.preparation, lambda micro: micro, lambda: None))


def epoch(found: Iterator[Drawn[MicroBatch]]) -> list[Drawn[MicroBatch]]:
    taken = []
    for drawn in found:
        taken.append(drawn)
        if drawn.ends_epoch:
            break
    return taken


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


@pytest.mark.parametrize("steps_without", [1, 3, 30])
def test_after_a_resume_it_goes_on_from_its_place(home: Path, steps_without: int) -> None:
    with closing(open_both(home)) as dataset:
        found = steps(dataset)
        before = [next(found), next(found)]
        (home / "lost").rename(home / "away")
        for drawn in found:
            before.append(drawn)
            if len(before) == 2 + steps_without or dataset.lanes["image"].plan.is_exhausted:
                break
        (home / "away").rename(home / "lost")
    with closing(open_both(home, json.dumps(before[-1].state))) as resumed:
        rest = epoch(steps(resumed))
    assert words_of([*before, *rest]) == all_words("there", "lost")


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
        with pytest.raises(DataError, match="no row of any source can be read"):
            epoch(found)
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
