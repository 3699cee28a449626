"""Parquet and Arrow files: rows by number, out of blocks that are read once."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.rows import opened, read_all

from xoron_core.contract.errors import DataError
from xoron_core.data.sources import tables

ROWS: list[dict[str, Any]] = [
    {
        "text": f"row {number}",
        "label": ("cat", "dog")[number % 2],
        "image": {"bytes": b"\xff\xd8%d" % number, "path": None},
        "turns": [{"role": "user", "n": number}, {"role": "assistant", "n": None}],
        "nothing": None,
    }
    for number in range(60)
]
SCHEMA = pa.schema(
    {
        "text": pa.large_string(),
        "label": pa.dictionary(pa.int8(), pa.string()),
        "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "turns": pa.list_(pa.struct({"role": pa.string(), "n": pa.int64()})),
        "nothing": pa.null(),
    }
)


def write_parquet(table: pa.Table, path: Path, part_rows: int) -> None:
    pq.write_table(table, path, row_group_size=part_rows, compression="zstd")


def write_arrow(table: pa.Table, path: Path, part_rows: int) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, part_rows)


def write_stream(table: pa.Table, path: Path, part_rows: int) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, part_rows)


Writer = Callable[[pa.Table, Path, int], None]
WRITERS: list[tuple[str, Writer]] = [("parquet", write_parquet), ("arrow", write_arrow), ("arrow", write_stream)]


def numbered(count: int) -> pa.Table:
    return pa.table({"n": list(range(count)), "text": [f"{number:0200}" for number in range(count)]})


@pytest.mark.parametrize(("suffix", "write"), WRITERS)
@pytest.mark.parametrize("part_rows", [1, 7, 100])
def test_rows_come_back_as_plain_values_in_any_order(
    tmp_path: Path, suffix: str, write: Writer, part_rows: int
) -> None:
    write(pa.Table.from_pylist(ROWS, SCHEMA), tmp_path / f"rows.{suffix}", part_rows)
    source = opened(tmp_path / f"rows.{suffix}", cache=tmp_path / "cache")
    order = [*range(0, 60, 7), *reversed(range(60))]
    assert [source.read(index).fields for index in order] == [ROWS[index] for index in order]
    assert source.read(3).media("image") == b"\xff\xd83"
    source.close()


@pytest.mark.parametrize(("suffix", "write"), WRITERS)
def test_parts_are_joined_to_blocks_of_enough_rows(tmp_path: Path, suffix: str, write: Writer) -> None:
    write(numbered(12_300), tmp_path / f"b.{suffix}", 1000)
    with closing(opened(tmp_path / f"b.{suffix}")) as source:
        assert list(source.blocks) == [0, 5000, 10_000]
    with closing(opened(tmp_path / f"b.{suffix}", "train[4000:10000]")) as source:
        assert list(source.blocks) == [0, 1000]
        assert source.read(5999).fields["n"] == 9999
    write(numbered(50), tmp_path / f"a.{suffix}", 1000)  # blocks end with their file
    with closing(opened(tmp_path / f"*.{suffix}")) as source:
        assert list(source.blocks) == [0, 50, 5050, 10_050]
        assert [source.read(index).fields["n"] for index in (49, 50, 12_349)] == [49, 0, 12_299]


@pytest.mark.parametrize(("suffix", "write"), WRITERS)
def test_blocks_of_many_bytes_have_fewer_rows(
    tmp_path: Path, suffix: str, write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MIN_BLOCK_BYTES", 100_000)
    table = pa.table({"n": list(range(3000)), "text": [f"{number * 7919:0200}" for number in range(3000)]})
    write(table, tmp_path / f"rows.{suffix}", 300)
    with closing(opened(tmp_path / f"rows.{suffix}")) as source:
        assert list(source.blocks) == list(range(0, 3000, 600))


def test_a_block_is_read_once_and_two_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_parquet(numbered(15_000), path, 5000)
    source = opened(path)
    assert [source.read(index).fields["n"] for index in (4000, 9000)] == [4000, 9000]
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\0" * (size - 2000))  # all but the footer: nothing more can be read
    assert [source.read(index).fields["n"] for index in (17, 5001)] == [17, 5001]
    with pytest.raises(DataError, match=r"poems\[14000\]: part 2 of rows\.parquet cannot be read") as caught:
        source.read(14_000)
    assert caught.value.kind == "unreadable"
    assert source.read(9999).fields["n"] == 9999
    with pytest.raises(DataError, match=r"poems\[0\]: part 0"):  # it made room
        source.read(0)
    source.close()


def test_what_is_damaged_spoils_no_other_part_of_its_block(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_parquet(numbered(300), path, 100)
    column = pq.read_metadata(path).row_group(1).column(1)
    with path.open("r+b") as file:
        file.seek(column.dictionary_page_offset or column.data_page_offset)
        file.write(b"\0" * column.total_compressed_size)
    source = opened(path)
    assert list(source.blocks) == [0]
    for index in (100, 199):
        with pytest.raises(DataError, match=rf"poems\[{index}\]: part 1 of rows\.parquet cannot be read"):
            source.read(index)
    assert [source.read(index).fields["n"] for index in (99, 200)] == [99, 200]
    source.close()


def test_a_part_that_unpacks_to_more_than_may_be_held_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BATCH_ROWS", 10)
    monkeypatch.setattr(tables, "MAX_PART_BYTES", 100_000)
    table = pa.table({"text": ["x" * 10] * 100 + ["x" * 10_000] * 100})
    write_parquet(table, tmp_path / "rows.parquet", 100)
    source = opened(tmp_path / "rows.parquet")
    assert source.read(0).fields["text"] == "x" * 10
    with pytest.raises(DataError, match=r"part 1 of .* unpacks to more than 100000 bytes; write .* smaller") as caught:
        source.read(100)
    assert caught.value.kind == "too_large"
    source.close()


@pytest.mark.parametrize(("suffix", "write"), WRITERS)
@pytest.mark.parametrize("kept", [0, 3, 100, 5000])
def test_a_file_that_is_cut_off_is_refused_by_name(tmp_path: Path, suffix: str, write: Writer, kept: int) -> None:
    path = tmp_path / f"rows.{suffix}"
    write(numbered(100), path, 10)
    path.write_bytes(path.read_bytes()[:kept])
    what = "Parquet" if suffix == "parquet" else "Arrow"
    with pytest.raises(DataError, match=rf"poems: .*rows\.{suffix} is no {what} file") as caught:
        opened(path)
    assert caught.value.index is None


@pytest.mark.parametrize(("suffix", "write"), WRITERS)
def test_a_table_without_rows_is_refused_and_among_others_passed_over(
    tmp_path: Path, suffix: str, write: Writer
) -> None:
    write(numbered(0), tmp_path / f"a.{suffix}", 10)
    with pytest.raises(DataError, match=rf"a\.{suffix} has no row"):
        opened(tmp_path / f"a.{suffix}")
    write(numbered(2), tmp_path / f"b.{suffix}", 10)
    assert [row["n"] for row in read_all(opened(tmp_path / f"*.{suffix}"))] == [0, 1]


def test_a_compressed_arrow_file_is_read_too(tmp_path: Path) -> None:
    table = numbered(50)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema, options=options) as writer,
    ):
        writer.write_table(table, 10)
    assert read_all(opened(tmp_path / "rows.arrow")) == table.to_pylist()


def test_what_datasets_saved_is_read(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    saved = datasets.Dataset.from_dict({"n": list(range(30))})
    saved.save_to_disk(tmp_path / "one", num_shards=3)
    datasets.DatasetDict({"train": saved, "test": saved.select(range(4))}).save_to_disk(tmp_path / "two")
    assert [row["n"] for row in read_all(opened(tmp_path / "one"))] == list(range(30))
    assert [row["n"] for row in read_all(opened(tmp_path / "two"))] == list(range(30))
    assert [row["n"] for row in read_all(opened(tmp_path / "two", "test[1:]"))] == [1, 2, 3]
