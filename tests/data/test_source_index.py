"""Indices are built once, kept, and built anew when they are damaged or their file is another."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.rows import opened, read_all

from xoron_core.data.sources import index

NUM_ROWS = 300


def write_lines(path: Path) -> None:
    path.write_text("".join(f'{{"n": "{number}"}}\n' for number in range(NUM_ROWS)))


def write_array(path: Path) -> None:
    path.write_text(json.dumps([{"n": str(number)} for number in range(NUM_ROWS)]))


def write_table(path: Path) -> None:
    path.write_text("n\n" + "".join(f"{number}\n" for number in range(NUM_ROWS)))


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for number in range(NUM_ROWS):
            member = tarfile.TarInfo(f"{number:05}.json")
            content = f'{{"n": "{number}"}}'.encode()
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_folder(path: Path) -> None:
    (path / "train" / "cats").mkdir(parents=True)
    (path / "train" / "dogs").mkdir()
    for number in range(40):
        (path / "train" / ("cats" if number < 20 else "dogs") / f"{number:05}.jpg").write_bytes(b"JPEG")


WRITERS: dict[str, Callable[[Path], None]] = {
    "rows.jsonl": write_lines,
    "rows.json": write_array,
    "rows.csv": write_table,
    "rows.tar": write_tar,
    "folder": write_folder,
}


@pytest.mark.parametrize("is_mapped", [True, False])
@pytest.mark.parametrize("name", list(WRITERS))
def test_an_index_is_built_once_and_anew_when_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_mapped: bool
) -> None:
    monkeypatch.setattr(index, "MIN_MAPPED_BYTES", 0 if is_mapped else 2**30)
    path, cache, told = tmp_path / name, tmp_path / "cache", list[str]()
    WRITERS[name](path)
    rows = read_all(opened(path))
    assert len(rows) == (NUM_ROWS if path.is_file() else 40)

    def looked_through() -> bool:
        told.clear()
        source = opened(path, cache=cache, on_progress=told.append)
        assert len(source) == len(rows)
        assert all(source.read(at).fields == rows[at] for at in range(0, len(rows), 13))
        source.close()
        return bool(told)

    assert looked_through()
    assert not looked_through()
    for kept in sorted(cache.iterdir()):
        whole = kept.read_bytes()
        middle = len(whole) // 2
        for damaged in (b"", whole[:middle], b"\0" * len(whole), whole[:middle] + b"?" + whole[middle + 1 :]):
            kept.write_bytes(damaged)
            if damaged != whole:
                assert looked_through() or kept.suffix == ".json", (kept, damaged[:99])
            assert not looked_through()
        kept.unlink()
        assert looked_through()
        assert not looked_through()


def test_a_kept_index_is_used_without_a_look_at_the_file(tmp_path: Path) -> None:
    path, cache = tmp_path / "rows.jsonl", tmp_path / "cache"
    path.write_text('{"n": 0}\n{"n": 1}\n')
    assert len(opened(path, cache=cache)) == 2
    before = path.stat()
    with path.open("r+") as file:
        file.write('{"n": "as long"  }')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(opened(path, cache=cache)) == 2  # found where it was; looked through anew, it has one row
    path.touch()
    assert len(opened(path, cache=cache)) == 1


def test_a_file_that_grew_is_looked_through_again_and_its_old_index_is_gone(tmp_path: Path) -> None:
    path, cache = tmp_path / "rows.jsonl", tmp_path / "cache"
    path.write_text('{"n": 0}\n')
    opened(path, cache=cache).close()
    kept = sorted(cache.iterdir())
    with path.open("a") as file:
        file.write('{"n": 1}\n')
    assert read_all(opened(path, cache=cache)) == [{"n": 0}, {"n": 1}]
    assert sorted(cache.iterdir()) == kept


@pytest.mark.parametrize("change", ["add", "remove", "rename", "describe"])
def test_a_folder_in_which_anything_changed_is_looked_through_again(tmp_path: Path, change: str) -> None:
    cache = tmp_path / "cache"
    write_folder(tmp_path / "folder")
    dogs = tmp_path / "folder" / "train" / "dogs"
    assert len(opened(tmp_path / "folder", cache=cache)) == 40
    if change == "add":
        (dogs / "new.jpg").write_bytes(b"JPEG")
    elif change == "remove":
        (dogs / "00030.jpg").unlink()
    elif change == "rename":
        (dogs / "00030.jpg").rename(dogs / "z.jpg")
    else:
        (dogs / "00030.txt").write_text("a dog")
    rows = read_all(opened(tmp_path / "folder", cache=cache))
    assert len(rows) == {"add": 41, "remove": 39}.get(change, 40)
    assert any(row.get("text") == "a dog" for row in rows) == (change == "describe")
    assert any(row["file_name"] == "dogs/z.jpg" for row in rows) == (change == "rename")


def test_many_may_build_the_same_index_at_the_same_time(tmp_path: Path) -> None:
    path, cache = tmp_path / "rows.jsonl", tmp_path / "cache"
    write_lines(path)
    with ThreadPoolExecutor(8) as pool:
        sources = list(pool.map(lambda _: opened(path, cache=cache), range(24)))
    assert {source.read(NUM_ROWS - 1).fields["n"] for source in sources} == {str(NUM_ROWS - 1)}
    for source in sources:
        source.close()
    told: list[str] = []
    opened(path, cache=cache, on_progress=told.append).close()
    assert not told
    assert {kept.suffix for kept in cache.iterdir()} == {".json", ".npy"}  # nothing half-written is left


def test_where_nothing_can_be_kept_rows_are_read_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, cache = tmp_path / "rows.jsonl", tmp_path / "cache"
    path.write_text('{"n": 0}\n')
    cache.write_text("a file where the folder should be")
    assert read_all(opened(path, cache=cache)) == [{"n": 0}]
    assert "is kept in memory" in caplog.text


def test_a_row_far_in_a_long_file_is_read_without_those_before_it(tmp_path: Path) -> None:
    path, cache = tmp_path / "rows.jsonl", tmp_path / "cache"
    write_lines(path)
    opened(path, cache=cache).close()
    with path.open("r+b") as file:
        before = path.stat()
        last = path.read_bytes().rindex(b"{")
        file.write(b"\0" * last)  # whoever read it would find nothing
        file.flush()
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    source = opened(path, cache=cache)
    assert source.read(NUM_ROWS - 1).fields == {"n": str(NUM_ROWS - 1)}
    source.close()
