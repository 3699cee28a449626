"""The table of states, and the state that files alone tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xoron_core.contract.derive import LastState, derive_state
from xoron_core.contract.errors import StateError
from xoron_core.contract.run_directory import RunRecord
from xoron_core.contract.states import ENDED, LIVE, TRANSITIONS, RunState, check_transition

any_state = st.sampled_from(sorted(RunState))


@given(old=any_state, new=any_state)
def test_the_table_decides(old: RunState, new: RunState) -> None:
    if new in TRANSITIONS[old]:
        check_transition(old, new)
        return
    with pytest.raises(StateError) as caught:
        check_transition(old, new)
    assert old in str(caught.value)
    assert new in str(caught.value)
    assert all(possible in str(caught.value) for possible in TRANSITIONS[old])


@given(start=any_state, choices=st.lists(st.integers(0, 10), max_size=30))
def test_a_run_can_always_come_to_rest(start: RunState, choices: list[int]) -> None:
    state = start
    for choice in choices:
        following = sorted(TRANSITIONS[state])
        state = following[choice % len(following)] if following else state
    if state in LIVE:
        assert TRANSITIONS[state] & {*ENDED, RunState.PAUSED}


def test_every_state_has_its_place() -> None:
    assert set(TRANSITIONS) == set(RunState)
    assert not LIVE & ENDED
    assert set(RunState) - LIVE - ENDED == {RunState.QUEUED, RunState.PAUSED}
    for state in LIVE:
        assert RunState.INTERRUPTED in TRANSITIONS[state]
    for state in {*ENDED, RunState.PAUSED} - {RunState.CANCELLED}:
        assert RunState.QUEUED in TRANSITIONS[state], "resume leads back to the queue"
    reachable, waiting = {RunState.QUEUED}, [RunState.QUEUED]
    while waiting:
        new = TRANSITIONS[waiting.pop()] - reachable
        reachable |= new
        waiting += sorted(new)
    assert reachable == set(RunState)


@pytest.mark.parametrize(
    ("wanted", "last", "has_begun", "keeper_alive", "state"),
    [
        ("running", None, False, False, "queued"),
        ("cancelled", None, False, False, "cancelled"),
        ("stopped", None, False, False, "stopped"),
        ("paused", None, False, False, "paused"),
        ("running", None, True, True, "starting"),
        ("stopped", None, True, True, "stopping"),
        ("paused", None, True, True, "pausing"),
        ("running", None, True, False, "interrupted"),
        ("running", ("stopped", 1), False, False, "queued"),
        ("running", ("running", 1), False, False, "queued"),
        ("running", ("failed", 1), True, True, "starting"),
        ("running", ("starting", 2), True, True, "starting"),
        ("cancelled", ("starting", 2), True, True, "stopping"),
        ("running", ("running", 2), True, True, "running"),
        ("paused", ("running", 2), True, True, "pausing"),
        ("stopped", ("running", 2), True, True, "stopping"),
        ("stopped", ("pausing", 2), True, True, "stopping"),
        ("paused", ("recovering", 2), True, True, "pausing"),
        ("running", ("running", 2), True, False, "interrupted"),
        ("stopped", ("stopping", 2), True, False, "interrupted"),
        ("stopped", ("stopped", 2), True, False, "stopped"),
        ("cancelled", ("stopped", 2), True, False, "cancelled"),
        ("running", ("stopped", 2), True, False, "stopped"),
        ("stopped", ("completed", 2), True, True, "completed"),
        ("running", ("failed", 2), True, False, "failed"),
        ("paused", ("paused", 2), True, False, "paused"),
        ("cancelled", ("paused", 2), True, False, "cancelled"),
        ("stopped", ("paused", 2), True, False, "stopped"),
    ],
)
def test_the_state_that_files_tell(
    wanted: str, last: tuple[str, int] | None, has_begun: bool, keeper_alive: bool, state: str
) -> None:
    record = RunRecord.model_validate(
        {"id": "a-run", "name": "a run", "created_at": "2026-01-01T00:00:00.000Z", "wanted": wanted, "attempt": 2}
    )
    said = None if last is None else LastState(RunState(last[0]), last[1], "2026-01-01T00:00:00.000Z")
    assert derive_state(record, said, has_begun=has_begun, keeper_alive=keeper_alive) == state
