"""What can happen to the files of a run that nobody is at work on."""

from pathlib import Path

from support.run_processes import keeper_of
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import RunDirectory

NO_BOOT = "11111111-2222-3333-4444-555555555555"


def cut_last_line(run: RunDirectory) -> None:
    """The last event is half written."""
    path = run.path / "events.jsonl"
    whole = path.read_bytes()
    assert whole.endswith(b"\n")
    path.write_bytes(whole[:-10])


def flip_a_byte(path: Path) -> None:
    """In the middle of a file; of a checkpoint's, that is among the numbers."""
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


def boot_before_this_one(run: RunDirectory) -> None:
    """`keeper.json` as it looks after a reboot: its pids, started as many ticks after it, may be anybody's by now, here
    this process's."""
    _put_into_keeper_file(run, ProcessIdentity.of_self().model_dump() | {"boot_id": NO_BOOT})


def reuse_pid(run: RunDirectory, stranger: ProcessIdentity) -> None:
    """`keeper.json` as it looks when the kernel has given the pids in it to somebody else."""
    _put_into_keeper_file(run, {"pid": stranger.pid})


def _put_into_keeper_file(run: RunDirectory, update: dict[str, object]) -> None:
    record = keeper_of(run)
    assert record.trainer is not None
    keeper, trainer = (identity.model_copy(update=update) for identity in (record.keeper, record.trainer))
    changed = record.model_copy(update={"keeper": keeper, "trainer": trainer})
    run.keeper_file.write_text(changed.model_dump_json())
