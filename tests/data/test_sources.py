"""Reading rows by number from JSONL, whatever stands in the file, and the files that rows name."""

import errno
import json
import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.patience import PATIENT
from support.rows import config_of, opened, read_all

from xoron_core.contract.errors import BadKind, ConfigError, DataError, SourceLostError
from xoron_core.data.records import Record
from xoron_core.data.sources import open_source, rows
from xoron_core.data.sources.base import Source
from xoron_core.data.sources.local import MAX_OPEN_FILES
from xoron_core.data.sources.media import read_within

BAD_LINES: dict[bytes, tuple[str, BadKind]] = {
    b"{not json": ("not JSON", "unreadable"),
    b'{"text": "cut': ("not JSON", "unreadable"),
    b'{"text": "\xff\xfe"}': ("not JSON", "unreadable"),
    b"[" * 100_000: ("not JSON", "unreadable"),
    b"": ("not JSON", "unreadable"),
    b'["a", "list"]': ("not a JSON object but a list", "wrong_type"),
    b"3": ("not a JSON object but a int", "wrong_type"),
    b"null": ("not a JSON object but a NoneType", "wrong_type"),
}


def source_of(folder: Path, content: bytes) -> Source:
    path = folder / "train.jsonl"
    path.write_bytes(content)
    return opened(path)


def handles() -> list[int]:
    """The files that this process has open."""
    found = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    return [fd for fd in found if Path(f"/proc/self/fd/{fd}").is_symlink()]  # without the one that listed them


def test_progress_is_told_for_every_part_of_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK_BYTES", 400_000)
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(b'{"a": 1}\n' * 100_000)
    told: list[str] = []
    opened(tmp_path / "*.jsonl", on_progress=told.append).close()
    assert told == [f"poems: {done} of 1.8 MB" for done in (0.4, 0.8, 0.9, 1.3, 1.7, 1.8)]


@settings(PATIENT, max_examples=40)
@given(
    rows_=st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=20)), min_size=1, max_size=12),
    newline=st.sampled_from(["\n", "\r\n"]),
    end=st.sampled_from(["", "\n", "\r\n", "\n\n  \n\t\n", " \n" * 40]),
    chunk_bytes=st.integers(1, 60),
)
def test_every_row_is_read_wherever_a_chunk_ends(
    tmp_path_factory: pytest.TempPathFactory,
    rows_: list[dict[str, str]],
    newline: str,
    end: str,
    chunk_bytes: int,
) -> None:
    content = newline.join(json.dumps(row, ensure_ascii=False) for row in rows_) + end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "CHUNK_BYTES", chunk_bytes)
        source = source_of(tmp_path_factory.mktemp("rows"), content.encode())
    assert read_all(source) == rows_


def test_rows_are_read_in_any_order(tmp_path: Path) -> None:
    source = source_of(tmp_path, b'{"n": 0}\n{"n": 1}\n{"n": 2}\n')
    assert [source.read(index).fields["n"] for index in (2, 0, 1, 2)] == [2, 0, 1, 2]
    source.close()


def test_separators_that_are_no_newline_stay_in_their_row(tmp_path: Path) -> None:
    row = {"text": "a\u2028b\x85c\u2029 naïve 漢字 🦊"}
    assert read_all(source_of(tmp_path, json.dumps(row, ensure_ascii=False).encode() + b"\n")) == [row]


@pytest.mark.parametrize("line", list(BAD_LINES), ids=lambda line: repr(line[:12]))
def test_a_row_that_is_no_object_is_named_and_its_neighbours_are_read(tmp_path: Path, line: bytes) -> None:
    source = source_of(tmp_path, b'{"n": 0}\n' + line + b'\n{"n": 2}\n')
    reason, kind = BAD_LINES[line]
    with pytest.raises(DataError, match=reason) as caught:
        source.read(1)
    assert (caught.value.source, caught.value.index, caught.value.kind) == ("poems", 1, kind)
    assert [source.read(index).fields["n"] for index in (0, 2)] == [0, 2]
    source.close()


