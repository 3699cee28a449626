"""Data sets of the hub: resumed exactly, lost and found again, and nothing of this machine read for them."""

import json
import os
import subprocess
import sys
import zipfile
from itertools import count
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hub_server import hub_of
from support.patience import PATIENT

from xoron_core.contract.errors import DataError
from xoron_core.contract.parts import parse_split
from xoron_core.data.sources import hub
from xoron_core.data.sources.base import stream_record
from xoron_core.data.sources.hub import HubStream, HubTable, fetch, own_files, with_media

FEATURES = datasets.Features({"n": datasets.Value("int64"), "image": datasets.Image()})


def write_parts(folder: Path, sizes: list[int], group_rows: int = 4) -> list[str]:
    """Parquet files with so many rows, numbered through."""
    numbers, paths = count(), []
    folder.mkdir(parents=True, exist_ok=True)
    for part, size in enumerate(sizes):
        rows = [{"n": next(numbers), "image": {"bytes": b"PNG", "path": "a.png"}} for _ in range(size)]
        table = pa.Table.from_pylist(rows, schema=FEATURES.arrow_schema)
        paths.append(str(folder / f"train-{part}.parquet"))
        pq.write_table(table, paths[-1], row_group_size=group_rows)
    return paths


def stream_of(paths: list[str], split: str = "train") -> HubStream:
    streamed = datasets.load_dataset("parquet", data_files=paths, split="train", streaming=True)
    return HubStream("poems", streamed, parse_split(split)[1], own_files("owner/poems"))


def numbers_of(stream: HubStream, count_: int) -> list[int]:
    return [row["n"] for row in stream.take(count_)]


@settings(PATIENT, max_examples=15)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    split=st.sampled_from(["train", "train[3:]", "train[:7]", "train[2:9]", "train[9:2]"]),
    takes=st.lists(st.integers(1, 9), max_size=5),
)
def test_a_stream_goes_on_where_a_state_says(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], split: str, takes: list[int]
) -> None:
    paths = write_parts(tmp_path_factory.mktemp("hub"), sizes)
    expected = list(parse_split(split)[1].of(sum(sizes)))
    stream = stream_of(paths, split)
    at = 0
    for number in takes:
        assert numbers_of(stream, number) == expected[at : at + number]
        at = min(at + number, len(expected))
    state = json.loads(json.dumps(stream.state_dict()))
    other = stream_of(paths, split)
    other.load_state_dict(state)
    assert numbers_of(other, 100) == expected[at:] == numbers_of(stream, 100)
    assert stream.take(1) == []
    for each in (stream, other):
        each.rewind()
        assert numbers_of(each, 100) == expected
        each.close()


def test_media_of_a_stream_are_bytes(tmp_path: Path) -> None:
    stream = stream_of(write_parts(tmp_path, [2]))
    (row, _) = stream.take(2)
    assert row == {"n": 0, "image": {"bytes": b"PNG", "path": "a.png"}}
    assert stream_record("poems", 0, row).media("image") == b"PNG"
    with pytest.raises(DataError, match=r"poems\[0\]: 'a\.png' is not in the stream"):
        stream_record("poems", 0, row).read("a.png")
    stream.close()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "local:///etc/passwd::hf://datasets/a/b@1/x",
        "zip://x::/tmp/y.zip",
        "hf://datasets/a/other@1/x.png",
        "hf://datasets/a/b2@1/x.png",
        "hf://datasets/a/b@1/../../other/x.png",
        "zip://x::hf://datasets/a/other@1/x.zip",
        "hf://buckets/a/b@1/x.png",
        None,
    ],
)
def test_a_path_that_is_no_file_of_the_data_set_is_left_alone(path: str | None) -> None:
    row: dict[str, Any] = {"image": {"bytes": None, "path": path}, "more": [{"image": {"bytes": None, "path": path}}]}
    features = {"image": datasets.Image(), "more": datasets.List({"image": datasets.Image()})}
    assert with_media(row, features, own_files("a/b")) == row


def test_what_is_fetched_is_no_larger_than_a_row_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("a.png", b"four")
    address = f"zip://a.png::{tmp_path}/x.zip"
    monkeypatch.setattr(hub, "MAX_ROW_BYTES", 4)
    assert fetch(address) == b"four"
    monkeypatch.setattr(hub, "MAX_ROW_BYTES", 3)
    assert fetch(address) is None


