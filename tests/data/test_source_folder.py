"""Folders of media files and WebDataset tars: what belongs to a row, and what it is called."""

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from support.rows import opened, read_all

from xoron_core.contract.errors import DataError, SourceLostError
from xoron_core.data.sources import media

MEDIA = {"a.jpg": b"JPEG", "b.PNG": b"PNG", "c.mp4": b"MP4", "d.wav": b"WAV"}


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_what_stands_beside_a_media_file_is_in_its_row(tmp_path: Path) -> None:
    beside: dict[str, bytes | str] = {
        "a.txt": "a cat\n",
        "b.caption": "a dog",
        "c.json": '{"question": "what?", "answer": "a film", "video": "not this"}',
        "d.txt": "hello",
        "d.json": '{"speaker": "ada", "text": "not this"}',
        "e.txt": "of nothing",
        ".hidden.jpg": "",
        "notes.md": "",
    }
    source = opened(write(tmp_path, {f"train/{name}": content for name, content in (MEDIA | beside).items()}))
    rows = [source.read(index) for index in range(len(source))]
    assert [row.fields["file_name"] for row in rows] == list(MEDIA)
    assert [rows[at].media(kind) for at, kind in enumerate(["image", "image", "video", "audio"])] == list(
        MEDIA.values()
    )
    assert rows[0].text("text") == "a cat"
    assert rows[1].text("caption") == "a dog"
    assert (rows[2].text("question"), rows[2].text("answer")) == ("what?", "a film")
    assert (rows[3].text("text"), rows[3].text("speaker")) == ("hello", "ada")
    source.close()


def test_the_name_of_its_folder_is_what_is_said_of_a_file_of_which_nothing_is_said(tmp_path: Path) -> None:
    write(tmp_path, {"train/cats/1.jpg": b"1", "train/pets/dogs/2.jpg": b"2", "train/0.jpg": b"0"})
    write(tmp_path, {"train/cats/3.jpg": b"3", "train/cats/3.txt": "a tiger"})
    rows = {str(row["file_name"]): row for row in read_all(opened(tmp_path))}
    assert list(rows) == ["0.jpg", "cats/1.jpg", "cats/3.jpg", "pets/dogs/2.jpg"]
    assert [rows[name].get("label") for name in rows] == [None, "cats", None, "dogs"]
    assert rows["cats/1.jpg"]["caption"] == "cats"
    assert rows["cats/3.jpg"]["text"] == "a tiger"


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_a_list_of_metadata_says_which_files_are_rows(tmp_path: Path, name: str) -> None:
    listed = [("b/2.jpg", "two"), ("1.wav", "one"), ("gone.jpg", "none"), ("../up.jpg", "outside")]
    lines = [json.dumps({"file_name": file, "caption": said}) for file, said in listed] + ['{"caption": "of nothing"}']
    table = ["file_name,caption", *(f'{file},"{said}"' for file, said in listed)]
    write(tmp_path, {"train/1.wav": b"1", "train/b/2.jpg": b"2", "train/3.jpg": b"3", "up.jpg": b"up"})
    write(tmp_path, {f"train/{name}": "\n".join(lines if name.endswith("jsonl") else table)})
    source = opened(tmp_path)
    assert (source.read(0).media("image"), source.read(0).text("caption")) == (b"2", "two")
    assert source.read(1).media("audio") == b"1"
    for index, reason in ((2, "cannot read 'gone.jpg'"), (3, "leads out of")):
        with pytest.raises(DataError, match=reason) as caught:
            source.read(index).media("image")
        assert (caught.value.index, caught.value.kind) == (index, "missing_file")
    if name.endswith("jsonl"):
        with pytest.raises(DataError, match="field 'file_name' must be the name of a file, got None"):
            source.read(4)
    source.close()