@pytest.mark.parametrize("content", [b"", b"\n", b"  \n\n \t\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl has no row") as caught:
        source_of(tmp_path, content)
    assert (caught.value.source, caught.value.index) == ("poems", None)


def test_a_file_that_shrank_has_bad_rows_at_its_end(tmp_path: Path) -> None:
    source = source_of(tmp_path, b'{"n": 0}\n{"n": 1}\n')
    assert source.read(1).fields == {"n": 1}
    os.truncate(tmp_path / "train.jsonl", 12)
    assert source.read(0).fields == {"n": 0}
    with pytest.raises(DataError, match=r"poems\[1\]: the file is cut off 5 bytes before the row's end"):
        source.read(1)
    source.close()


def test_a_missing_file_is_a_lost_source(tmp_path: Path) -> None:
    with pytest.raises(SourceLostError, match=r"has no file .*nowhere\.jsonl"):
        opened(tmp_path / "nowhere.jsonl")


def test_a_split_that_cannot_be_stays_an_error_of_the_configuration(tmp_path: Path) -> None:
    source_of(tmp_path, b"{}\n").close()
    with pytest.raises(ConfigError, match="which has one split, train"):
        opened(tmp_path / "train.jsonl", "heldout")


def many_files(folder: Path) -> Path:
    """A pattern of more files than stay open; each has two rows, the last is not open at first."""
    for number in range(MAX_OPEN_FILES + 1):
        (folder / f"{number:03}.jsonl").write_text(f'{{"n": {2 * number}}}\n{{"n": {2 * number + 1}}}\n')
    return folder / "*.jsonl"


def test_a_file_that_goes_away_is_a_lost_source_until_it_is_back(tmp_path: Path) -> None:
    source = opened(many_files(tmp_path))
    path = tmp_path / f"{MAX_OPEN_FILES:03}.jsonl"
    path.rename(tmp_path / "aside")
    with pytest.raises(SourceLostError, match=rf"poems: cannot read {path}: No such file"):
        source.read(2 * MAX_OPEN_FILES)
    (tmp_path / "aside").rename(path)
    assert [source.read(2 * MAX_OPEN_FILES + 1 - n).fields["n"] for n in (0, 129)] == [2 * MAX_OPEN_FILES + 1, 0]
    source.close()


def test_another_file_of_its_name_is_not_read_with_the_old_numbers(tmp_path: Path) -> None:
    source = opened(many_files(tmp_path))
    (tmp_path / f"{MAX_OPEN_FILES:03}.jsonl").write_bytes(b'{"n": 0}\n')
    with pytest.raises(SourceLostError, match="has changed since its rows were counted"):
        source.read(2 * MAX_OPEN_FILES)
    source.close()


def test_several_files_are_one_after_the_other(tmp_path: Path) -> None:
    for number in range(MAX_OPEN_FILES + 10):
        lines = [f'{{"n": {number}, "at": {at}}}\n' for at in range(number % 3)]  # some are empty
        (tmp_path / f"{number:03}.jsonl").write_text("".join(lines))
    before = len(handles())
    source = opened(tmp_path / "*.jsonl")
    expected = [(number, at) for number in range(MAX_OPEN_FILES + 10) for at in range(number % 3)]
    for index in [*reversed(range(len(source))), *range(len(source))]:
        fields = source.read(index).fields
        assert (fields["n"], fields["at"]) == expected[index]
    assert len(source) == len(expected)
    assert len(handles()) <= before + MAX_OPEN_FILES
    source.close()
    assert len(handles()) == before


def test_small_files_are_read_together_and_large_ones_are_not(tmp_path: Path) -> None:
    for number, count in enumerate([10, 5000, 4000, 100, 7, 1]):
        (tmp_path / f"{number}.jsonl").write_bytes(b"{}\n" * count)
    with closing(opened(tmp_path / "*.jsonl")) as source:
        assert list(source.blocks) == [0, 5010, 9110]
    with closing(opened(tmp_path / "*.jsonl", "train[5000:9100]")) as source:
        assert list(source.blocks) == [0, 10]


@pytest.mark.parametrize(
    ("split", "expected"),
    [("train[1:3]", [1, 2]), ("train[-2:]", [3, 4]), ("train[:40%]", [0, 1]), ("train[40%:]", [2, 3, 4])],
)
def test_a_part_of_a_split_is_numbered_from_its_start(tmp_path: Path, split: str, expected: list[int]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"n": {number}}}\n' for number in range(4)) + "oops\n")
    source = opened(path, split)
    assert len(source) == len(expected)
    good = [number for number in expected if number < 4]
    assert [source.read(index).fields["n"] for index in range(len(good))] == good
    if 4 in expected:
        with pytest.raises(DataError) as caught:
            source.read(len(source) - 1)
        assert caught.value.index == len(source) - 1
    with pytest.raises(IndexError):
        source.read(len(source))
    source.close()


