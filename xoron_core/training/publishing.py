"""A process beside the trainer that takes a folder to the hub: `python -m xoron_core.training.publishing`.

It is told what to do on its standard input, token included, and answers with a line on its standard output. A process
of its own can be ended at any moment, takes nothing from the steps but cores that are idle, and dies with the trainer.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from xoron_core.distributed.launch import end_with_parent
from xoron_core.export.upload import Repository, check, reason_of, upload, with_retries

NICENESS = 10
RETRY_WAITS_S = (5.0, 20.0, 60.0)


@dataclass(frozen=True)
class Job:
    """What to do: upload a folder, or, without one, look whether that could be done.

    `lora`: the options of adapters that are in the folder's weights and are merged into them first; None: there are
    none.
    """

    repository: Repository
    folder: str | None = None
    message: str = ""
    lora: dict[str, Any] | None = None
    waits_s: tuple[float, ...] = RETRY_WAITS_S

    @classmethod
    def of_json(cls, text: str) -> "Job":
        """What `asdict` and `json` made of one."""
        values = json.loads(text)
        return cls(**{**values, "repository": Repository(**values["repository"]), "waits_s": tuple(values["waits_s"])})


@dataclass(frozen=True)
class Outcome:
    """How it went: the address of the commit, or why there is none."""

    url: str | None = None
    problem: str | None = field(default=None)


class Publishing:
    """A process that does a job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.begun_s = monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as told:
            told.write(json.dumps(asdict(job)).encode())

    def outcome(self, wait_s: float = 0.0) -> Outcome | None:
        """How it went; None while it is under way, after having waited so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(wait_s)
        if self._process.returncode is None:
            return None
        answer = self._answer()
        try:
            return Outcome(**json.loads(answer))
        except (ValueError, TypeError):
            return Outcome(problem=f"the process that uploads ended with status {self._process.returncode}")

    def end(self) -> None:
        """End it, whatever it is at."""
        self._process.kill()
        self._process.wait()
        self._answer()

    def _answer(self) -> bytes:
        assert self._process.stdout is not None
        with self._process.stdout as told:
            return told.read()


def main() -> None:
    """Do the job that standard input tells of."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer, which ends this one
    os.nice(NICENESS)
    sys.stdout.write(json.dumps(asdict(_done(Job.of_json(sys.stdin.read())))))


def _done(job: Job) -> Outcome:
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()
    try:
        return Outcome(url=with_retries(lambda: _once(job), job.waits_s))
    except Exception as error:  # noqa: BLE001 -- boundary: whatever it is, the trainer is told, and goes on
        return Outcome(problem=reason_of(error, job.repository))


def _once(job: Job) -> str | None:
    if job.folder is None:
        check(job.repository)
        return None
    folder = Path(job.folder)
    if job.lora is not None:
        from xoron_core.contract.config.lora import LoraConfig
        from xoron_core.training.merged_weights import merge_folder

        merge_folder(folder, LoraConfig.parse(job.lora))
    return upload(job.repository, folder, job.message)


if __name__ == "__main__":
    main()
