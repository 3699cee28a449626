"""Build the demo corpus from pinned public packages; two builds give the same bytes.

Usage: python -m tools.demo.build_corpus [--out xoron_core/data/demo] [--cache DIR]
`LICENSES/` in the output is written by hand, `autoencoder/` by train_autoencoder.py; everything else is replaced.
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

from tools.demo.clip_questions import clip_questions
from tools.demo.clips import animated_clips, encode_clip, moving_clips, read_animations
from tools.demo.code_documents import PYTHON_VERSION, execution_documents, library_documents, library_functions
from tools.demo.conversation import addresses, meanings, small_talk
from tools.demo.documents import Document, split
from tools.demo.honesty import honest_answers
from tools.demo.packages import PACKAGES
from tools.demo.photographs import photograph_pictures
from tools.demo.pictures import Concept, Picture, emoji_pictures, encode, read_concepts
from tools.demo.puzzles import worked_problems
from tools.demo.questions import picture_questions
from tools.demo.speech import read_recordings, utterances
from tools.demo.tool_use import tool_documents
from tools.demo.train_tokenizer import CORPUS, train
from tools.demo.wordnet import Sense, common_senses

FORMAT_VERSION = 1
LISTS = Path(__file__).parent
BUILD_TOOLS = ("av", "numpy", "pillow", "pyyaml", "resvg_py", "tokenizers")
MADE = ("clips", "pictures", "speech", "text", "tokenizer")
# how many words go to which generator, in the dictionary's mixed order: no word serves two of them
MEANINGS, HONESTY, LETTERS, TOOLS = 560, 130, 50, 130
NUM_ADDRESSES, NUM_FUNCTIONS = 115, 280
PER_PROBLEM, PER_TOOL, PER_PROGRAM = 29, 21, 16

Rows = list[dict[str, str]]
Splits = dict[str, Rows]  # the rows of train, heldout and further splits of one folder


def _write_rows(path: Path, rows: Iterable[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _pictures(pictures: list[Picture], folder: Path) -> Splits:
    (folder / "files").mkdir(parents=True)
    splits: Splits = {"train": [], "heldout": [], "questions": [], "heldout_questions": []}
    files = {}
    for picture in pictures:
        suffix, data = encode(picture.image)
        files[picture.name] = f"files/{picture.name}{suffix}"
        (folder / files[picture.name]).write_bytes(data)
        row = {"image": files[picture.name], "caption": picture.caption}
        splits["heldout" if picture.heldout else "train"].append(row)
    for picture, question, answer in picture_questions(pictures):
        row = {"image": files[picture.name], "question": question, "answer": answer}
        splits["heldout_questions" if picture.heldout else "questions"].append(row)
    return splits


def _clips(cache: Path, concepts: list[Concept], pictures: list[Picture], folder: Path) -> Splits:
    (folder / "files").mkdir(parents=True)
    splits: Splits = {"train": [], "heldout": [], "questions": [], "heldout_questions": []}
    heldout = {concept.label for concept in concepts if concept.heldout}
    clips = [*animated_clips(cache, read_animations(LISTS / "animations.txt", heldout)), *moving_clips(pictures)]
    for clip in clips:
        (folder / "files" / f"{clip.name}.webp").write_bytes(encode_clip(clip))
        row = {"video": f"files/{clip.name}.webp", "caption": clip.caption}
        splits["heldout" if clip.heldout else "train"].append(row)
    for clip, question, answer in clip_questions(clips):
        row = {"video": f"files/{clip.name}.webp", "question": question, "answer": answer}
        splits["heldout_questions" if clip.heldout else "questions"].append(row)
    return splits


def _speech(cache: Path, folder: Path) -> Splits:
    (folder / "files").mkdir(parents=True)
    splits: Splits = {"train": [], "heldout": []}
    for utterance in utterances(cache, read_recordings(LISTS / "recordings.txt")):
        path = f"files/{utterance.name}.opus"
        (folder / path).write_bytes(utterance.opus)
        row = {"audio": path, "text": utterance.text, "speaker": utterance.speaker}
        splits["heldout" if utterance.heldout else "train"].append(row)
    return splits


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
        # the autoencoder is trained on the corpus afterwards
        if path.is_file() and path.name != "manifest.json" and path.parent.name != "autoencoder":
            data = path.read_bytes()
            entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            rows.append(f"    {json.dumps(path.relative_to(out).as_posix())}: {json.dumps(entry)}")
    return json.dumps(head, indent=2)[:-2] + ',\n  "files": {\n' + ",\n".join(rows) + "\n  }\n}\n"


def build(out: Path, cache: Path) -> None:
    """Replace everything in `out` but `LICENSES/` and `autoencoder/`.

    Raises:
        RuntimeError: another Python than the pinned one, whose standard library is part of the corpus.
    """
    if platform.python_version() != PYTHON_VERSION:
        raise RuntimeError(
            f"run this with Python {PYTHON_VERSION}, not {platform.python_version()}: its sources are data"
        )
    cache.mkdir(parents=True, exist_ok=True)
    for name in MADE:
        shutil.rmtree(out / name, ignore_errors=True)
    concepts = read_concepts(LISTS / "concepts.txt")
    pictures = [*emoji_pictures(cache, concepts), *photograph_pictures(cache)]
    folders = {
        "pictures": _pictures(pictures, out / "pictures"),
        "clips": _clips(cache, concepts, pictures, out / "clips"),
        "speech": _speech(cache, out / "speech"),
    }
    for category, documents in _documents(cache).items():
        train_texts, heldout_texts = split(documents, category)
        folders[f"text/{category}"] = {
            "train": [{"text": text} for text in train_texts],
            "heldout": [{"text": text} for text in heldout_texts],
        }
    for folder, splits in folders.items():
        for name, rows in splits.items():
            _write_rows(out / folder / f"{name}.jsonl", rows)
    counts = {folder: {name: len(rows) for name, rows in splits.items()} for folder, splits in folders.items()}
    train(out)
    (out / "manifest.json").write_text(_manifest(out, counts), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=CORPUS)
    home_cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument("--cache", type=Path, default=home_cache / "xoron-demo-packages")
    options = parser.parse_args()
    build(options.out, options.cache)
