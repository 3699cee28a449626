"""JSON and CSV files, read row by row without ever being held."""

import csv
import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.patience import PATIENT
from support.rows import opened, read_all

from xoron_core.contract.errors import BadKind, DataError
from xoron_core.data.sources import rows
from xoron_core.data.sources.csv_records import scan_csv
from xoron_core.data.sources.rows import NotThisFormatError

NASTY = st.text(alphabet='"\\[]{},:\n é🦊x', max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(NASTY, VALUES, max_size=4), min_size=1, max_size=6)


def opened_in_pieces(path: Path, content: bytes, chunk_bytes: int) -> list[dict[str, Any]]:
    """The rows of a file that is looked through in pieces of this length."""
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "CHUNK_BYTES", chunk_bytes)
        return read_all(opened(path))


@settings(PATIENT, max_examples=80)
@given(
    objects=OBJECTS,
    indent=st.none() | st.integers(0, 2),
    ascii_=st.booleans(),
    around=st.sampled_from(["%s", " \n%s\n", "\ufeff%s", '{"data": %s}', '{"data"\n :%s, "more": [[{}], "]"]}',
                            '{"a": {"data": [1]}, "b": [{"data": [2]}], "x\\\\\\"data": [3], "data": %s}']),
    chunk_bytes=st.integers(1, 40) | st.just(2**20),
)  # fmt: skip
def test_the_objects_of_a_json_array_are_its_rows(
    tmp_path_factory: pytest.TempPathFactory,
    objects: list[dict[str, Any]],
    indent: int | None,
    ascii_: bool,
    around: str,
    chunk_bytes: int,
) -> None:
    content = around % json.dumps(objects, indent=indent, ensure_ascii=ascii_)
    path = tmp_path_factory.mktemp("json") / "rows.json"
    assert opened_in_pieces(path, content.encode(), chunk_bytes) == objects


@pytest.mark.parametrize(
    "content",
    ["", "  \n", "3", '"data"', "{}", '{"a": 1}\n{"a": 2}\n', '{"a": [1]}\n{"data": [2]}', 'oops [{"a": 1}]', "]["],
)
def test_a_json_file_without_an_array_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(DataError, match=r"rows\.json is no array of objects .* say format: jsonl") as caught:
        opened(tmp_path / "rows.json")
    assert caught.value.index is None


@pytest.mark.parametrize(
    ("after", "place"), [('[{"n": 3}]', 10), ('\n \n{"n": 3}\n', 13), ("]", 10), (" " * 200_000 + "x", 200_010)]
)
def test_what_follows_a_json_array_is_refused_and_not_left_out(tmp_path: Path, after: str, place: int) -> None:
    (tmp_path / "rows.json").write_text('[{"n": 0}]' + after)
    with pytest.raises(DataError, match=rf"rows\.json has more after its array, at byte {place}: .* say format: jsonl"):
        opened(tmp_path / "rows.json")


@pytest.mark.parametrize("content", ["[]", " [ \n] ", '{"data": []}'])
def test_a_json_array_without_elements_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(DataError, match=r"rows\.json has no row"):
        opened(tmp_path / "rows.json")


@pytest.mark.parametrize(
    ("content", "bad", "kind"),
    [
        ('[{"n": 0}, 3, {"n": 2}]', 1, "wrong_type"),
        ('[{"n": 0}, , {"n": 2}]', 1, "unreadable"),
        ('[{"n": 0}, {oops}, {"n": 2}]', 1, "unreadable"),
        ('[{"n": 0}, {"n": 1}, {"n": "cut o', 2, "unreadable"),
        ('[{"n": 0}, {"n": 1}, {"n": 2, "x": [{', 2, "unreadable"),
    ],
)
def test_an_element_that_is_no_object_leaves_its_neighbours_alone(
    tmp_path: Path, content: str, bad: int, kind: BadKind
) -> None:
    (tmp_path / "rows.json").write_text(content)
    source = opened(tmp_path / "rows.json")
    assert len(source) == 3
    assert [source.read(index).fields["n"] for index in range(3) if index != bad] == [n for n in range(3) if n != bad]
    with pytest.raises(DataError) as caught:
        source.read(bad)
    assert (caught.value.index, caught.value.kind) == (bad, kind)
    source.close()


def test_a_json_array_that_ends_at_a_comma_has_no_row_after_it(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"n": 0}, \n')
    assert read_all(opened(tmp_path / "rows.json")) == [{"n": 0}]


CELLS = st.text(alphabet='",\t\n;é🦊 x', max_size=8) | st.just("a\r\nb")
TABLES = st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=6))


@settings(PATIENT, max_examples=100)
@given(
    table=TABLES,
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    newline=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    chunk_bytes=st.integers(1, 30) | st.just(2**20),
)  # fmt: skip
def test_records_of_a_csv_file_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[list[str]],
    quoting: int,
    newline: str,
    bom: bool,
    chunk_bytes: int,
) -> None:
    header = [f"column {at}" for at in range(len(table[0]))]
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, lineterminator=newline)
    writer.writerows([header, *table])
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    content = text.getvalue().encode("utf-8-sig" if bom else "utf-8")
    got = opened_in_pieces(path, content, chunk_bytes)
    assert got == [dict(zip(header, row, strict=True)) for row in table]


