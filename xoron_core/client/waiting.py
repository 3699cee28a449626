"""What one can wait for: the end, the first steps, a certain step."""

import re

from xoron_core.client.errors import WaitEndedError, XoronClientError
from xoron_core.contract.api import Run
from xoron_core.contract.states import ENDED, RunState

_STEP = re.compile(r"^step:(\d+)$")
_AFTER_RUNNING = {RunState.RUNNING, RunState.PAUSING, RunState.PAUSED, RunState.STOPPING, RunState.COMPLETED}


class Condition:
    """`ended`, `running` or `step:N`.

    Raises: XoronClientError for anything else.
    """

    def __init__(self, until: str) -> None:
        match = _STEP.match(until)
        if match is None and until not in {"ended", "running"}:
            raise XoronClientError(f"cannot wait until {until!r}; there are: ended, running, step:N")
        self.until = until
        self._step = None if match is None else int(match[1])

    def is_met(self, run: Run) -> bool:
        """Whether the wait is over.

        Raises: WaitEndedError when it never will be.
        """
        if self._step is not None:
            is_met = run.step >= self._step
        elif self.until == "running":
            is_met = run.state in _AFTER_RUNNING
        else:
            is_met = run.state in ENDED
        if not is_met and run.state in ENDED:
            reason = f": {run.reason}" if run.reason else ""
            raise WaitEndedError(f"run {run.id} is {run.state} at step {run.step}, before {self.until}{reason}", run)
        return is_met
