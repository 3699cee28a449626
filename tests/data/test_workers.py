"""Workers: what they prepare is what one process would have, in the same order, whatever happens to them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.patience import PATIENT
from support.word_workers import Payload, Poison, collate, dataset_of, deadly, pool_of

from xoron_core.data.dataset import TrueStreamingDataset
from xoron_core.data.records import Drawn
from xoron_core.data.runner import Here
from xoron_core.data.workers import WorkerError, WorkerPool


def plain(drawn: Drawn[Payload]) -> Drawn[Any]:
    """With lists for tensors, which can be compared."""
    assert drawn.part is not None
    part = {key: value.tolist() if isinstance(value, torch.Tensor) else value for key, value in drawn.part.items()}
    return Drawn(**{**vars(drawn), "part": part})


def here(dataset: TrueStreamingDataset, count: int) -> list[Drawn[Any]]:
    with closing(dataset):
        return [
            plain(drawn) for drawn in islice(dataset.follow(Here(dataset.preparation, collate, lambda: None)), count)
        ]


def taken(
    dataset: TrueStreamingDataset,
    pool: WorkerPool[Payload],
    count: int,
    between: Callable[[int], None] = lambda _: None,
) -> list[Drawn[Any]]:
    found = []
    for number, drawn in enumerate(islice(dataset.follow(pool), count)):
        found.append(plain(drawn))
        between(number)
    return found


@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_change_nothing(tmp_path: Path, num_workers: int) -> None:
    expected = here(dataset_of(tmp_path), 80)
    assert any(drawn.ends_epoch for drawn in expected)
    dataset = dataset_of(tmp_path)
    with pool_of(dataset, num_workers) as pool:
        assert taken(dataset, pool, 80) == expected
    resumed = dataset_of(tmp_path, state=expected[40].state)
    with pool_of(resumed, num_workers) as pool:
        assert taken(resumed, pool, 39) == expected[41:]


@settings(PATIENT, max_examples=6)
@given(
    num_workers=st.integers(1, 3),
    stop=st.integers(0, 70),
    kill_at=st.none() | st.integers(0, 8),
)
def test_wherever_it_stopped_and_whoever_died_the_rest_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, num_workers: int, stop: int, kill_at: int | None
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    expected = here(dataset_of(folder), 80)
    dataset = dataset_of(folder, state=expected[stop].state)

    def kill(number: int) -> None:
        if number == kill_at:
            os.kill(pool.pids[0], signal.SIGKILL)

    with pool_of(dataset, num_workers) as pool:
        assert taken(dataset, pool, 9, kill) == expected[stop + 1 : stop + 10]


def test_a_worker_that_is_killed_changes_nothing(tmp_path: Path) -> None:
    expected = here(dataset_of(tmp_path), 60)
    dataset = dataset_of(tmp_path)
    deaths: list[str] = []

    def kill(number: int) -> None:
        if number % 10 == 3:
            os.kill(pool.pids[number // 10 % 2], signal.SIGKILL)

    with pool_of(dataset, 2, on_death=deaths.append) as pool:
        assert taken(dataset, pool, 60, kill) == expected
    assert "by SIGKILL" in deaths[0]


def test_a_row_that_kills_whoever_reads_it_is_left_out_and_told(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, {5: "death"})
    deaths: list[str] = []
    with pool_of(dataset, 1, on_death=deaths.append) as pool:
        found = []
        for drawn in dataset.follow(pool):
            found.append(drawn)
            if drawn.ends_epoch:
                break
    [bad] = [bad for drawn in found for bad in drawn.bad]
    assert (bad.source, bad.index, bad.kind) == ("image", 5, "killed_worker")
    assert len(deaths) == 2
    names = {name for drawn in found for name in drawn.sample_ids}
    assert names == {f"text[{at}]" for at in range(60)} | {f"image[{at}]" for at in range(30) if at != 5}


def test_a_row_that_is_never_done_is_left_out(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, {7: "hang"})
    with pool_of(dataset, 2, timeout_s=0.5) as pool:
        bad = []
        for drawn in dataset.follow(pool):
            bad += drawn.bad
            if drawn.ends_epoch:
                break
    assert [(row.source, row.index, row.kind) for row in bad] == [("image", 7, "killed_worker")]


def test_idle_workers_that_are_killed_are_replaced(tmp_path: Path) -> None:
    expected = here(dataset_of(tmp_path), 60)
    dataset = dataset_of(tmp_path)

    def kill_all(number: int) -> None:
        if number in {5, 20}:
            for pid in pool.pids:
                os.kill(pid, signal.SIGKILL)

    with pool_of(dataset, 6) as pool:
        assert taken(dataset, pool, 60, kill_all) == expected


def test_a_micro_batch_that_kills_whoever_puts_it_together_ends_the_run(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    with pool_of(dataset, 1, finish=deadly) as pool, pytest.raises(WorkerError, match="put together one micro-batch"):
        taken(dataset, pool, 9)


def test_a_worker_that_cannot_be_replaced_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = dataset_of(tmp_path)
    with pool_of(dataset, 1) as pool:
        followed = dataset.follow(pool)
        next(followed)

        def refuse() -> None:
            raise OSError("too many open files")

        monkeypatch.setattr(pool, "_start_worker", refuse)
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(WorkerError, match="cannot be replaced: too many open files"):
            list(islice(followed, 200))


def test_a_pool_is_closed_once_or_twice_and_another_takes_its_place(tmp_path: Path) -> None:
    expected = here(dataset_of(tmp_path), 12)
    dataset = dataset_of(tmp_path)
    state = dataset.state_dict()
    with pool_of(dataset, 1) as pool:
        next(dataset.follow(pool))
        pool.close()
        dataset.load_state_dict(state)
        with pool_of(dataset, 1) as other:
            assert taken(dataset, other, 12) == expected


def test_an_error_of_the_program_in_a_worker_is_told_with_its_traceback(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, {0: "bug"})
    with pool_of(dataset, 1) as pool, pytest.raises(WorkerError, match="RuntimeError: an error of the program"):
        taken(dataset, pool, 60)


def test_workers_that_cannot_even_start_are_not_started_for_ever(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    with pool_of(dataset, 1, finish=Poison()) as pool, pytest.raises(WorkerError, match="workers in a row ended"):
        taken(dataset, pool, 1)


def test_workers_do_not_mind_what_the_trainer_is_asked(tmp_path: Path) -> None:
    expected = here(dataset_of(tmp_path), 30)
    dataset = dataset_of(tmp_path)
    deaths: list[str] = []

    def ask(number: int) -> None:
        for pid in pool.pids:
            os.kill(pid, (signal.SIGINT, signal.SIGTERM)[number % 2])

    with pool_of(dataset, 2, on_death=deaths.append) as pool:
        taken(dataset, pool, 1)  # they are up
    dataset = dataset_of(tmp_path)
    with pool_of(dataset, 2, on_death=deaths.append) as pool:
        first = next(dataset.follow(pool))
        assert plain(first) == expected[0]
        ask(0)
        ask(1)
    assert deaths == []


PROGRAM = """
import importlib.util, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.word_workers import dataset_of, pool_of
if __name__ == "__main__":
    dataset = dataset_of(Path(sys.argv[2]))
    with pool_of(dataset, 2) as pool:
        next(dataset.follow(pool))
        print(*pool.pids, flush=True)
        sys.stdin.read()
"""


def test_workers_end_when_the_trainer_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    tests = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, program, tests, tmp_path], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as trainer:
        assert trainer.stdout is not None
        pids = [int(pid) for pid in trainer.stdout.readline().split()]
        assert len(pids) == 2
        workers = [psutil.Process(pid) for pid in pids]
        trainer.kill()
        _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
