"""Where a source's files are looked for, and what is said when they are not there."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xoron_core.contract.config.data import SourceConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.parts import Part, parse_split
from xoron_core.contract.presets import resolve
from xoron_core.contract.sources import Location, check_sources, demo_corpus, locate


def made(folder: Path, *names: str) -> Path:
    """A folder with files of these names, none of them empty; a name with a slash at its end is a folder."""
    folder.mkdir(exist_ok=True)
    for name in names:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text("x")
    return folder


def located(path: Path | str, split: str = "train", **options: Any) -> Location:
    return locate(SourceConfig(name="poems", category="document", path=str(path), **options), split)


def names(location: Location, folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in location.files]


LAYOUTS: dict[str, tuple[list[str], str, list[str], str]] = {
    "a file for each split": (["train.jsonl", "test.jsonl"], "jsonl", ["train.jsonl"], "."),
    "another name of the same": (["train.ndjson"], "jsonl", ["train.ndjson"], "."),
    "upper case": (["train.CSV"], "csv", ["train.CSV"], "."),
    "tabs": (["train.tsv", "test.tsv"], "csv", ["train.tsv"], "."),
    "parts": (["train-1.parquet", "train-0.parquet"], "parquet", ["train-0.parquet", "train-1.parquet"], "."),
    "one before its parts": (["train.json", "train-0.json"], "json", ["train.json"], "."),
    "a folder of parts": (["train/b.tar", "train/a.tar"], "webdataset", ["train/a.tar", "train/b.tar"], "train"),
    "as the hub stores": (["README.md", "data/train-0.parquet"], "parquet", ["data/train-0.parquet"], "data"),
    "saved by datasets": (
        ["train/state.json", "train/dataset_info.json", "train/data-00000-of-00001.arrow", "dataset_dict.json"],
        "arrow",
        ["train/data-00000-of-00001.arrow"],
        "train",
    ),
    "one split saved by datasets": (["state.json", "data-0-of-1.arrow"], "arrow", ["data-0-of-1.arrow"], "."),
    "media beside rows": (["train.jsonl", "train/a.png"], "jsonl", ["train.jsonl"], "."),
    "media": (["train/a.png", "train/a.json"], "folder", ["train"], "train"),
    "media with a list": (["train/metadata.csv", "train/a.png"], "folder", ["train"], "train"),
    "classes": (["train/cats/a.jpg"], "folder", ["train"], "train"),
}  # fmt: skip


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_the_files_of_a_split_are_found_however_they_lie(tmp_path: Path, layout: str) -> None:
    there, format_, found, root = LAYOUTS[layout]
    location = located(made(tmp_path, *there))
    assert (location.format, names(location, tmp_path)) == (format_, found)
    assert location.root == tmp_path / root


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.tar", "train.v2.csv"])
def test_a_file_has_one_split_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name) / name
    assert located(path).files == (path,)
    assert located(path, "train[95%:]").rows == Part("95%", None)
    with pytest.raises(
        ConfigError, match=r"eval_split: null, or split: 'train\[:95%\]' with eval_split: 'train\[95%:\]"
    ):
        located(path, "heldout")


def test_a_pattern_stands_for_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    made(tmp_path, "b/2.tar", "a/1.tar", "a/0.tar", "a/0.txt")
    location = located(tmp_path / "*" / "*.tar")
    assert names(location, tmp_path) == ["a/0.tar", "a/1.tar", "b/2.tar"]
    assert location.root == tmp_path
    with pytest.raises(ConfigError, match=r"has no file .*jsonl; put one there"):
        located(tmp_path / "*.jsonl")


def test_a_file_whose_name_has_signs_of_a_pattern_is_that_file(tmp_path: Path) -> None:
    assert located(made(tmp_path, "a[1].jsonl") / "a[1].jsonl").files == (tmp_path / "a[1].jsonl",)


def test_a_relative_path_starts_where_the_process_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "poems/data/train.jsonl", "poems/x-1.csv")
    monkeypatch.chdir(tmp_path)
    assert located("poems/data").files == (Path("poems/data/train.jsonl"),)
    assert located("poems/*.csv").files == (Path("poems/x-1.csv"),)


def test_format_chooses_among_several(tmp_path: Path) -> None:
    made(tmp_path, "train.jsonl", "train.csv", "train/a.png", "rows.txt")
    with pytest.raises(ConfigError, match=r"format: .*several formats, csv, jsonl"):
        located(tmp_path)
    assert names(located(tmp_path, format="csv"), tmp_path) == ["train.csv"]
    assert names(located(tmp_path, format="folder"), tmp_path) == ["train"]
    assert located(tmp_path / "rows.txt", format="jsonl").format == "jsonl"
    with pytest.raises(
        ConfigError, match=r"format: .*does not tell by the name of .*rows\.txt.* none of \.jsonl .*say format"
    ):
        located(tmp_path / "rows.txt")


def test_a_folder_without_splits_may_be_one(tmp_path: Path) -> None:
    made(tmp_path, "cats/a.jpg")
    cure = rf"; or give {tmp_path} as path and 'cats', this folder's name, as split"
    for options in ({}, {"format": "folder"}):
        with pytest.raises(ConfigError, match=cure):
            located(tmp_path / "cats", **options)
    assert located(tmp_path, "cats").root == tmp_path / "cats"


@pytest.mark.parametrize("suffix", ["ppm", "j2k", "apng", "ogv", "M2TS", "aiff", "oga"])
def test_a_folder_of_any_media_is_one(tmp_path: Path, suffix: str) -> None:
    made(tmp_path, f"train/a.{suffix}", "train/a.json")
    assert located(tmp_path).format == "folder"


@pytest.mark.parametrize(
    "name", ["train.jsonl.gz", "train.json.zst", "train-0.tar.gz", "train.tgz", "data/train-0.csv.xz"]
)
def test_what_is_compressed_is_to_be_unpacked(tmp_path: Path, name: str) -> None:
    made(tmp_path, name)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(ConfigError, match=r"path: .*of which no single row can be read; unpack it"):
            located(path)


@pytest.mark.parametrize(
    ("path", "options", "is_on_hub"),
    [
        ("owner/name", {}, True),
        ("owner/name", {"local": True}, False),
        ("owner/name", {"local": False}, True),
        ("squad", {"format": "hub"}, True),
        ("squad", {}, False),
        ("./owner/name", {}, False),
        ("owner/name.jsonl", {}, False),
        ("owner/*", {}, False),
        ("a/b/c", {}, False),
    ],
)
def test_what_is_not_here_and_is_called_like_a_data_set_of_the_hub_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, options: dict[str, Any], is_on_hub: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if is_on_hub:
        assert located(path, "train+test[:100]", **options) == Location(
            "hub", (), Path(), "train+test", Part(None, "100")
        )
    else:
        with pytest.raises(ConfigError, match="has no file"):
            located(path, **options)


def test_a_folder_that_is_here_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path, "owner/name/train.jsonl")
    assert located("owner/name").format == "jsonl"
    assert located("owner/name", format="hub").format == "hub"


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("../up", {"format": "hub"}, "path: .*needs the name of a data set on the hub, owner/name"),
        ("owner/name", {"format": "hub", "local": True}, "local: .*cannot be on this machine and on the hub"),
        ("owner/name", {"format": "csv", "local": False}, "format: .*is on the hub, which knows"),
        ("demo:pictures", {"config": "small"}, "config: .*only the hub has configurations"),
        ("demo:pictures/train.jsonl", {"format": "folder"}, "format: .*and no folder"),
        ("~nobody-is-called-so/x", {}, "path: .*cannot be looked at"),
        ("a\0b", {}, "path: .*has no file"),
        ("x" * 300, {}, "path: .*cannot be looked at"),
        ("imdb", {}, "path: .*has no file .*; where it is a data set on the hub, say local: false"),
        ("./imdb", {}, "path: .*has no file imdb/train\\.jsonl; put it there, or change path or split \\(got"),
        ("a**/b", {}, "path: .*(cannot be looked at|has no file)"),
    ],
)
def test_what_cannot_be_is_named_with_its_field(path: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        located(path, **options)


@pytest.mark.parametrize("split", ["", "train[", "train[3]", "train[a:b]", "../x", "train[1:2][3:4]", "a/b"])
def test_a_split_is_a_name_or_a_part_of_it(split: str) -> None:
    with pytest.raises(ConfigError, match=r"split: .*train\[100:\]"):
        located("demo:pictures", split)


@given(num_rows=st.integers(0, 1000), share=st.integers(0, 100))
def test_parts_by_share_leave_no_row_out_and_have_none_twice(num_rows: int, share: int) -> None:
    first, last = (parse_split(f"train[{part}]")[1].of(num_rows) for part in (f":{share}%", f"{share}%:"))
    assert [*first, *last] == list(range(num_rows))
    assert parse_split(f"train[-{100 - share}%:]")[1].of(num_rows) == last
    assert abs(len(first) - num_rows * share / 100) <= 0.5


@given(num_rows=st.integers(0, 50), start=st.integers(-60, 60) | st.none(), stop=st.integers(-60, 60) | st.none())
def test_parts_by_number_are_those_of_a_list(num_rows: int, start: int | None, stop: int | None) -> None:
    text = ["" if bound is None else str(bound) for bound in (start, stop)]
    part = parse_split(f"train[{text[0]}:{text[1]}]")[1]
    assert list(part.of(num_rows)) == list(range(num_rows))[start:stop]
    told = part.from_the_start
    assert (told is None) == ((start or 0) < 0 or (stop or 0) < 0)
    assert told is None or list(part.of(num_rows)) == list(range(num_rows))[told[0] : told[1]]


def check(*sources: dict[str, Any]) -> list[str]:
    """What is wrong with these sources of text, field by field."""
    modalities = {name: {"weight": 0} for name in resolve("demo").modality_weights() if name != "text"}
    named = [{"name": f"s{at}", "category": "document", **source} for at, source in enumerate(sources)]
    try:
        check_sources(resolve("demo", {"modalities": modalities, "data": {"sources": named}}))
    except ConfigError as error:
        return [f"{problem.field}: {problem.message}" for problem in error.problems]
    return []


def test_every_source_that_lacks_something_is_named_with_file_and_cure(tmp_path: Path) -> None:
    made(tmp_path, "good/train.jsonl", "good/heldout.jsonl", "half/train.jsonl", "void/train.csv", "media/train/")
    (tmp_path / "void" / "train.csv").write_text("")
    told = check(
        {"path": str(tmp_path / "good")},
        {"path": str(tmp_path / "half")},
        {"path": str(tmp_path / "void"), "eval_split": None},
        {"path": str(tmp_path / "media"), "eval_split": None},
        {"path": str(tmp_path / "good" / "train.jsonl")},
        {"path": "owner/name"},
    )
    assert [line.partition(":")[0] for line in told] == [
        "data.sources.1.path",
        "data.sources.2.path",
        "data.sources.3.path",
        "data.sources.4.eval_split",
    ]
    assert f"has no file {tmp_path}/half/heldout.jsonl; put it there, or change path or eval_split (null:" in told[0]
    assert f"{tmp_path}/void/train.csv is empty" in told[1]
    assert f"{tmp_path}/media/train is empty" in told[2]
    assert "eval_split: null" in told[3]


@pytest.mark.parametrize("split", ["heldout", "train[:50%]"])
def test_no_source_is_evaluated_on_the_rows_that_it_is_trained_on(tmp_path: Path, split: str) -> None:
    made(tmp_path, "train.jsonl", "heldout.jsonl")
    (told,) = check({"path": str(tmp_path), "split": split, "eval_split": split})
    assert told.startswith("data.sources.0.eval_split: source 's0' would be evaluated on the very rows")
    assert "eval_split: 'train[95%:]'" in told
    assert not check({"path": str(tmp_path), "split": "train[:50%]", "eval_split": "train[50%:]"})


def test_what_both_splits_lack_is_told_once(tmp_path: Path) -> None:
    assert len(check({"path": str(tmp_path / "rows.jsonl"), "eval_split": "train[95%:]"})) == 1


def test_the_corpus_shipped_here_is_whole() -> None:
    check_sources(resolve("demo"))
    assert located("demo:pictures").root == demo_corpus() / "pictures"