def test_a_file_that_goes_away_is_bad_and_a_folder_that_does_is_lost(tmp_path: Path) -> None:
    write(tmp_path, {"train/a.jpg": b"a", "train/a.txt": "said", "train/b.jpg": b"b", "train/b.txt": "said"})
    source = opened(tmp_path)
    (tmp_path / "train" / "a.txt").unlink()
    (tmp_path / "train" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"poems\[0\]: cannot read 'a\.txt'") as caught:
        source.read(0)
    assert caught.value.kind == "missing_file"
    with pytest.raises(DataError, match=r"poems\[1\]: cannot read 'b\.jpg'"):
        source.read(1).media("image")
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(SourceLostError, match="cannot read"):
        source.read(1)
    source.close()
    with pytest.raises(SourceLostError, match="has no file"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\xff", r"its \.txt is not UTF-8 text"), (b"[3]", r"its \.json is not a JSON object")]
)
def test_what_is_said_in_no_text_makes_a_bad_row(tmp_path: Path, content: bytes, reason: str) -> None:
    suffix = "txt" if content == b"\xff" else "json"
    source = opened(write(tmp_path, {"train/a.jpg": b"a", f"train/a.{suffix}": content}))
    with pytest.raises(DataError, match=reason):
        source.read(0)
    source.close()


def test_a_folder_without_media_has_no_row(tmp_path: Path) -> None:
    write(tmp_path, {"train/a.md": "x"})
    with pytest.raises(DataError, match=r"train has no row: no picture, sound or clip, told by \.jpg .* is in it; put"):
        opened(tmp_path)


def test_a_folder_that_is_a_link_is_refused_and_not_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"train/cats/1.jpg": b"1", "elsewhere/2.jpg": b"2"})
    (tmp_path / "train" / "dogs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        DataError, match=r"train has a folder that is a link, .*train/dogs; put the folder itself there"
    ):
        opened(tmp_path)


def test_suffixes_of_what_stands_beside_a_file_are_in_either_case(tmp_path: Path) -> None:
    write(tmp_path, {"train/A.JPG": b"1", "train/A.TXT": "a cat", "train/b.WAV": b"2", "train/b.JSON": '{"text": "b"}'})
    write(tmp_path, {"train/c.png": b"3", "train/c.TXT": "not this", "train/c.txt": "this"})
    assert [row["text"] for row in read_all(opened(tmp_path))] == ["a cat", "b", "this"]


