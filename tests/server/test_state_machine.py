"""Whatever is asked in whatever order, and whatever keepers and trainers do meanwhile: no run leaves the table of
states, none is live twice, and the index is what the run directories say."""

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.clerk import Clerk
from support.paper_keepers import PaperKeeper
from support.patience import PATIENT

from server.errors import ConflictError, NotFoundError
from server.runs import leftovers
from server.runs.view import view
from xoron_core.contract.api import QueueOrder, ResumeRun, RunCommand, StopRun
from xoron_core.contract.errors import ConfigError, StateError
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.states import LIVE, TRANSITIONS, RunState

_S = RunState
REFUSALS = (StateError, ConflictError, NotFoundError, ConfigError)
BESIDE_THE_TABLE = {
    (_S.STOPPING, _S.COMPLETED): "the trainer did its last step before it saw the request",
    (_S.PAUSING, _S.COMPLETED): "the same",
    (_S.QUEUED, _S.INTERRUPTED): "its keeper could not be started",
}
"""What is seen all the same, and why."""


class Runs(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.made: list[str] = []
        """In the order of creation: ids are drawn at random, and what an example does must not depend on them."""
        self.trash: set[str] = set()
        self.given_back: set[str] = set()

    @initialize(max_runs=st.integers(1, 2))
    def open(self, max_runs: int) -> None:
        self.max_runs = max_runs
        self.clerk = Clerk(self.folder, max_runs=max_runs)
        self.clerk.launch.before = self._check_launch
        for _ in range(3):
            self.made.append(self.clerk.create().id)
        self.clerk.tick()
        for keeper in self.clerk.launch.alive():
            keeper.runs()

    def teardown(self) -> None:
        self._check_rebuilt()
        self.clerk.close()
        shutil.rmtree(self.folder)

    # what people ask

    @rule(priority=st.integers(0, 1))
    def create(self, priority: int) -> None:
        if len(self.clerk.index.known()) < 5:
            before = self.clerk.waiting()
            run = self.clerk.create(priority=priority)
            self.made.append(run.id)
            ahead = [row.id for row in self.clerk.service.queue() if row.record.priority >= priority]
            assert self.clerk.waiting() == [*ahead, *(one for one in before if one not in ahead)]
            assert ahead[-1] == run.id

    @rule(data=st.data(), verb=st.sampled_from(["stop", "pause", "resume", "cancel"]), times=st.integers(1, 3))
    def ask(self, data: Any, verb: str, times: int) -> None:
        run = self._any_run(data)
        if run is None:
            return
        before = self.clerk.row(run.id)
        is_offered = verb in view(before).actions
        files = _files(run)
        for _ in range(times):
            try:
                self._ask(run.id, verb)
            except REFUSALS:
                assert not is_offered, f"{verb} is offered to a run that is {before.state}"
                assert _files(run) == files, "a refused command has changed something"
        after = self.clerk.row(run.id)
        assert len(_commands(run)) - files[1] <= 1, "asking again is asking once"
        if verb == "resume" and is_offered:
            self.given_back.discard(run.id)
            self._check_place_of_resumed(run.id, before.state)
        if not is_offered and _files(run) != files:
            assert (before.state, verb) == (_S.STOPPING, "cancel"), f"{verb} of a run that is {before.state}"
        if before.state is _S.QUEUED and is_offered:
            is_out = after.state.value in {"stopped", "paused", "cancelled"}
            assert is_out is not leftovers.has_trainer(run), "it is taken out as soon as nothing of it is left"

    def _ask(self, run_id: str, verb: str) -> None:
        service = self.clerk.service
        if verb == "stop":
            service.stop(run_id, StopRun())
        elif verb == "pause":
            service.pause(run_id, RunCommand())
        elif verb == "cancel":
            service.cancel(run_id, RunCommand())
        else:
            service.resume(run_id, ResumeRun())

    def _check_place_of_resumed(self, run_id: str, before: RunState) -> None:
        rows = {row.id: row.record for row in self.clerk.service.queue()}
        if before is not _S.PAUSED:
            assert all(rows[run_id].place >= one.place for one in rows.values())

    @rule(data=st.data())
    def delete_or_restore(self, data: Any) -> None:
        if self.trash:
            run_id = data.draw(st.sampled_from([one for one in self.made if one in self.trash]))
            self.trash.discard(run_id)
            self.clerk.seen.pop(run_id, None)
            self.clerk.service.restore(run_id)
            self.given_back.add(run_id)
            return
        run = self._any_run(data)
        if run is None or self.clerk.row(run.id).state in LIVE:
            return
        is_offered = "delete" in view(self.clerk.row(run.id)).actions
        try:
            self.clerk.service.delete(run.id)
        except ConflictError:
            assert not is_offered or leftovers.has_trainer(run)
            return
        assert is_offered
        self.trash.add(run.id)

    @rule(data=st.data())
    def reorder(self, data: Any) -> None:
        waiting = self.clerk.waiting()
        if not waiting:
            return
        some = data.draw(st.lists(st.sampled_from(waiting), unique=True, min_size=1))
        try:
            self.clerk.service.reorder(QueueOrder(runs=some))
        except ConflictError:  # its files told that one of them waits no more: then it stands in the queue no longer
            assert not set(some) <= set(self.clerk.waiting())
            return
        after = self.clerk.waiting()
        assert [one for one in after if one in some] == some
        assert [one in some for one in after] == [one in some for one in waiting], "the others keep their places"

    # what the server, keepers and trainers do

    @rule()
    def tick(self) -> None:
        self.clerk.tick()

    @rule(failures=st.integers(1, 2))
    def launches_fail(self, failures: int) -> None:
        self.clerk.launch.fails = failures
        self.clerk.tick()
        self.clerk.launch.fails = 0

    @rule(
        data=st.data(),
        does=st.sampled_from(["go on", "go on", "recover", "fail", "complete", "obey", "answer", "step"]),
    )
    def keeper(self, data: Any, does: str) -> None:
        self.clerk.tick()
        keeper = self._any_keeper(data)
        if keeper is None:
            return
        asked = keeper.asked()
        if asked is not None and does in {"obey", "answer", "go on"}:
            keeper.answers()
            self.clerk.row(keeper.run.id)
            if does != "answer":
                keeper.obeys()
        elif keeper.state is _S.STARTING and does == "go on":
            keeper.runs()
        elif keeper.state is _S.RECOVERING and asked is None:
            keeper.begins_the_next()
        elif keeper.state is _S.RUNNING and does == "recover":
            keeper.recovers()
        elif keeper.state is _S.RUNNING and does == "complete":
            keeper.ends(_S.COMPLETED)
        elif keeper.state is _S.RUNNING and does == "step":
            keeper.steps()
            keeper.saves()
        elif does == "fail":
            keeper.ends(_S.FAILED, Failure.REFUSED)
        state = self.clerk.row(keeper.run.id).state
        assert keeper.is_alive or state is not _S.INTERRUPTED, f"it said that it is {keeper.state}"

    @rule(data=st.data(), is_saving=st.booleans(), chance=st.integers(0, 2))
    def keeper_dies(self, data: Any, is_saving: bool, chance: int) -> None:
        keeper = self._any_keeper(data)
        if keeper is not None and chance == 0:
            keeper.dies(is_saving=is_saving)
            assert self.clerk.row(keeper.run.id).state is _S.INTERRUPTED

    @precondition(lambda self: any(keeper.is_saving for keeper in self.clerk.launch.keepers.values()))
    @rule()
    def trainers_have_saved(self) -> None:
        for keeper in self.clerk.launch.keepers.values():
            if keeper.is_saving and keeper.run.id not in self.trash:
                keeper.has_saved()

    # what holds at every moment

    @invariant()
    def no_run_leaves_the_table(self) -> None:
        for run_id, states in self.clerk.seen.items():
            for old, new in itertools.pairwise(states):
                is_legal = new in TRANSITIONS[old] or (old, new) in BESIDE_THE_TABLE
                assert is_legal, f"{run_id} went from {old} to {new}: {states}"

    @invariant()
    def no_more_are_live_than_may_be(self) -> None:
        rows = [self.clerk.index.row(run_id) for run_id in self.clerk.index.known()]
        live = [row for row in rows if row.state in LIVE]
        assert len(live) <= self.max_runs
        assert len(self.clerk.launch.alive()) <= self.max_runs
        assert {keeper.run.id for keeper in self.clerk.launch.alive()} <= {row.id for row in live}

    def _check_launch(self, run: RunDirectory) -> None:
        """Called within a launch: the run has no other keeper or trainer, and all that stand before it must wait."""
        known = self.clerk.launch.keepers.get(run.id)
        assert known is None or not (known.is_alive or known.is_saving), "live twice"
        assert run.id not in self.given_back, "what was given back waits for a person"
        for run_id in self.clerk.waiting():
            if run_id == run.id:
                break
            assert self.clerk.launch.keepers[run_id].is_saving, "passed in the queue"

    def _check_rebuilt(self) -> None:
        for run_id, row in self.clerk.rebuilt().items():
            known = self.clerk.row(run_id)
            for one in (known, row):
                one.standing.__dict__.update(waiting=None, why=None)
            assert known == row

    def _any_run(self, data: Any) -> RunDirectory | None:
        known = [one for one in self.made if one not in self.trash]
        return self.clerk.home.run(data.draw(st.sampled_from(known))) if known else None

    def _any_keeper(self, data: Any) -> PaperKeeper | None:
        alive = sorted(self.clerk.launch.alive(), key=lambda keeper: self.made.index(keeper.run.id))
        return data.draw(st.sampled_from(alive)) if alive else None


def _commands(run: RunDirectory) -> list[Any]:
    return list(run.commands.after(0))


def _files(run: RunDirectory) -> tuple[str, int]:
    return run.run_file.read_text(), len(_commands(run))


class ManyRuns(Runs):
    """The same for longer."""


PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]  # explaining takes minutes
Runs.TestCase.settings = settings(PATIENT, max_examples=10, stateful_step_count=50, phases=PHASES)
ManyRuns.TestCase.settings = settings(PATIENT, max_examples=40, stateful_step_count=50, phases=PHASES)
TestRuns = Runs.TestCase
TestManyRuns = pytest.mark.timeout(600)(pytest.mark.slow(ManyRuns.TestCase))
