"""Checkpoints: whole or refused."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from xoron_core.contract.errors import AnotherFormatError, CheckpointError
from xoron_core.training.checkpoint import (
    CheckpointContent,
    complete_checkpoints,
    read_checkpoint,
    remove_leftovers,
    retire_checkpoints,
    set_aside_later,
    write_checkpoint,
)
from xoron_core.training.errors import DamagedCheckpointError


def content(seed: int = 0) -> CheckpointContent:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "model": {"a.weight": torch.randn(3, 4, generator=generator), "b": torch.arange(5)},
        "optimizer": {"a.weight/exp_avg": torch.randn(3, 4, generator=generator)},
        "rng": {"cpu": torch.randint(0, 255, (16,), dtype=torch.uint8, generator=generator)},
    }
    return CheckpointContent(tensors, {"trainer": {"step": seed}}, "training: {}\n")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    target = tmp_path / "step-00000001"
    size = write_checkpoint(target, content(1))
    read = read_checkpoint(target)
    assert size == sum(path.stat().st_size for path in target.iterdir() if path.name != "manifest.json")
    assert read.state == {"trainer": {"step": 1}}
    for name, tensors in content(1).tensors.items():
        assert read.tensors[name].keys() == tensors.keys()
        assert all(torch.equal(read.tensors[name][key], tensor) for key, tensor in tensors.items())
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


FILES = ["model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json", "config.yaml"]


@pytest.mark.parametrize("name", FILES)
def test_one_byte_flipped_is_refused_by_name(tmp_path: Path, name: str) -> None:
    target = tmp_path / "step-00000001"
    write_checkpoint(target, content())
    assert {path.name for path in target.iterdir()} == {*FILES, "manifest.json"}
    data = bytearray((target / name).read_bytes())
    for at in (0, len(data) // 2, len(data) - 1):
        flipped = data.copy()
        flipped[at] ^= 1
        (target / name).write_bytes(flipped)
        with pytest.raises(DamagedCheckpointError, match=name):
            read_checkpoint(target)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_off_half_way_is_refused_by_name(tmp_path: Path, name: str) -> None:
    target = tmp_path / "step-00000001"
    write_checkpoint(target, content())
    data = (target / name).read_bytes()
    (target / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedCheckpointError, match=name):
        read_checkpoint(target)


@pytest.mark.parametrize("word", ["format", "files", "sha256", "size"])
def test_one_byte_flipped_in_the_manifest_is_refused_by_name(tmp_path: Path, word: str) -> None:
    target = tmp_path / "step-00000001"
    write_checkpoint(target, content())
    manifest = target / "manifest.json"
    manifest.write_text(manifest.read_text().replace(word, "x" + word[1:], 1))
    with pytest.raises(DamagedCheckpointError, match=r"manifest\.json"):
        read_checkpoint(target)


def test_a_file_that_the_disk_does_not_give_back_is_named_and_not_called_damaged(tmp_path: Path) -> None:
    target = tmp_path / "step-00000001"
    write_checkpoint(target, content())
    (target / "optimizer.safetensors").unlink()
    (target / "optimizer.safetensors").symlink_to("/proc/self/mem")  # whose first page is an input/output error
    with pytest.raises(OSError, match=r"Input/output error: .*step-00000001/optimizer\.safetensors"):
        read_checkpoint(target)


def test_another_format_is_refused_and_not_called_damaged(tmp_path: Path) -> None:
    target = tmp_path / "step-00000001"
    write_checkpoint(target, content())
    manifest = target / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(AnotherFormatError, match="has format 2, this program reads 1"):
        read_checkpoint(target)


def test_a_missing_file_and_a_missing_manifest_are_refused_by_name(tmp_path: Path) -> None:
    target = tmp_path / "step-00000001"
    write_checkpoint(target, content())
    (target / "rng.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks rng\.safetensors"):
        read_checkpoint(target)
    (target / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        read_checkpoint(target)
    assert complete_checkpoints(tmp_path) == []


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    with pytest.raises(CheckpointError, match="cannot write"):
        write_checkpoint(blocked / "step-00000001", content())
    assert blocked.read_text() == "a file where a folder should be"


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in range(1, 6):
        write_checkpoint(tmp_path / f"step-{step:08d}", content(step))
    (tmp_path / ".step-00000006.partial").mkdir()
    retired = retire_checkpoints(tmp_path, keep_last=2)
    assert [path.name for path in retired] == ["step-00000001", "step-00000002", "step-00000003"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004", "step-00000005"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_those_of_every_so_many_steps_and_the_best_are_kept_beside_the_newest(tmp_path: Path) -> None:
    left = []
    for step in range(1, 9):
        write_checkpoint(tmp_path / f"step-{step:08d}", content(step))
        retire_checkpoints(tmp_path, keep_last=2, keep_every=3, best_step=2 if step < 7 else 7)
        left.append([int(name[-1]) for name in names(tmp_path)])
    assert left == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 3, 4, 5], [2, 3, 5, 6], [3, 6, 7], [3, 6, 7, 8]]


def test_the_best_of_a_course_that_was_left_gives_way_like_the_others(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        write_checkpoint(tmp_path / f"step-{step:08d}", content(step))
    set_aside_later(tmp_path / "step-00000001")
    for step in (2, 3, 4):
        write_checkpoint(tmp_path / f"step-{step:08d}", content(10 * step))
        retire_checkpoints(tmp_path, keep_last=2, keep_every=4, best_step=1)
    assert names(tmp_path) == ["step-00000001", "step-00000003", "step-00000004"]
    assert read_checkpoint(tmp_path / "step-00000004").state == {"trainer": {"step": 40}}


def test_a_folder_with_another_name_is_nobodys_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "step-00000001", content())
    write_checkpoint(tmp_path / "step-00000001.mine", content())
    for step in (2, 3, 4):
        write_checkpoint(tmp_path / f"step-{step:08d}", content(step))
    retire_checkpoints(tmp_path, keep_last=2, keep_every=100)
    assert names(tmp_path) == ["step-00000001.mine", "step-00000003", "step-00000004"]


def test_checkpoints_of_a_course_that_was_left_are_not_the_newest_and_give_way_to_new_ones(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        write_checkpoint(tmp_path / f"step-{step:08d}", content(step))
    assert [path.name for path in set_aside_later(tmp_path / "step-00000002")] == ["step-00000003", "step-00000004"]
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-00000001", "step-00000002"]
    write_checkpoint(tmp_path / "step-00000003", content(33))
    retire_checkpoints(tmp_path, keep_last=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    assert read_checkpoint(tmp_path / "step-00000003").state == {"trainer": {"step": 33}}


def test_after_going_back_to_the_beginning_there_are_never_fewer_checkpoints_than_are_kept(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        write_checkpoint(tmp_path / f"step-{step:08d}", content(step))
    set_aside_later(tmp_path / "step-00000000")
    assert complete_checkpoints(tmp_path) == []
    left = []
    for step in (1, 2, 3, 4):
        write_checkpoint(tmp_path / f"step-{step:08d}", content(10 * step))
        retire_checkpoints(tmp_path, keep_last=3)
        left.append(sorted(path.name for path in tmp_path.iterdir()))
    old = {step: f".step-{step:08d}.aside" for step in (2, 4)}
    new = {step: f"step-{step:08d}" for step in (1, 2, 3, 4)}
    assert left == [
        [old[2], old[4], new[1]],
        [old[2], new[1], new[2]],
        [new[1], new[2], new[3]],
        [new[2], new[3], new[4]],
    ]
    write_checkpoint(tmp_path / "step-00000005", content(5))
    set_aside_later(tmp_path / "step-00000004")
    remove_leftovers(tmp_path)
    assert (tmp_path / ".step-00000005.aside").is_dir(), "a leftover is not what was set aside"


@contextmanager
def files_limited_to(num_bytes: int) -> Iterator[None]:
    """Writing more to one file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_disk_that_fills_up_leaves_the_old_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "step-00000001"
    write_checkpoint(target, content(1))
    with files_limited_to(64), pytest.raises(CheckpointError, match="cannot write"):
        write_checkpoint(target, content(2))
    assert read_checkpoint(target).state == {"trainer": {"step": 1}}
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_tensors_that_share_memory_are_written_each_by_itself(tmp_path: Path) -> None:
    table = torch.arange(4.0)
    shared = CheckpointContent({"optimizer": {"a/table": table, "b/table": table, "c/part": table[2:]}}, {}, "")
    write_checkpoint(tmp_path / "step-00000001", shared)
    read = read_checkpoint(tmp_path / "step-00000001").tensors["optimizer"]
    assert {key: tensor.tolist() for key, tensor in read.items()} == {
        "a/table": [0.0, 1.0, 2.0, 3.0],
        "b/table": [0.0, 1.0, 2.0, 3.0],
        "c/part": [2.0, 3.0],
    }


def test_writing_over_a_checkpoint_replaces_it(tmp_path: Path) -> None:
    target = tmp_path / "step-00000001"
    write_checkpoint(target, content(1))
    write_checkpoint(target, content(2))
    assert read_checkpoint(target).state == {"trainer": {"step": 2}}
