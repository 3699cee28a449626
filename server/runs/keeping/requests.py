"""The request to end that holds for an attempt: the strongest of those that were written for it or for its line."""

from collections.abc import Callable

from xoron_core.contract.commands import ENDING, STRENGTH, Command, CommandBox, CommandKind
from xoron_core.contract.errors import CommandError


class Requests:
    """Reads the command box of a run for one attempt, whose line began with attempt `first`."""

    def __init__(self, commands: CommandBox, attempt: int, first: int, warn: Callable[[str], None]) -> None:
        self.command: Command | None = None
        self._commands = commands
        self._attempt = attempt
        self._first = first
        self._warn = warn
        self._last_id = 0

    @property
    def asked(self) -> CommandKind | None:
        """What was asked, as of the last look: a stop replaces a pause, a cancel replaces both."""
        return None if self.command is None else self.command.kind

    def look(self) -> CommandKind | None:
        """Take over what is new."""
        try:
            for command in self._commands.after(self._last_id):
                self._last_id = command.id
                if command.kind in ENDING and command.is_for(self._attempt, self._first):
                    self._take(command)
        except CommandError as error:
            self._last_id = error.id
            self._warn(str(error))
        return self.asked

    def _take(self, command: Command) -> None:
        if self.command is None or STRENGTH[command.kind] > STRENGTH[self.command.kind]:
            self.command = command
