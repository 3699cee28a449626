"""The trouble policy: whether a failed attempt is followed by another, and by which. No I/O, no clock."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.exit_codes import Failure

MAX_DELAY_S = 300.0
_NEVER = {
    Failure.REFUSED: "another start would meet it again",
    Failure.GPU_LOST: "the machine needs a person",
}


@dataclass(frozen=True)
class FailedAttempt:
    """How one attempt failed, and what made it: `cause` is the failure before it, None where a person asked for it."""

    attempt: int
    cause: Failure | None
    failure: Failure
    step: int
    """The last step that was done."""
    start_step: int
    """The step that it went on from."""
    reason: str
    bad_since_step: int | None = None
    bad_samples: Sequence[str] = ()


@dataclass(frozen=True)
class Recovery:
    """The next attempt: `config` is laid over the last one's, `skip` are samples to leave out beside those known."""

    failure: Failure
    delay_s: float
    reason: str
    before_step: int | None = None
    """The checkpoint must be of an earlier step; None: the newest will do."""
    config: Mapping[str, Any] = field(default_factory=dict)
    skip: Sequence[str] = ()


@dataclass(frozen=True)
class GiveUp:
    """No further attempt, and why."""

    reason: str


def recover(config: RunConfig, line: Sequence[FailedAttempt]) -> Recovery | GiveUp:
    """What follows after the last of `line`, the failed attempts since a person asked, oldest first."""
    last = line[-1]
    if last.failure in _NEVER:
        return GiveUp(_NEVER[last.failure])
    limit = _limit(config, last.failure)
    if limit == 0:
        return GiveUp(f"the configuration allows no attempt after this ({_FIELDS[last.failure]} is 0)")
    if last.failure is Failure.CRASH and last.cause is None and last.step <= last.start_step:
        return GiveUp("it failed before its first step was done")
    if len(line) > 1 and _is_same(line[-2], last):
        return GiveUp(f"it failed the same way at step {last.step} before, and nothing has changed since")
    number = sum(one.failure is last.failure for one in line)
    if number > limit:
        return GiveUp(f"this was tried {limit} times already ({_FIELDS[last.failure]})")
    count = f"{number} of {limit}"
    if last.failure is Failure.OUT_OF_MEMORY:
        return _smaller(config, last, count)
    if last.failure is Failure.NON_FINITE:
        since = last.bad_since_step
        words = f"rollback {count}: going back before step {since}, {len(last.bad_samples)} samples are left out"
        return Recovery(last.failure, 0.0, words, since, skip=last.bad_samples)
    if last.failure is Failure.DAMAGED_CHECKPOINT:
        words = f"going back to the checkpoint before step {last.start_step} ({count})"
        return Recovery(last.failure, 0.0, words, last.start_step)
    delay_s = min(MAX_DELAY_S, config.trouble.restart_delay_s * 2 ** (number - 1))
    return Recovery(last.failure, delay_s, f"restart {count} from the last checkpoint, in {delay_s:g} s")


_FIELDS = {
    Failure.CRASH: "trouble.max_restarts",
    Failure.OUT_OF_MEMORY: "trouble.max_memory_retries",
    Failure.NON_FINITE: "trouble.max_rollbacks",
    Failure.HANG: "trouble.max_hangs",
    Failure.DAMAGED_CHECKPOINT: "trouble.max_restarts",
    Failure.INTERRUPTED: "trouble.max_interruptions",
}


def _limit(config: RunConfig, failure: Failure) -> int:
    trouble = config.trouble
    return {
        Failure.CRASH: trouble.max_restarts,
        Failure.OUT_OF_MEMORY: trouble.max_memory_retries,
        Failure.NON_FINITE: trouble.max_rollbacks,
        Failure.HANG: trouble.max_hangs,
        Failure.DAMAGED_CHECKPOINT: trouble.max_restarts,
        Failure.INTERRUPTED: trouble.max_interruptions,
    }[failure]


def _is_same(before: FailedAttempt, now: FailedAttempt) -> bool:
    """Memory that runs out, steps that roll back and checkpoints that are left change what the next attempt does."""
    changes = {Failure.OUT_OF_MEMORY, Failure.NON_FINITE, Failure.DAMAGED_CHECKPOINT}
    return before.failure is now.failure and before.step == now.step and now.failure not in changes


def _smaller(config: RunConfig, last: FailedAttempt, count: str) -> Recovery | GiveUp:
    """Smaller micro-batches, and more of them, by a factor that all sizes have in common: half where they are even.

    Where they have none, or one is a single row already, another try goes before the same global batch.
    """
    sizes = _micro_batches(config)
    common = math.gcd(*(size for size in sizes.values() if size > 1))
    if common == 0:
        return GiveUp(
            "every micro-batch is a single row already; shorten training.max_seq_length, or make media smaller"
        )
    factor = next((number for number in range(2, common + 1) if common % number == 0), 2)
    smaller = {path: size // factor for path, size in sizes.items() if size > 1}
    before = config.training.gradient_accumulation_steps
    after = before * factor
    changed: dict[str, Any] = {}
    for path, size in {**smaller, "training.gradient_accumulation_steps": after}.items():
        _put(changed, path, size)
    told = ", ".join(f"{path} {sizes[path]} → {size}" for path, size in smaller.items())
    told += f", training.gradient_accumulation_steps {before} → {after}"
    rows = {path: (size * before, smaller.get(path, size) * after) for path, size in sizes.items()}
    if uneven := ", ".join(f"{path} {old} → {new}" for path, (old, new) in rows.items() if old != new):
        told += f"; the global batch changes, in rows a step: {uneven}"
    what = "half the micro-batch, accumulated twice as often"
    if factor > 2:
        what = f"1/{factor} of the micro-batch, accumulated {factor} times as often"
    return Recovery(last.failure, 0.0, f"{what} ({count}): {told}", config=changed)


def _micro_batches(config: RunConfig) -> dict[str, int]:
    """The sizes in use, by their fields."""
    sizes = {}
    for name in config.modality_weights():
        own = config.modalities.get(name).batch_size
        if own is None:
            sizes["training.batch_size"] = config.training.batch_size
        else:
            sizes[f"modalities.{name}.batch_size"] = own
    return sizes


def _put(target: dict[str, Any], path: str, value: object) -> None:
    *sections, name = path.split(".")
    for section in sections:
        target = target.setdefault(section, {})
    target[name] = value
