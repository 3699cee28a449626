"""Where the rows of a source lie, told alike to the server, which checks, and to the trainer, which reads."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from pathlib import Path

from xoron_core.contract.config.data import SourceConfig, SourceFormat
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import ConfigError, FieldProblem
from xoron_core.contract.parts import Part, parse_split

DEMO_PREFIX = "demo:"
ONLY_SPLIT = "train"
"""What the one split of a single file, or of a pattern of files, is called."""

FORMATS: Mapping[str, SourceFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".tar": "webdataset",
}
MEDIA: Mapping[str, str] = {
    **dict.fromkeys((".jpg", ".jpeg", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff"), "image"),
    **dict.fromkeys((".ppm", ".jp2", ".j2k", ".avif"), "image"),
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".3gp", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts"), "video"),
    **dict.fromkeys((".m2ts", ".ogv", ".wmv", ".asf", ".flv"), "video"),
    **dict.fromkeys((".wav", ".w64", ".aif", ".aiff", ".au", ".flac", ".mp3", ".ogg", ".oga", ".opus"), "audio"),
    **dict.fromkeys((".m4a", ".aac"), "audio"),
}
"""Suffix of a media file → what is in it."""

_PACKED = (".gz", ".tgz", ".zst", ".bz2", ".xz", ".zip")
_HUB_NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_OLD_HUB_NAME = r"[A-Za-z0-9][\w.-]*"

Found = Mapping[SourceFormat, list[Path]]


@dataclass(frozen=True)
class Location:
    """Where the rows of a split lie.

    `files` in their order; of a folder of media files, the folder; none on the hub. `root`: the folder that paths in
    rows start from. `split` without its part, which is `rows`.
    """

    format: SourceFormat
    files: tuple[Path, ...]
    root: Path
    split: str
    rows: Part


def demo_corpus() -> Path:
    """The folder of the corpus that is shipped with the package."""
    return Path(str(files("xoron_core"))) / "data" / "demo"


def locate(source: SourceConfig, split: str) -> Location:
    """Find the files of a split, or see that it is to be had from the hub, which is not asked.

    Raises: ConfigError about `path`, `split`, `format`, `local` or `config`, with what was looked for and the cure.
    """
    return _Search(source, "split").location(split)


def check_sources(config: RunConfig) -> None:
    """See that the files of every source of an enabled modality exist and are not empty, and that none is evaluated on
    what it is trained on.

    Raises: ConfigError naming each source at fault, the file looked for and what to do.
    """
    problems = [
        problem
        for modality in config.modality_weights()
        for index in config.sources_of(modality)
        for problem in _check(index, config.data.sources[index])
    ]
    if problems:
        raise ConfigError(problems)


def _check(index: int, source: SourceConfig) -> list[FieldProblem]:
    found: list[FieldProblem] = []
    places: list[Location] = []
    for field, split in (("split", source.split), ("eval_split", source.eval_split)):
        if split is None:
            continue
        search = _Search(source, field)
        try:
            places.append(search.location(split))
            search.refuse_empty(places[-1])
        except ConfigError as error:
            found += error.problems
    if len(places) == 2 and places[0] == places[1]:
        message = (
            f"source {source.name!r} would be evaluated on the very rows that it is trained on; give it others, as in "
            "split: 'train[:95%]' with eval_split: 'train[95%:]', or null"
        )
        found.append(FieldProblem("eval_split", message, source.eval_split))
    named = [FieldProblem(f"data.sources.{index}.{each.field}", each.message, each.value) for each in found]
    return list(dict.fromkeys(named))  # what both splits have is told once


class _Search:
    """Looks for a split of a source; the configuration's `field` names it."""

    def __init__(self, source: SourceConfig, field: str) -> None:
        self.source = source
        self.field = field

    def error(self, field: str, message: str, value: str | bool | None = None) -> ConfigError:
        return ConfigError.of(field, f"source {self.source.name!r} {message}", value)

    def location(self, text: str) -> Location:
        try:
            split, rows = parse_split(text)
        except ValueError as error:
            raise self.error(self.field, f"has a split that is none: it {error}", text) from error
        try:
            if self.is_on_hub():
                return Location("hub", (), Path(), split, rows)
            format_, paths = self.files(split)
        except (OSError, ValueError, RuntimeError) as error:  # no path, no pattern, a `~user` that is nobody
            raise self.error("path", f"cannot be looked at: {error}", self.source.path) from error
        if self.source.config is not None:
            raise self.error("config", f"is {paths[0]}, and only the hub has configurations", self.source.config)
        root = paths[0] if format_ == "folder" else Path(os.path.commonpath([path.parent for path in paths]))
        return Location(format_, tuple(paths), root, split, rows)

    def refuse_empty(self, location: Location) -> None:
        if location.format == "folder":
            is_empty = next(location.root.iterdir(), None) is None
        else:
            is_empty = bool(location.files) and not any(path.stat().st_size for path in location.files)
        if is_empty:
            message = f"has no row: {location.files[0]} is empty; it needs one at least"
            raise self.error("path", message, self.source.path)

    def is_on_hub(self) -> bool:
        path, format_, local = self.source.path, self.source.format, self.source.local
        if format_ == "hub" and local:
            raise self.error("local", "cannot be on this machine and on the hub; leave local or format out", local)
        if local is False and format_ not in (None, "hub"):
            raise self.error("format", "is on the hub, which knows how its files are written; leave it out", format_)
        if format_ == "hub" or local is False:
            if not re.fullmatch(f"{_HUB_NAME}|{_OLD_HUB_NAME}", path):
                raise self.error("path", "needs the name of a data set on the hub, owner/name", path)
            return True
        looks_so = re.fullmatch(_HUB_NAME, path) is not None and _suffix(path) not in (*FORMATS, *_PACKED)
        return local is None and looks_so and not Path(path).exists()

    def files(self, split: str) -> tuple[SourceFormat, list[Path]]:
        text = self.source.path
        is_demo = text.startswith(DEMO_PREFIX)
        path = demo_corpus() / text.removeprefix(DEMO_PREFIX) if is_demo else Path(text).expanduser()
        if path.is_dir():
            return self.in_folder(path, split)
        if path.is_file():
            return self.only_split([path], split)
        if any(sign in text for sign in "*?["):
            if found := sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))):
                return self.only_split(found, split)
            raise self.error("path", f"has no file {path}; put one there, or change path", text)
        if path.suffix:
            raise self.error("path", f"has no file {path}; put it there, or change path", text)
        is_name = re.fullmatch(f"{_HUB_NAME}|{_OLD_HUB_NAME}", text)
        cure = "; where it is a data set on the hub, say local: false" if is_name else ""
        raise self.missing(path / f"{split}.jsonl", cure)

    def missing(self, path: Path, cure: str) -> ConfigError:
        message = f"has no file {path}; put it there, or change path or {self.field}{cure}"
        if self.field == "eval_split":
            message += " (null: it has no part in evaluation; 'train[95%:]': the end of train)"
        return self.error("path", message, self.source.path)

    def only_split(self, paths: list[Path], split: str) -> tuple[SourceFormat, list[Path]]:
        if split != ONLY_SPLIT:
            cure = "eval_split: null, or split: 'train[:95%]' with eval_split: 'train[95%:]'"
            raise self.error(
                self.field, f"is one file or pattern, which has one split, {ONLY_SPLIT}; say {cure}", split
            )
        self.refuse_packed(paths)
        if self.source.format == "folder":
            raise self.error("format", f"is {paths[0]} and no folder; leave it out", self.source.format)
        if self.source.format is not None:
            return self.source.format, paths
        for path in paths:
            if _suffix(path) not in FORMATS:
                message = (
                    f"does not tell by the name of {path} how it is written: it ends in none of {' '.join(FORMATS)}"
                )
                raise self.error("format", f"{message}; say format")
        return self.only_format(_by_format(paths))

    def in_folder(self, folder: Path, split: str) -> tuple[SourceFormat, list[Path]]:
        wanted, own, under = self.source.format, folder / split, folder / "data"
        if wanted == "folder":
            if not own.is_dir():
                cure = self.itself_as_split(folder)
                raise self.error("path", f"has no folder {own}; put it there, or change path{cure}", self.source.path)
            return "folder", [own]
        if saved := _saved(folder):
            return self.only_split(saved, split)
        beside = list(folder.iterdir())
        deeper = list(under.iterdir()) if under.is_dir() else []
        exact = [path for path in beside if path.stem == split]
        parts, parts_deeper = (
            [path for path in group if path.name.startswith(f"{split}-")] for group in (beside, deeper)
        )
        for candidates in (exact, parts, self.shards(own), parts_deeper):
            found = {format_: paths for format_, paths in _by_format(candidates).items() if wanted in (None, format_)}
            if found:
                return self.only_format(found)
        self.refuse_packed(path for path in chain(beside, deeper) if path.name.startswith((f"{split}.", f"{split}-")))
        if wanted is None and own.is_dir():
            return "folder", [own]
        suffix = next((suffix for suffix, format_ in FORMATS.items() if format_ == wanted), ".jsonl")
        raise self.missing(folder / f"{split}{suffix}", self.itself_as_split(folder))

    def itself_as_split(self, folder: Path) -> str:
        """The cure for a folder that holds rows, and not splits."""
        if self.field != "split" or not re.fullmatch(r"\w[\w.-]*", folder.name):
            return ""
        return f"; or give {folder.parent} as path and {folder.name!r}, this folder's name, as split"

    def shards(self, folder: Path) -> list[Path]:
        """The files of a split's own folder, unless it holds media files, about which they only say more."""
        if not folder.is_dir():
            return []
        if saved := _saved(folder):
            return saved
        found = []
        for path in folder.iterdir():
            if self.source.format is None and (_suffix(path) in MEDIA or path.is_dir()):
                return []
            found.append(path)
        return found

    def only_format(self, found: Found) -> tuple[SourceFormat, list[Path]]:
        if len(found) > 1:
            kinds = ", ".join(sorted(found))
            raise self.error("format", f"has files in several formats, {kinds}, where it is looked for; say which")
        return next(iter(found.items()))

    def refuse_packed(self, paths: Iterable[Path]) -> None:
        for path in paths:
            if _suffix(path) in _PACKED:
                message = f"has {path}, of which no single row can be read; unpack it"
                raise self.error("path", message, self.source.path)


def _saved(folder: Path) -> list[Path]:
    """The files of a split as `save_to_disk` of `datasets` writes it."""
    return sorted(folder.glob("data-*.arrow")) if (folder / "state.json").is_file() else []


def _suffix(path: Path | str) -> str:
    return Path(path).suffix.lower()


def _by_format(paths: Iterable[Path]) -> Found:
    """The files whose names tell their format, each format's in order."""
    found: dict[SourceFormat, list[Path]] = {}
    for path in sorted(paths):
        if _suffix(path) in FORMATS and path.is_file():
            found.setdefault(FORMATS[_suffix(path)], []).append(path)
    return found
