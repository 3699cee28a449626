"""Every way in which files are broken, through the whole data set: nothing crashes, and the counts are exact."""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.nasty_files import NastyRow, nasty_clips, nasty_pictures, nasty_sounds

from xoron_core.contract.presets import resolve
from xoron_core.data.records import BadSample
from xoron_core.data.runner import Here
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.data.workers import WorkerPool
from xoron_core.modalities.base import Collator
from xoron_core.modalities.registry import enabled_modalities
from xoron_core.training.build import build_dataset

CORPORA: dict[str, tuple[str, Callable[[Path], list[NastyRow]]]] = {
    "drawn": ("image_generation", nasty_pictures),
    "seen": ("vision", nasty_pictures),
    "heard": ("voice_asr", nasty_sounds),
    "shot": ("video_generation", nasty_clips),
}
BAD_LINES = {
    '{"text": "cut': "unreadable",
    "[1, 2]": "wrong_type",
    '{"text": ""}': "empty",
    '{"text": 5}': "wrong_type",
}


def expected(rows: dict[str, list[NastyRow]]) -> Counter[tuple[str, str]]:
    found = Counter((name, row.kind) for name, own in rows.items() for row in own if row.kind is not None)
    return Counter({key: count for key, count in found.items() if key[1]}) + Counter(
        ("written", kind) for kind in BAD_LINES.values()
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[NastyRow]]]:
    home = tmp_path_factory.mktemp("nasty")
    rows = {}
    for name, (_, make) in CORPORA.items():
        (home / name).mkdir()
        rows[name] = make(home / name)
        lines = [json.dumps(row.fields) for row in rows[name]]
        (home / name / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (home / "written").mkdir()
    lines = [*BAD_LINES, *(json.dumps({"text": f"document {number}"}) for number in range(20))]
    (home / "written" / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return home, rows


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_epoch_goes_through_and_every_kind_is_counted(
    corpus: tuple[Path, dict[str, list[NastyRow]]], num_workers: int
) -> None:
    home, rows = corpus
    categories = {name: category for name, (category, _) in CORPORA.items()} | {"written": "document"}
    sources = [
        {"name": name, "category": category, "path": str(home / name), "eval_split": None}
        for name, category in categories.items()
    ]
    config = resolve("demo", {"data": {"sources": sources, "max_bad_fraction": 1.0}})
    modalities = enabled_modalities(config, Tokenizer.load("demo"))
    collate = Collator(modalities)
    with closing(build_dataset(config, modalities)) as dataset:
        runner: Any = Here(dataset.preparation, collate, lambda: None)
        if num_workers:
            modules = ("xoron_core.modalities.registry",)
            runner = WorkerPool(num_workers, dataset.preparation, collate, ahead=1, timeout_s=60.0, modules=modules)
        bad: list[BadSample] = []
        names: Counter[str] = Counter()
        with closing(runner):
            for drawn in dataset.follow(runner):
                bad += drawn.bad
                names.update(drawn.sample_ids)
                if drawn.ends_epoch:
                    break
    assert Counter((row.source, row.kind) for row in bad) == expected(rows)
    assert max(row.count for row in bad if row.source == "shot") == sum(1 for row in rows["shot"] if row.kind)
    good = {f"{name}[{index}]" for name, own in rows.items() for index, row in enumerate(own) if row.kind is None}
    assert {name for name in names if not name.startswith("written")} == good
    assert all(count == 1 for count in names.values())
