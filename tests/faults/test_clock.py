"""The system's clock is set back and forward while runs train and wait."""

from itertools import pairwise
from pathlib import Path

import pytest
from support.course import Undisturbed, assert_same, of_kind, story
from support.fault_bench import FaultBench, wait_end, wait_step
from support.faulty_trainer import Fault
from support.runs import events

from xoron_core.contract import clock

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
DAY_S = 86_400


class Clock:
    """What servers, keepers and trainers that are started with its environment take for the time of day."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        """For the server; keepers and trainers inherit it."""
        assert LIBRARY is not None, "install the Debian package faketime"
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset_s: int) -> None:
        """Be so much ahead of the real clock."""
        part = self._file.with_suffix(".part")
        part.write_text(f"{offset_s:+d}\n")
        part.rename(self._file)


def test_a_clock_that_jumps_changes_neither_order_nor_durations(
    bench: FaultBench, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    fake = Clock(tmp_path)
    slow = Fault("slow", seconds=0.5, attempts=())  # it must outlast all jumps, each seen a second later
    short = {"training": {"max_steps": 2}}
    with bench.serve_apart(**fake.environment) as served:
        server = served.server
        run = bench.create(server, slow)
        wait_step(server, run, 5)
        fake.set(-DAY_S)
        second = bench.create(server, config=short)
        wait_step(server, run, 12)
        fake.set(2 * DAY_S)
        third = bench.create(server, config=short)
        wait_step(server, run, 18)
        fake.set(-DAY_S)
        rows = [wait_end(server, one, "completed") for one in (run, second, third)]
        assert story(run) == ["started → completed"]
        assert_same(server, run.id, undisturbed)
        times = [clock.parse_time(record["time"]).timestamp() for record in events(run)]
        jumps = [after - before for before, after in pairwise(times)]
        assert min(jumps) < -DAY_S / 2, "the clock was never set back, and this test shows nothing"
        assert max(jumps) > DAY_S / 2
        assert all(saved["seconds"] >= 0 for saved in of_kind(run, "checkpoint"))
        rates = [told["values"]["speed/steps_per_s"] for told in of_kind(run, "metrics")]
        assert all(0 < rate < 20 for rate in rates)  # a step lasts 0.15 s at least
        assert all((row["eta_s"] or 0) >= 0 for row in rows)
        begun = [one.attempt_file(1).stat().st_mtime for one in (run, second, third)]  # the kernel's clock: it is right
        assert begun == sorted(begun), "who came later went first"