FIELDS = st.lists(st.text(alphabet='", ;é🦊x', max_size=8), min_size=2, max_size=2)


@settings(PATIENT, max_examples=60)
@given(
    table=st.lists(FIELDS, min_size=1, max_size=6),
    newline=st.sampled_from(["\n", "\r\n", "\n\n", "\r\n\n\r\n"]),
    chunk_bytes=st.integers(1, 30) | st.just(2**20),
)
def test_quotes_of_a_tsv_file_are_letters_like_others(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], newline: str, chunk_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("tsv") / "rows.tsv"
    content = newline.join(["", *map("\t".join, [["a", "b"], *table]), ""])
    got = opened_in_pieces(path, content.encode(), chunk_bytes)
    assert got == [{"a": a, "b": b} for a, b in table]


@settings(PATIENT, max_examples=60)
@given(table=TABLES, newlines=st.lists(st.sampled_from(["\n", "\r\n"]), max_size=4), chunk_bytes=st.integers(1, 30))
def test_blank_lines_of_a_csv_file_are_passed_over(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], newlines: list[str], chunk_bytes: int
) -> None:
    header = [f"column {at}" for at in range(len(table[0]))]
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n" + "".join(newlines)).writerows([header, *table])
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    got = opened_in_pieces(path, ("".join(newlines) + text.getvalue()).encode(), chunk_bytes)
    assert got == [dict(zip(header, row, strict=True)) for row in table]


@settings(PATIENT, max_examples=300)
@given(text=st.text(alphabet='",\nx', max_size=40), chunk_bytes=st.integers(1, 12))
@example(text='"a""\nb",x"y\nz', chunk_bytes=10)  # parted between two quotes that stand for one
def test_quotes_where_they_do_not_belong_are_read_as_the_csv_module_reads_them(
    tmp_path_factory: pytest.TempPathFactory, text: str, chunk_bytes: int
) -> None:
    content = "header\n" + text
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    path.write_text(content)
    is_closed = list(csv.reader(io.StringIO(f"{content}\nend", newline="")))[-1] == ["end"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "CHUNK_BYTES", chunk_bytes)
        if not is_closed:
            with pytest.raises(NotThisFormatError, match="has a quote that is never closed"):
                scan_csv(path, lambda _: None)
            return
        index = scan_csv(path, lambda _: None)
    places = index.arrays["offsets"].tolist()
    pieces = [content[start:stop] for start, stop in pairwise(places)]
    got = [next(csv.reader([piece])) for piece in pieces]
    assert got == [row for row in csv.reader(io.StringIO(content, newline="")) if row]
    assert index.num_rows == len(got) - 1


def test_a_record_with_another_number_of_fields_is_bad(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3\n\n4,5,6\n7\n")
    source = opened(tmp_path / "rows.csv")
    assert source.read(0).fields == {"a": "1", "b": "2"}
    for index, count in ((1, 1), (2, 3), (3, 1)):
        with pytest.raises(DataError, match=f"has {count} fields where the header has 2") as caught:
            source.read(index)
        assert (caught.value.index, caught.value.kind) == (index, "wrong_type")
    source.close()


def test_a_stray_quote_spoils_the_rows_up_to_the_next_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('a,b\n1,"2\n3,4\n5,"6"\n7,8\n')
    source = opened(tmp_path / "rows.csv")
    assert len(source) == 2
    with pytest.raises(DataError, match=r"not comma-separated text: .* expected after"):
        source.read(0)
    assert source.read(1).fields == {"a": "7", "b": "8"}
    source.close()


def test_a_field_may_be_longer_than_the_csv_module_lets_it(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"a\n{'x' * 1_000_000}\n")
    assert read_all(opened(tmp_path / "rows.csv")) == [{"a": "x" * 1_000_000}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b,a\n1,2,3\n", r"needs a header that names each column once, got \['a', 'b', 'a'\]"),
        (b",\n1,2\n", "needs a header that names each column once"),
        (b"a;b\n1;2\n", r"has one column, 'a;b', that seems to be several, parted by ';'; part them by commas"),
        (b"a\tb\n1\t2\n", r"parted by '\\t'; part them by commas, or by tabs in a file that ends in \.tsv"),
        (b'a,b\n1,"2"\n3,"4\n5,6\n', r"has a quote that is never closed, in the record that begins at byte 10; close"),
        (b"a\xff\n1\n", "has no header: not comma-separated text"),
        (b"a,b\n", "has no row"),
        (b"\n\n", "has no row"),
    ],
)
def test_a_csv_file_without_header_or_rows_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "rows.csv")


def test_a_record_that_is_no_text_is_bad(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"a\n\xff\nb\n")
    source = opened(tmp_path / "rows.csv")
    with pytest.raises(DataError, match="not comma-separated text"):
        source.read(0)
    assert source.read(1).fields == {"a": "b"}
    source.close()
