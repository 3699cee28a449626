"""What the world asks of a running trainer: numbered files, never deleted, acknowledged by events."""

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xoron_core.contract import clock
from xoron_core.contract.errors import CommandError
from xoron_core.contract.files import to_json, write_new


class CommandKind(StrEnum):
    """The verbs a trainer understands."""

    STOP = "stop"
    PAUSE = "pause"
    CANCEL = "cancel"
    CHECKPOINT = "checkpoint"
    SAMPLE = "sample"


ENDING = frozenset({CommandKind.STOP, CommandKind.PAUSE, CommandKind.CANCEL})
"""Commands after which the trainer exits."""

STRENGTH = {CommandKind.PAUSE: 1, CommandKind.STOP: 2, CommandKind.CANCEL: 3}
"""Of two requests to end the stronger counts, whichever came first."""

_NAME = re.compile(r"[0-9]{8}\.json")


class Command(BaseModel):
    """One request; `attempt` guards against its reaching a later start of the same run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: int = Field(ge=1, description="Number of the command within the run.")
    time: str = Field(description="When it was written, RFC 3339 UTC.")
    attempt: int = Field(
        ge=1, description="The attempt that it is meant for. Others ignore it, but those that follow by themselves end."
    )
    kind: CommandKind
    save: bool = Field(default=True, description="Whether to write a checkpoint before ending.")

    def is_for(self, attempt: int, first: int) -> bool:
        """Whether `attempt`, in the line of attempts that a person began with `first`, is to obey.

        A request to end that was written while one attempt crashed ends the next one, too.
        """
        return self.attempt == attempt or (self.kind in ENDING and first <= self.attempt < attempt)


class CommandBox:
    """The folder `commands/` of one run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def post(self, kind: CommandKind, attempt: int, *, save: bool = True) -> Command:
        """Write the next command; two writers at once both succeed, with different numbers."""
        number = max(self._numbers(), default=0) + 1
        while True:
            command = Command(id=number, time=clock.now(), attempt=attempt, kind=kind, save=save)
            try:
                write_new(self.directory / f"{number:08d}.json", to_json(command))
            except FileExistsError:
                number += 1
            else:
                return command

    def after(self, last_id: int) -> Iterator[Command]:
        """The commands numbered above `last_id`, in order.

        Raises: CommandError at a file that is not a command; go on after its `id`.
        """
        for number in sorted(number for number in self._numbers() if number > last_id):
            path = self.directory / f"{number:08d}.json"
            try:
                command = Command.model_validate_json(path.read_bytes())
            except ValidationError as error:
                raise CommandError(number, f"{path} is not a command: {error}") from error
            if command.id != number:  # whoever goes on after the last id would meet it again and again
                raise CommandError(number, f"{path} is not a command: its id is {command.id}, not {number}")
            yield command

    def _numbers(self) -> Iterator[int]:
        for entry in self.directory.glob("*.json"):
            if _NAME.fullmatch(entry.name):
                yield int(entry.stem)
