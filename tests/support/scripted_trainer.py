"""A trainer without torch that steps, checkpoints, samples, obeys and resumes as the real one does.

`scripted_trainer.py PAUSE_S RUN_DIR ATTEMPT`: a step takes `PAUSE_S`; configuration decides steps and checkpoints.
"""

import json
import math
import signal
import sys
import time
from pathlib import Path

from xoron_core.contract.commands import Command, CommandKind
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.events import (
    CheckpointEvent,
    CommandEvent,
    MetricsEvent,
    PhaseEvent,
    ReceiptEvent,
    SampleEvent,
    StateEvent,
)
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.run_directory import RunDirectory, attempt_config
from xoron_core.contract.states import RunState
from xoron_core.contract.writer import EventWriter

ENDS = {
    CommandKind.STOP: (RunState.STOPPING, ExitCode.STOPPED),
    CommandKind.PAUSE: (RunState.PAUSING, ExitCode.PAUSED),
    CommandKind.CANCEL: (RunState.STOPPING, ExitCode.CANCELLED),
}


def loss(step: int) -> float:
    """The text loss of a step."""
    return 1.0 + 4.0 * math.exp(-step / 50)


class ScriptedTrainer:
    """One attempt."""

    def __init__(self, run: RunDirectory, attempt: int, pause_s: float) -> None:
        self.run = run
        self.attempt = attempt
        self.pause_s = pause_s
        self.record = run.attempt(attempt)
        self.config: RunConfig = attempt_config(self.record)
        self.step = 0
        self.last_command = 0
        self.is_told = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self.is_told = True

    def train(self) -> int:
        with EventWriter(self.run.path, self.attempt) as self.writer:
            self.writer.append(PhaseEvent(phase="setup"))
            self._restore()
            self.writer.append(StateEvent(state=RunState.RUNNING))
            self.writer.append(PhaseEvent(phase="training"))
            max_steps = self.config.training.max_steps
            while max_steps is None or self.step < max_steps:
                code = self._obey()
                if code is not None:
                    return code
                self._step()
            self._checkpoint("final")
            return ExitCode.COMPLETED

    def _restore(self) -> None:
        if self.record.checkpoint is not None:
            self.step = json.loads((self.run.path / self.record.checkpoint / "manifest.json").read_text())["step"]
            receipt = ReceiptEvent(
                checkpoint=self.record.checkpoint, step=self.step, restored=["model"], reset=[], missing=[]
            )
            self.writer.append(receipt)

    def _step(self) -> None:
        self.step += 1
        values = {
            "text/loss": loss(self.step),
            "image_generation/loss": 2.0 - self.step / 1000,
            "train/loss": loss(self.step),
            "speed/steps_per_s": 10.0,
            "speed/tokens_per_s": 5120.0,
            "data/text/micro_batches": float(self.step // 2),
            "data/image_generation/micro_batches": float(self.step - self.step // 2),
        }
        step = self.step
        self.writer.append(MetricsEvent(step=step, tokens=512 * step, samples=4 * step, values=values))
        sys.stdout.write(f"step {step}\n")
        sys.stdout.flush()
        save_steps = self.config.training.save_steps
        if save_steps and step % save_steps == 0:
            self._checkpoint("periodic")
        time.sleep(self.pause_s)

    def _obey(self) -> int | None:
        if self.is_told:
            self.writer.append(StateEvent(state=RunState.STOPPING, reason="SIGTERM"))
            self._save_and_close()
            return ExitCode.STOPPED
        for command in self.run.commands.after(self.last_command):
            self.last_command = command.id
            if not command.is_for(self.attempt, self.run.line(self.attempt)[0].attempt):
                continue
            self.writer.append(CommandEvent(id=command.id, command=command.kind, status="accepted"))
            if command.kind in ENDS:
                return self._end(command)
            if command.kind is CommandKind.CHECKPOINT:
                self._checkpoint("requested")
            else:
                self._sample()
            self.writer.append(CommandEvent(id=command.id, command=command.kind, status="done"))
        return None

    def _end(self, command: Command) -> int:
        state, code = ENDS[command.kind]
        self.writer.append(StateEvent(state=state, reason=f"{command.kind} was asked"))
        self.writer.append(PhaseEvent(phase="requested", detail=f"{command.kind} was asked"))
        self.writer.append(PhaseEvent(phase="draining"))
        if command.save and command.kind is not CommandKind.CANCEL:
            self._save_and_close()
        return code

    def _save_and_close(self) -> None:
        self.writer.append(PhaseEvent(phase="saving"))
        self._checkpoint("ending")
        self.writer.append(PhaseEvent(phase="verified"))
        self.writer.append(PhaseEvent(phase="closing"))

    def _checkpoint(self, reason: str) -> None:
        folder = self.run.checkpoint_dir(self.step)
        if not folder.exists():
            temporary = folder.with_name(f".{folder.name}.part")
            temporary.mkdir()
            (temporary / "weights").write_bytes(b"\0" * 1000)
            (temporary / "manifest.json").write_text(json.dumps({"step": self.step}))
            temporary.rename(folder)
        event = {"step": self.step, "path": f"checkpoints/{folder.name}", "reason": reason, "bytes": 1000}
        self.writer.append(CheckpointEvent.model_validate({**event, "seconds": 0.0}))

    def _sample(self) -> None:
        folder = self.run.sample_dir(self.step)
        folder.mkdir(exist_ok=True)
        (folder / "text-0.txt").write_text(f"what the model says at step {self.step}")
        path = f"samples/{folder.name}/text-0.txt"
        event = SampleEvent(step=self.step, modality="text", path=path, mime="text/plain", caption="a prompt")
        self.writer.append(event)


if __name__ == "__main__":
    sys.exit(ScriptedTrainer(RunDirectory(Path(sys.argv[2])), int(sys.argv[3]), float(sys.argv[1])).train())
