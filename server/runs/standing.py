"""What the server itself knows about a run beside its record and its events."""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from server.runs.attempts import newest_attempt, newest_config
from server.runs.facts import RunFacts
from xoron_core.contract.api import Waiting
from xoron_core.contract.clock import format_time, parse_time
from xoron_core.contract.commands import ENDING, Command, CommandKind
from xoron_core.contract.errors import CommandError, RunDirectoryError
from xoron_core.contract.run_directory import RunDirectory, RunRecord
from xoron_core.contract.states import RunState


class Asked(BaseModel):
    """A request to end that the trainer has not answered yet; `deadline` is when the keeper loses patience."""

    model_config = ConfigDict(frozen=True)

    command: int
    kind: CommandKind
    since: str
    deadline: str


class Standing(BaseModel):
    """`line`: the attempt that a person asked for last; `why`: why an interrupted run is not resumed by itself."""

    model_config = ConfigDict(frozen=True)

    line: int = 1
    waiting: Waiting | None = None
    asked: Asked | None = None
    why: str | None = None


def line_of(run: RunDirectory, record: RunRecord) -> int:
    """The attempt that a person asked for last; what followed from it by itself comes after."""
    if record.resumed_by == "person":
        return record.attempt
    try:
        return run.line(min(record.attempt, newest_attempt(run)))[0].attempt
    except RunDirectoryError:
        return record.attempt


def ending_commands(run: RunDirectory, line: int, attempt: int) -> list[Command]:
    """The requests to end that hold for `attempt`, oldest first."""
    found: list[Command] = []
    last_id, is_more = 0, True
    while is_more:
        is_more = False
        try:
            for command in run.commands.after(last_id):
                last_id = command.id
                if command.kind in ENDING and command.is_for(attempt, line):
                    found.append(command)
        except CommandError as error:  # the keeper's log tells of it
            last_id, is_more = error.id, True
    return found


def asked(
    run: RunDirectory, state: RunState, facts: RunFacts, line: int, attempt: int, known: Asked | None
) -> Asked | None:
    """The request that has made the state what it is, where the run itself has not said so yet. The deadline is that
    of the first one: a later one does not move it."""
    if state not in {RunState.PAUSING, RunState.STOPPING}:
        return None
    said = facts.state
    if said is not None and said.attempt == attempt and said.state is state:
        return None
    commands = ending_commands(run, line, attempt)
    if not commands:
        return None
    command = commands[-1]
    if known is not None and known.command == command.id:
        return known
    grace = timedelta(seconds=newest_config(run, attempt).trouble.stop_grace_s)
    deadline = format_time(parse_time(commands[0].time) + grace)
    return Asked(command=command.id, kind=command.kind, since=command.time, deadline=deadline)
