"""A modality that nobody planned for: its folder and two registrations, and everything else takes it as its own."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.serving import end_keepers, server_process
from support.tiny import TINY_MODEL

from xoron_core.contract.home import Home

ROOT = Path(__file__).parents[2]
PACKAGE = "xoron_core.modalities.backwards"
LIGHT = ("contract/modalities/__init__.py", "class ModalitiesConfig(Section):\n", "    def get(self")
HEAVY = ("modalities/registry.py", "MODALITIES: ", ")\n\n\ndef enabled_modalities")

pytestmark = pytest.mark.timeout(120)


def register(tree: Path, place: tuple[str, str, str], module: str, name: str, line: str) -> None:
    """One line before `before` in a file, and the import that it needs."""
    relative, after, before = place
    path = tree / "xoron_core" / relative
    text = path.read_text(encoding="utf-8")
    head, tail = text.split(before, 1)
    text = f"{head}{line}\n{before}{tail}".replace(after, f"from {PACKAGE}.{module} import {name}\n\n\n{after}", 1)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The packages with an eighth modality."""
    folder = tmp_path / "tree"
    for package in ("server", "xoron_core"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("static", "__pycache__", "demo")
        )
    (folder / "xoron_core" / "data" / "demo").symlink_to(ROOT / "xoron_core" / "data" / "demo")
    shutil.copytree(ROOT / "tests" / "modalities" / "eighth", folder / "xoron_core" / "modalities" / "backwards")
    register(folder, LIGHT, "config", "BackwardsConfig", "    backwards: BackwardsConfig = BackwardsConfig()\n")
    register(folder, HEAVY, "modality", "Backwards", "    Backwards,")
    return folder


@pytest.fixture
def words(tmp_path: Path) -> Path:
    folder = tmp_path / "words"
    folder.mkdir()
    for split, split_words in (("train", ["hello", "river", "sun", "tree"]), ("heldout", ["stone", "sea"])):
        rows = "".join(json.dumps({"word": word}) + "\n" for word in split_words)
        (folder / f"{split}.jsonl").write_text(rows, encoding="utf-8")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    end_keepers(Home(tmp_path / "home"))


def test_an_eighth_modality_is_trained_and_shown_without_any_other_edit(tree: Path, words: Path, home: Path) -> None:
    config = {
        "model": {"language": TINY_MODEL["language"]},
        "data": {"sources": [{"name": "words", "category": "backwards", "path": str(words)}]},
        "training": {"max_steps": 3, "eval_steps": 3, "sample_steps": 3, "save_steps": None},
        "resources": {"threads": 1, "device": "cpu"},
        "trouble": {"min_free_disk_gib": 0.0},
    }
    with server_process(home, PYTHONPATH=str(tree), PYTHONSAFEPATH="1") as running:
        api, server = running.server.api, running.server
        run_id = server.create(config)["id"]
        server.wait_state(run_id, "completed", timeout_s=90)
        found = api.get(f"/runs/{run_id}/metrics").json()["modalities"]["backwards"]
        assert (found["label"], found["planned_share"], found["micro_batches"]) == ("Spelling backwards", 1.0, 3)
        assert {"backwards/loss"} == set(found["metrics"])
        assert {"eval/backwards/loss", "eval/backwards/letters"} == set(found["eval"])
        [sample] = api.get(f"/runs/{run_id}/samples").json()["items"]
        assert (sample["modality"], sample["caption"], sample["expected"]) == ("backwards", "stone", "enots")
        assert len(api.get(f"/runs/{run_id}/{sample['path']}").text) >= 1
        assert "backwards" in {info["name"] for info in api.get("/schema").json()["modalities"]}
