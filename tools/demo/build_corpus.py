"""Build the demo corpus from pinned public packages; two builds give the same bytes.

Usage: python -m tools.demo.build_corpus [--out xoron_core/data/demo] [--cache DIR]
`LICENSES/` in the output is written by hand; everything else there is replaced.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from tools.demo.code_documents import PYTHON_VERSION, execution_documents, library_documents, library_functions
from tools.demo.conversation import addresses, meanings, small_talk
from tools.demo.documents import Document, split
from tools.demo.honesty import honest_answers
from tools.demo.packages import PACKAGES
from tools.demo.photographs import photograph_pictures
from tools.demo.pictures import Picture, emoji_pictures, encode, read_concepts
from tools.demo.puzzles import worked_problems
from tools.demo.tool_use import tool_documents
from tools.demo.train_tokenizer import CORPUS, train
from tools.demo.wordnet import Sense, common_senses

FORMAT_VERSION = 1
BUILD_TOOLS = ("pillow", "pyyaml", "resvg_py", "tokenizers")
# how many words go to which generator, in the dictionary's mixed order: no word serves two of them
MEANINGS, HONESTY, LETTERS, TOOLS = 560, 130, 50, 130
NUM_ADDRESSES, NUM_FUNCTIONS = 115, 280
PER_PROBLEM, PER_TOOL, PER_PROGRAM = 29, 21, 16

Splits = tuple[list[dict[str, str]], list[dict[str, str]]]


def _write_rows(path: Path, rows: Iterable[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _pictures(cache: Path, folder: Path) -> Splits:
    (folder / "files").mkdir(parents=True)
    train_rows: list[dict[str, str]] = []
    heldout_rows: list[dict[str, str]] = []
    concepts = read_concepts(Path(__file__).with_name("concepts.txt"))
    pictures: list[Picture] = [*emoji_pictures(cache, concepts), *photograph_pictures(cache)]
    for picture in pictures:
        suffix, data = encode(picture.image)
        (folder / "files" / f"{picture.name}{suffix}").write_bytes(data)
        row = {"image": f"files/{picture.name}{suffix}", "caption": picture.caption}
        (heldout_rows if picture.heldout else train_rows).append(row)
    return train_rows, heldout_rows


def _documents(cache: Path) -> dict[str, list[Document]]:
    senses = iter(common_senses(cache))

    def take(count: int) -> list[Sense]:
        return [next(senses) for _ in range(count)]

    speeches = sorted(addresses(cache), key=lambda document: hashlib.sha256(document.content.encode()).digest())
    return {
        "conversation": [
            *small_talk(cache), *meanings(take(MEANINGS)), *speeches[:NUM_ADDRESSES], *honest_answers(take(HONESTY)),
        ],
        "chain_of_thought": list(worked_problems(take(LETTERS), PER_PROBLEM)),
        "tool_use": list(tool_documents(cache, take(TOOLS), PER_TOOL)),
        "code": [*library_documents(library_functions()[:NUM_FUNCTIONS]), *execution_documents(PER_PROGRAM)],
    }  # fmt: skip


def _manifest(out: Path, counts: dict[str, dict[str, int]]) -> str:
    sources = [
        {"ecosystem": package.ecosystem, "name": package.name, "version": package.version, "sha256": package.sha256,
         "licence": package.licence, "used_for": package.used_for}
        for package in PACKAGES.values()
    ]  # fmt: skip
    python = {"ecosystem": "python", "name": "standard library", "version": PYTHON_VERSION, "licence": "PSF-2.0",
              "used_for": "functions in text/code"}  # fmt: skip
    head = {
        "version": FORMAT_VERSION,
        "built_with": {"python": PYTHON_VERSION, **{name: version(name) for name in BUILD_TOOLS}},
        "splits": counts,
        "sources": [*sources, python],
    }
    rows = []
    for path in sorted(out.rglob("*")):
        if path.is_file() and path.name != "manifest.json":
            data = path.read_bytes()
            entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            rows.append(f"    {json.dumps(path.relative_to(out).as_posix())}: {json.dumps(entry)}")
    return json.dumps(head, indent=2)[:-2] + ',\n  "files": {\n' + ",\n".join(rows) + "\n  }\n}\n"


def build(out: Path, cache: Path) -> None:
    """Replace everything in `out` but `LICENSES/`.

    Raises:
        RuntimeError: another Python than the pinned one, whose standard library is part of the corpus.
    """
    if platform.python_version() != PYTHON_VERSION:
        raise RuntimeError(
            f"run this with Python {PYTHON_VERSION}, not {platform.python_version()}: its sources are data"
        )
    cache.mkdir(parents=True, exist_ok=True)
    for name in ("pictures", "text", "tokenizer"):
        shutil.rmtree(out / name, ignore_errors=True)
    counts: dict[str, dict[str, int]] = {}
    splits: dict[str, Splits] = {"pictures": _pictures(cache, out / "pictures")}
    for category, documents in _documents(cache).items():
        texts = split(documents, category)
        train_rows, heldout_rows = ([{"text": text} for text in part] for part in texts)
        splits[f"text/{category}"] = (train_rows, heldout_rows)
    for folder, (train_rows, heldout_rows) in splits.items():
        _write_rows(out / folder / "train.jsonl", train_rows)
        _write_rows(out / folder / "heldout.jsonl", heldout_rows)
        counts[folder] = {"train": len(train_rows), "heldout": len(heldout_rows)}
    train(out)
    (out / "manifest.json").write_text(_manifest(out, counts), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=CORPUS)
    home_cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument("--cache", type=Path, default=home_cache / "xoron-demo-packages")
    options = parser.parse_args()
    build(options.out, options.cache)
