"""A corpus of a few rows and a model of a few thousand weights: whole runs in seconds."""

import json
import shutil
from pathlib import Path
from typing import Any

from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.presets import resolve
from xoron_core.contract.sources import demo_corpus

TINY_MODEL = {
    "language": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "kv_lora_rank": 16, "intermediate_size": 48,
                 "moe": {"num_experts": 4, "expert_size": 24}},
    "image_generator": {"hidden_size": 32, "num_layers": 2, "num_heads": 2,
                        "moe": {"num_experts": 3, "expert_size": 24}},
}  # fmt: skip


def tiny_corpus(folder: Path, num_texts: int = 24, num_pictures: int = 10) -> Path:
    """The first rows of the demo corpus, as two sources of their own below `folder`."""
    for name, source, count in (
        ("text", demo_corpus() / "text" / "chain_of_thought", num_texts),
        ("pictures", demo_corpus() / "pictures", num_pictures),
    ):
        target = folder / name
        target.mkdir(parents=True)
        for split in ("train", "heldout"):
            lines = (source / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()[:count]
            (target / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
            for line in lines:
                if image := json.loads(line).get("image"):
                    (target / image).parent.mkdir(exist_ok=True)
                    shutil.copy(source / image, target / image)
    return folder


def tiny_overrides(corpus: Path, **training: Any) -> dict[str, Any]:
    """What makes a run of the `demo` preset tiny; `training` is laid over that section."""
    return {
        "model": TINY_MODEL,
        "data": {
            "sources": [
                {"name": "thoughts", "category": "chain_of_thought", "path": str(corpus / "text")},
                {"name": "pictures", "category": "image_generation", "path": str(corpus / "pictures"),
                 "sample_repeat": 2},
            ]
        },
        "modalities": {
            "text": {"batch_size": 2, "sample_tokens": 8, "sample_prompts": ["<|user|>\nHello\n<|/user|>"]},
            "image_generation": {"batch_size": 4, "sampling_steps": 2, "sample_prompts": ["a red apple"]},
        },
        "training": {"max_seq_length": 256, "max_steps": 12, "eval_steps": None, "save_steps": None,
                     "sample_steps": None, **training},
        "evaluation": {"max_per_dataset_eval": 4},
        "resources": {"threads": 1, "device": "cpu"},
        "trouble": {"min_free_disk_gib": 0.0},
    }  # fmt: skip


def tiny_config(corpus: Path, overrides: dict[str, Any] | None = None, **training: Any) -> RunConfig:
    """The configuration of a tiny run."""
    return resolve("demo", merge(tiny_overrides(corpus, **training), overrides or {}))