def test_a_part_without_rows_is_refused(tmp_path: Path) -> None:
    source_of(tmp_path, b"{}\n{}\n{}\n").close()
    with pytest.raises(DataError, match=r"train\.jsonl has no row in \[5:\], of 3"):
        opened(tmp_path, "train[5:]")


def record_beside_files(tmp_path: Path) -> Record:
    folder = tmp_path / "source"
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "a.bin").write_bytes(b"inside")
    (tmp_path / "secret.bin").write_bytes(b"outside")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "loop").symlink_to("loop")
    source = source_of(folder, b'{"n": 0}\n')
    record = source.read(0)
    source.close()
    return record


def test_a_file_that_a_row_names_is_read_from_beside_the_rows(tmp_path: Path) -> None:
    record = record_beside_files(tmp_path)
    assert record.read("files/a.bin") == b"inside"
    assert record.read("files/../files/a.bin") == b"inside"


@pytest.mark.parametrize(
    "relative", ["../secret.bin", "files/../../secret.bin", "{outside}/secret.bin", "link.bin", "/etc/passwd", ".."]
)
def test_no_row_reads_a_file_outside_its_source(tmp_path: Path, relative: str) -> None:
    record = record_beside_files(tmp_path)
    with pytest.raises(DataError, match=r"leads out of .*; put the file itself below that folder") as caught:
        record.read(relative.format(outside=tmp_path))
    assert (caught.value.source, caught.value.index, caught.value.kind) == ("poems", 0, "missing_file")


@pytest.mark.parametrize("relative", ["nowhere.bin", "files", "", "a\0b", "loop", "x" * 5000, "\ud800"])
def test_a_path_that_names_no_file_is_a_data_error(tmp_path: Path, relative: str) -> None:
    record = record_beside_files(tmp_path)
    with pytest.raises(DataError, match=r"poems\[0\]") as caught:
        record.read(relative)
    assert caught.value.kind == "missing_file"


def test_when_the_folder_is_gone_it_is_the_source_that_is_lost(tmp_path: Path) -> None:
    record = record_beside_files(tmp_path)
    shutil.rmtree(tmp_path / "source")
    with pytest.raises(SourceLostError, match=r"poems: cannot read .*a\.bin"):
        record.read("files/a.bin")
    (tmp_path / "source").mkdir()  # as a disk that is not mounted leaves it
    with pytest.raises(SourceLostError, match=r"poems: cannot read .*a\.bin"):
        record.read("files/a.bin")


def test_a_disk_that_fails_is_told_from_a_file_that_is_missing() -> None:
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_within(Path("/proc/self"), "mem")  # nothing is mapped at 0
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("value", [None, "", "  \n", 3, ["a"], {"a": "b"}, "half a pair \ud83e"])
def test_a_field_that_is_no_text_is_named(value: object) -> None:
    record = Record("poems", 7, {"text": value}, lambda _: b"")
    with pytest.raises(DataError, match="field 'text'") as caught:
        record.text("text")
    assert (caught.value.source, caught.value.index) == ("poems", 7)


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(DataError, match="field 'text' must be a text, got None"):
        Record("poems", 7, {}, lambda _: b"").text("text")


def test_a_field_that_is_text_comes_back_unchanged() -> None:
    text = "  naïve 漢字 🦊\n"
    assert Record("poems", 7, {"text": text}, lambda _: b"").text("text") == text


def test_a_forked_reader_does_not_move_the_position_of_its_parent(tmp_path: Path) -> None:
    source = source_of(tmp_path, b"".join(b'{"n": %d}\n' % number for number in range(50)))
    source.read(0)
    path = tmp_path / "train.jsonl"
    shared = next(fd for fd in handles() if os.path.samestat(os.fstat(fd), path.stat()))
    os.lseek(shared, 17, os.SEEK_SET)  # as a forked process could
    assert source.read(30).fields["n"] == 30
    assert os.lseek(shared, 0, os.SEEK_CUR) == 17
    source.close()


def test_rows_of_the_corpus_shipped_here_are_read() -> None:
    source = open_source(config_of("demo:pictures"), "train", None)
    assert isinstance(source, Source)
    record = source.read(0)
    assert record.media("image")[:4] == b"RIFF"
    source.close()