def test_what_is_no_file_or_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"train/a.jpg": b"four", "train/b.jpg": b"three"})
    os.mkfifo(tmp_path / "train" / "c.jpg")
    monkeypatch.setattr(media, "MAX_ROW_BYTES", 4)
    source = opened(tmp_path)
    assert source.read(0).media("image") == b"four"
    for index, reason, kind in (
        (1, "'b.jpg' has 5 bytes, 4 are the most", "too_large"),
        (2, "no file", "missing_file"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            source.read(index).media("image")
        assert (caught.value.index, caught.value.kind) == (index, kind)
    source.close()


def write_tar(path: Path, members: list[tuple[str, bytes]], format_: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format_) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            tar.addfile(member, io.BytesIO(content))
    return path


def test_members_of_one_key_are_one_row(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "shard.tar",
        [
            ("x/", b""),
            ("x/1.blur.png", b"BLURRED"),
            ("x/1.jpg", b"JPEG"),
            ("x/1.json", b'{"question": "what?", "txt": "not this"}'),
            ("x/1.txt", b" a cat \n"),
            ("x/._1.jpg", b"a shadow"),
            ("x/README", b"without a suffix"),
            ("x.y/1.FLAC", b"SOUND"),
            ("x.y/1.cls", b"7"),
            ("2.mp4", b"FILM"),
            ("2.bin", b"\0"),
        ],
    )
    first, second, third = read_all(opened(path))
    assert first == {
        "__key__": "x/1",
        "question": "what?",
        "json": {"question": "what?", "txt": "not this"},
        "txt": "a cat",
        "text": "a cat",
        "jpg": b"JPEG",
        "image": b"JPEG",
        "blur.png": b"BLURRED",
    }
    assert second == {"__key__": "x.y/1", "flac": b"SOUND", "audio": b"SOUND", "cls": "7", "label": "7"}
    assert third == {"__key__": "2", "mp4": b"FILM", "video": b"FILM", "bin": b"\0"}


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_names_may_be_long_and_of_any_letters(tmp_path: Path, format_: int) -> None:
    folder = "/".join(["verzeichnis-" + "x" * 30] * 4)
    keys = [f"{folder}/{number}-ä" for number in range(30)]
    members = [(f"{key}.{suffix}", key.encode()) for key in keys for suffix in ("txt", "bin")]
    source = opened(write_tar(tmp_path / "shard.tar", members, format_))
    assert [source.read(index).fields["__key__"] for index in range(29, -1, -1)] == keys[::-1]
    assert [source.read(index).fields["text"] for index in range(30)] == keys
    source.close()


def test_of_a_tar_that_is_cut_off_the_whole_rows_are_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "shard.tar", [(f"{number}.txt", b"x" * 2000) for number in range(4)])
    whole = path.read_bytes()
    path.write_bytes(whole[: 3 * 2560 + 700])  # inside of the last member's content
    source = opened(path)
    assert [source.read(index).fields["text"] for index in range(3)] == ["x" * 2000] * 3
    with pytest.raises(DataError, match=r"poems\[3\]: the file is cut off 1812 bytes before") as caught:
        source.read(3)
    assert caught.value.kind == "unreadable"
    source.close()
    path.write_bytes(whole[: 3 * 2560])  # between members
    assert len(opened(path)) == 3


def test_what_follows_a_damaged_header_is_a_bad_row(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "shard.tar", [(f"{number}.txt", b"text") for number in range(4)])
    with path.open("r+b") as file:
        file.seek(2 * 1024)
        file.write(b"?" * 512)
    source = opened(path)
    assert len(source) == 3
    assert source.read(1).fields["text"] == "text"
    with pytest.raises(DataError, match=r"poems\[2\]: the tar file is damaged here") as caught:
        source.read(2)
    assert caught.value.kind == "unreadable"
    source.close()


def test_two_members_of_one_name_are_a_bad_row(tmp_path: Path) -> None:
    members = [("a.jpg", b"1"), ("a.JPG", b"2"), ("b.txt", b"3")]
    source = opened(write_tar(tmp_path / "shard.tar", members))
    with pytest.raises(DataError, match=r"poems\[0\]: has two members a\.jpg") as caught:
        source.read(0)
    assert caught.value.kind == "unreadable"
    assert source.read(1).fields["text"] == "3"
    source.close()


SPARSE_HEADERS = {
    "GNU.sparse.major": "1",
    "GNU.sparse.minor": "0",
    "GNU.sparse.realsize": "9",
    "GNU.sparse.name": "b.txt",
}


def test_a_sparse_member_is_a_bad_row(tmp_path: Path) -> None:
    content = b"1\n5\n4\n".ljust(512, b"\0") + b"text"  # four bytes at the fifth place
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, headers in (("a.txt", {}), ("x/b.txt", SPARSE_HEADERS), ("c.txt", {})):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = len(content), headers
            tar.addfile(member, io.BytesIO(content))
    source = opened(tmp_path / "shard.tar")
    assert len(source) == 3
    with pytest.raises(DataError, match=r"poems\[1\]: its member b\.txt is stored as a sparse file; pack") as caught:
        source.read(1)
    assert caught.value.kind == "unreadable"
    assert source.read(2).fields["__key__"] == "c"
    source.close()


def test_shards_follow_one_another(tmp_path: Path) -> None:
    for shard in range(3):
        write_tar(tmp_path / f"train-{shard}.tar", [(f"{number}.txt", b"%d" % shard) for number in range(shard + 1)])
    assert [row["text"] for row in read_all(opened(tmp_path))] == ["0", "1", "1", "2", "2", "2"]


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\x1f\x8b" + b"x" * 2000])
def test_what_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "shard.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"shard\.tar is no tar file, or a compressed one"):
        opened(tmp_path / "shard.tar")


def test_a_tar_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shard\.tar has no row"):
        opened(write_tar(tmp_path / "shard.tar", [("README", b"x")]))