def test_a_downloaded_data_set_is_read_by_number(tmp_path: Path) -> None:
    dataset = datasets.Dataset.from_dict({"n": [0, 1, 2, 3], "path": ["a", "b", "c", str(tmp_path / "x" / "d")]})
    table = HubTable("poems", dataset, parse_split("train[1:]")[1], [tmp_path / "x"])
    assert [table.read(at).fields["n"] for at in (2, 0, 1)] == [3, 1, 2]
    with pytest.raises(DataError, match=r"poems\[0\]: 'b' is no file of the data set"):
        table.read(0).media("path")
    with pytest.raises(DataError, match=r"poems\[2\]: cannot read"):
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "e").touch()
        table.read(2).media("path")
    (tmp_path / "x" / "d").write_bytes(b"found")
    assert table.read(2).media("path") == b"found"
    table.close()
    with pytest.raises(DataError, match=r"there is no row in None\[7:\], of 4"):
        HubTable("poems", dataset, parse_split("train[7:]")[1], [])


def read_from_hub(tmp_path: Path, what: str) -> Any:
    reader = Path(__file__).parents[1] / "support" / "hub_reader.py"
    with hub_of(tmp_path / "hub") as address:
        return json.loads(told_by(tmp_path, address, str(reader), what))


def told_by(tmp_path: Path, address: str, *program: str) -> str:
    """What a program prints for which the hub is there; it starts in `tmp_path`."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    surroundings = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, *program], env=surroundings, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


CONFIG = "config_of('owner/poems', local=False)"
OPEN = f"from support.rows import config_of, open_source; source = open_source({CONFIG}, 'train', None)"


@pytest.mark.slow
def test_a_folder_of_this_machine_is_not_read_for_a_data_set_of_the_hub(tmp_path: Path) -> None:
    write_parts(tmp_path / "hub" / "data", [2])
    write_parts(tmp_path / "owner" / "poems" / "data", [5])
    with hub_of(tmp_path / "hub") as address:
        assert told_by(tmp_path, address, "-c", f"{OPEN}; print(len(source.take(9)))") == "2\n"


def test_a_name_of_nothing_here_is_told_so_when_the_hub_cannot_be_reached(tmp_path: Path) -> None:
    offline = "import os; os.environ['HF_HUB_OFFLINE'] = '1'"  # as for a hub that does not answer, at once
    program = f"{offline}\ntry:\n    {OPEN}\nexcept Exception as error:\n    print(type(error).__name__, error)"
    told = told_by(tmp_path, "http://127.0.0.1:9", "-c", program)
    assert told.startswith("SourceLostError poems: cannot be read from the hub: ")
    assert "nor is there anything called owner/poems on this machine" in told


@pytest.mark.slow
def test_a_data_set_is_read_from_the_hub_through_an_outage(tmp_path: Path) -> None:
    write_parts(tmp_path / "hub" / "data", [9, 9, 2])
    found = read_from_hub(tmp_path, "rows")
    assert found["first"] == list(range(7))
    assert found["lost"][0] == "SourceLostError"
    assert "poems: cannot be read from the hub: " in found["lost"][1]
    assert found["rest"] == found["again"] == list(range(7, 20))
    assert found["table"] == [18, 19]
    for what, reason in (
        ("no split", "heldout"),
        ("no data set", "owner/nothing"),
        ("no configuration", "small"),
        ("no share", "give numbers"),
    ):
        assert found[what][0] == "DataError"
        assert reason in found[what][1]


@pytest.mark.slow
def test_files_of_a_data_set_are_fetched_from_the_hub(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "train"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.png").write_text(f"picture {number}")
    (folder / "metadata.csv").write_text("file_name,text\n0.png,none\n1.png,one\n2.png,two\n")
    about = "dataset_info:\n  splits:\n  - name: train\n    num_examples: 3\n"
    (tmp_path / "hub" / "README.md").write_text(f"---\n{about}---\n")
    found = read_from_hub(tmp_path, "media")
    assert found["streamed"] == found["downloaded"] == ["picture 0", "picture 1", "picture 2"]
    assert (found["share"], found["text"]) == (["two"], "one")
    assert found["outside"][0] == "DataError"
