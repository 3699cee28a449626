"""Reading rows by number from JSONL, whatever stands in the file."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.patience import PATIENT

from xoron_core.contract.errors import DataError
from xoron_core.data import sources
from xoron_core.data.records import Record
from xoron_core.data.sources import JsonlSource

BAD_LINES = {
    b"{not json": "not JSON",
    b'{"text": "cut': "not JSON",
    b'{"text": "\xff\xfe"}': "not JSON",
    b"[" * 100_000: "not JSON",
    b"": "not JSON",
    b'["a", "list"]': "not a JSON object but a list",
    b"3": "not a JSON object but a int",
    b"null": "not a JSON object but a NoneType",
}


def test_progress_is_told_for_every_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK_BYTES", 10)
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"a": 1}\n' * 10)
    told: list[int] = []
    JsonlSource("poems", path, lambda: told.append(1)).close()
    assert len(told) == 9


def source_of(folder: Path, content: bytes) -> JsonlSource:
    path = folder / "train.jsonl"
    path.write_bytes(content)
    return JsonlSource("poems", path)


def read_all(source: JsonlSource) -> list[object]:
    rows = [dict(source.read(index).fields) for index in range(len(source))]
    source.close()
    return list(rows)


@settings(PATIENT, max_examples=40)
@given(
    rows=st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=20)), min_size=1, max_size=12),
    newline=st.sampled_from(["\n", "\r\n"]),
    end=st.sampled_from(["", "\n", "\r\n", "\n\n  \n\t\n", " \n" * 40]),
    chunk_bytes=st.integers(1, 60),
)
def test_every_row_is_read_wherever_a_chunk_ends(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, str]],
    newline: str,
    end: str,
    chunk_bytes: int,
) -> None:
    content = newline.join(json.dumps(row, ensure_ascii=False) for row in rows) + end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CHUNK_BYTES", chunk_bytes)
        source = source_of(tmp_path_factory.mktemp("rows"), content.encode())
    assert read_all(source) == rows


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
    with pytest.raises(DataError, match=BAD_LINES[line]) as caught:
        source.read(1)
    assert (caught.value.source, caught.value.index) == ("poems", 1)
    assert [source.read(index).fields["n"] for index in (0, 2)] == [0, 2]
    source.close()


@pytest.mark.parametrize("content", [b"", b"\n", b"  \n\n \t\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl has no row") as caught:
        source_of(tmp_path, content)
    assert (caught.value.source, caught.value.index) == ("poems", None)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"poems: cannot open .*nowhere\.jsonl: No such file") as caught:
        JsonlSource("poems", tmp_path / "nowhere.jsonl")
    assert caught.value.source == "poems"


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
    with pytest.raises(DataError, match="leads out of") as caught:
        record.read(relative.format(outside=tmp_path))
    assert (caught.value.source, caught.value.index) == ("poems", 0)


@pytest.mark.parametrize("relative", ["nowhere.bin", "files", "", "a\0b", "loop", "x" * 5000, "\ud800"])
def test_a_path_that_names_no_file_is_a_data_error(tmp_path: Path, relative: str) -> None:
    record = record_beside_files(tmp_path)
    with pytest.raises(DataError, match=r"poems\[0\]"):
        record.read(relative)


@pytest.mark.parametrize("value", [None, "", "  \n", 3, ["a"], {"a": "b"}, "half a pair \ud83e"])
def test_a_field_that_is_no_text_is_named(value: object) -> None:
    record = Record("poems", 7, {"text": value}, lambda _: b"")
    with pytest.raises(DataError, match="field 'text'") as caught:
        record.text("text")
    assert (caught.value.source, caught.value.index) == ("poems", 7)


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(DataError, match="field 'text' must be a text that is not empty, got None"):
        Record("poems", 7, {}, lambda _: b"").text("text")


def test_a_field_that_is_text_comes_back_unchanged() -> None:
    text = "  naïve 漢字 🦊\n"
    assert Record("poems", 7, {"text": text}, lambda _: b"").text("text") == text


def test_a_forked_reader_does_not_move_the_position_of_its_parent(tmp_path: Path) -> None:
    source = source_of(tmp_path, b"".join(b'{"n": %d}\n' % number for number in range(50)))
    shared = os.dup(source._file.fileno())  # as a forked process has it
    os.lseek(shared, 17, os.SEEK_SET)
    assert source.read(30).fields["n"] == 30
    assert os.lseek(shared, 0, os.SEEK_CUR) == 17
    os.close(shared)
    source.close()
