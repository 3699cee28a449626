"""WebDataset: tar files in which members that follow one another and differ in their suffix only are a row."""

import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xoron_core.data.sources.index import Index
from xoron_core.data.sources.members import fields_of
from xoron_core.data.sources.rows import BadRowError, ByteFile, NotThisFormatError, RowFile, Tell

SPARSE = -1
"""The size of a member of which the tar file holds but some parts, and says where they belong."""


class TarRows(RowFile):
    """The rows of a tar file. Raises: OSError when it cannot be opened."""

    def __init__(self, path: Path, index: Index) -> None:
        self._file = ByteFile(path)
        self._groups = index.arrays["groups"]
        self._members = index.arrays["members"]
        self._names = index.arrays["names"]

    def fields(self, index: int) -> Mapping[str, Any]:
        key, contents = "", {}
        members = range(int(self._groups[index]), int(self._groups[index + 1]))
        if not members:
            raise BadRowError("the tar file is damaged here, and what follows is lost")
        for member in members:
            key, suffix = self._name(member)
            start, size = self._members[member, :2].tolist()
            if suffix in contents:
                raise BadRowError(f"has two members {key}.{suffix}; what stands before the first dot names one row")
            if size == SPARSE:
                raise BadRowError(f"its member {key}.{suffix} is stored as a sparse file; pack it without --sparse")
            contents[suffix] = self._file.read(start, start + size)
        return fields_of(contents) | {"__key__": key}

    def _name(self, member: int) -> tuple[str, str]:
        start = int(self._members[member - 1, 2]) if member else 0
        name = os.fsdecode(self._names[start : int(self._members[member, 2])].tobytes())
        key, suffix = _split(name)
        return key, suffix.lower()

    def close(self) -> None:
        self._file.close()


def scan_tar(path: Path, tell: Tell) -> Index:
    """Where the members are, which belong together, and where in `names` each name ends. What follows a damaged header
    is one row, which is bad. Raises: NotThisFormatError; OSError."""
    groups: list[int] = []
    members: list[tuple[int, int, int]] = []
    names = bytearray()
    last = None
    for name, start, size in _files(path, tell):
        key, _ = _split(name)
        if key != last or not name:
            groups.append(len(members))
            last = key
        if name:
            names += os.fsencode(name)
            members.append((start, size, len(names)))
    return Index(
        len(groups),
        arrays={
            "groups": np.array([*groups, len(members)], dtype=np.int64),
            "members": np.array(members, dtype=np.int64).reshape(-1, 3),
            "names": np.frombuffer(bytes(names), dtype=np.uint8),
        },
    )


def _files(path: Path, tell: Tell) -> Iterator[tuple[str, int, int]]:
    """Name, place and size of each file that may belong to a row; an empty name where the tar is damaged."""
    with path.open("rb", buffering=0) as file:
        try:
            tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 -- it holds nothing but `file`
        except (tarfile.ReadError, ValueError) as error:
            raise NotThisFormatError(f"is no tar file, or a compressed one: {error}") from error
        while member := _next(tar):
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep all
            key, suffix = _split(member.name)
            if member.isreg() and suffix and not key.endswith("/") and key:
                yield member.name, member.offset_data, SPARSE if member.issparse() else member.size
            tell(tar.offset)
        if any(os.pread(file.fileno(), tarfile.BLOCKSIZE, tar.offset)):  # not the zeros of its end
            yield "", tar.offset, 0


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    """The next member; None at the end, and where there is a header that is none or is cut off."""
    try:
        return tar.next()
    except (tarfile.ReadError, ValueError):
        return None


def _split(name: str) -> tuple[str, str]:
    """The key of a row and the suffix: before and after the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix
