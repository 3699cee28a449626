"""Workers on words, in a module that workers can load."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from support.word_rows import Documents, Words
from xoron_core.contract.config.data import DataConfig, SourceConfig
from xoron_core.data.dataset import TrueStreamingDataset
from xoron_core.data.records import MicroBatch
from xoron_core.data.workers import WorkerPool

Payload = dict[str, Any]
MODULES = ("support.word_rows", "torch")


def collate(micro: MicroBatch) -> Payload:
    """Tensors of several kinds, one of them empty, and something that is no tensor."""
    numbers = [number for sample in micro.samples if isinstance(sample, Words) for _, number in sample.words]
    return {
        "numbers": torch.tensor(numbers),
        "half": torch.tensor(numbers, dtype=torch.float16).unsqueeze(0),
        "flags": torch.tensor([number % 2 == 0 for number in numbers]),
        "none": torch.zeros(0, 3),
        "modality": micro.modality,
    }


def deadly(micro: MicroBatch) -> Payload:
    """Kills whoever puts a micro-batch together."""
    os.kill(os.getpid(), signal.SIGKILL)
    return collate(micro)


class Poison:
    """Kills whoever is given it."""

    def __call__(self, micro: MicroBatch) -> Payload:
        raise NotImplementedError

    def __reduce__(self) -> Any:
        return die, ()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dataset_of(
    folder: Path, troubles: dict[int, str] | None = None, state: dict[str, Any] | None = None, **config: Any
) -> TrueStreamingDataset:
    """Sixty documents and thirty pictures; `troubles` befall whoever prepares those pictures."""
    rows = {
        "text": [{"length": 1 + index % 20} for index in range(60)],
        "image": [{"length": 4, "trouble": (troubles or {}).get(index)} for index in range(30)],
    }
    sources = []
    for name, content in rows.items():
        (folder / name).mkdir(exist_ok=True)
        lines = "\n".join(json.dumps(row) for row in content)
        (folder / name / "train.jsonl").write_text(lines + "\n", encoding="utf-8")
        sources.append((SourceConfig(name=name, category="lengths", path=str(folder / name)), name))
    preparers = {"text": Documents("text", 2), "image": Documents("image", 3, None)}
    values = {"pack_window": 8, "bucket_window": 2, "max_bad_fraction": 1.0, "sample_timeout_s": 60.0, **config}
    dataset = TrueStreamingDataset(sources, preparers, {"text": 1.0, "image": 1.0}, 0, DataConfig(**values))
    if state is not None:
        dataset.load_state_dict(state)
    return dataset


@contextmanager
def pool_of(dataset: TrueStreamingDataset, num_workers: int, **options: Any) -> Iterator[WorkerPool[Payload]]:
    values = {"finish": collate, "ahead": 2, "timeout_s": 60.0, "modules": MODULES, **options}
    pool: WorkerPool[Payload] = WorkerPool(num_workers, dataset.preparation, **values)
    with closing(dataset), closing(pool):
        yield pool
