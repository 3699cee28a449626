"""The demo, all its modalities, trained for some steps on one, two and three GPUs: the losses must agree.

    python benchmarks/gpu_device_map.py

Prints each modality's losses and evaluation, and how far they are apart; status 1 where that is more than rounding.
Where there are fewer GPUs it compares what there is; without any it trains on the CPU, once in one place and once with
components that fetch their inputs.
"""

import sys
import time
from collections import defaultdict
from contextlib import closing

import torch

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.presets import resolve
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.distributed.device_map import get_device_map
from xoron_core.modalities.base import Collator
from xoron_core.modalities.registry import enabled_modalities
from xoron_core.training.build import build_dataset, build_model, sources_with_modality
from xoron_core.training.evaluation import EvaluationSet, evaluate
from xoron_core.training.hooks import Hook
from xoron_core.training.optimizer import build_optimizer
from xoron_core.training.schedule import build_scheduler
from xoron_core.training.trainer import XoronTrainer

STEPS = 21
TOLERANCE = 1e-3
"""Largest relative difference of a modality's first loss. Later ones drift apart, as those of any two runs on a GPU."""
DRIFT = 0.1
"""Largest relative difference of its last one."""

Losses = dict[str, list[float]]


class Reader(Hook):
    """Keeps the loss of every step under its modality."""

    def __init__(self) -> None:
        self.losses: Losses = defaultdict(list)

    def after_step(self, trainer: XoronTrainer) -> None:
        """Read the step's metrics."""
        for name, value in trainer.metrics.flush().items():
            modality, _, metric = name.partition("/")
            if metric == "loss" and modality in trainer.modalities:
                self.losses[modality].append(value)


def config_of() -> RunConfig:
    """One micro-batch a step, exact products, short rows: their masks are small, and nothing is compiled."""
    return resolve(
        "demo",
        {
            "training": {
                "max_steps": STEPS, "gradient_accumulation_steps": 1, "logging_steps": 1, "max_seq_length": 256,
                "eval_steps": None, "save_steps": None, "sample_steps": None, "bf16": False, "torch_compile": False,
            },
            "data": {"num_workers": 0},
            "evaluation": {"max_per_dataset_eval": 2, "shuffled": False},
        },
    )  # fmt: skip


def train(config: RunConfig, device_map: dict[str, str]) -> tuple[Losses, Losses]:
    """Losses of the steps, and headlines of an evaluation after them; a sample of each modality is made, too."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.load(config.model.tokenizer)
    modalities = enabled_modalities(config, tokenizer)
    model = build_model(config, modalities, tokenizer, torch.device("cpu"))
    model.place(device_map)
    reader = Reader()
    with closing(build_dataset(config, modalities)) as dataset:
        optimizer = build_optimizer(model, config.training)
        trainer = XoronTrainer(
            model,
            dataset,
            optimizer,
            build_scheduler(optimizer, STEPS, config.training),
            config.training,
            config.model,
            Collator(modalities),
            tokenizer=tokenizer,
            eval_dataset=EvaluationSet(sources_with_modality(config, modalities), modalities, config.evaluation),
            hooks=[reader],
        )
        trainer.train()
        model.eval()
        assert trainer.eval_dataset is not None
        found: dict[str, float] = {}
        for values in evaluate(model, trainer.eval_dataset, modalities, trainer.device):
            found = values or found
        with torch.inference_mode():
            for name, modality in modalities.items():
                prompt = modality.prompts(trainer.eval_dataset.samples[name])[0]
                assert modality.sample(model, prompt, torch.Generator().manual_seed(1)), name
    return reader.losses, {name: [found[f"eval/{name}/loss"]] for name in modalities}


def maps() -> dict[str, dict[str, str]]:
    """What is compared."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        return {f"{n} GPU{'s' * (n > 1)}": get_device_map(n) for n in range(1, min(count, 3) + 1)}
    apart = {name: where.replace("cuda", "cpu") for name, where in get_device_map(3).items()}
    return {"CPU": get_device_map(0), "CPU, fetching": apart}


def off(mine: float, theirs: float) -> float:
    """Relative difference."""
    return abs(mine - theirs) / max(abs(theirs), 1e-12)


def main() -> int:
    """Print a table; the status."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    config = config_of()
    results: dict[str, tuple[Losses, Losses]] = {}
    for label, device_map in maps().items():
        begin = time.monotonic()
        results[label] = train(config, device_map)
        print(f"{label}: {STEPS} steps, an evaluation and samples in {time.monotonic() - begin:.0f} s", flush=True)
    first, *others = results
    print(f"\n| modality | steps | first loss, {first} | last loss | eval | first, last, eval elsewhere: off by |")
    print("|---|---|---|---|---|---|")
    agrees = True
    for name, losses in results[first][0].items():
        held_out = results[first][1][name][0]
        apart = []
        for other in others:
            seen, evaluated = results[other][0][name], results[other][1][name][0]
            gaps = off(seen[0], losses[0]), off(seen[-1], losses[-1]), off(evaluated, held_out)
            agrees &= len(seen) == len(losses) and gaps[0] <= TOLERANCE and max(gaps[1:]) <= DRIFT
            apart.append(f"{other}: " + ", ".join(f"{gap:.1e}" for gap in gaps))
        columns = (name, len(losses), f"{losses[0]:.5f}", f"{losses[-1]:.5f}", f"{held_out:.5f}", "; ".join(apart))
        print("| " + " | ".join(map(str, columns)) + " |")
    if not others:
        print("\nnothing to compare with: there is one GPU")
    else:
        print(f"\nthe losses {'agree' if agrees else 'DIFFER'}")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
