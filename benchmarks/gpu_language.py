"""The language model of `base` on a GPU: tokens a second, memory, and whether it learns, beside a compiled Hugging Face
mixture of experts of the same shape.

    python benchmarks/gpu_language.py [--steps 50] [--only bf16 peer] [--profile] [--json FILE]

Every row is the real trainer on packed rows of real text (the standard library's sources), with the demo's tokenizer
filled up to a table as large as Qwen2.5's. Rates are of the steps after the first ten.
"""

import argparse
import gc
import json
import statistics
import sysconfig
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.errors import XoronError
from xoron_core.contract.sources import demo_corpus
from xoron_core.training.build import build_trainer
from xoron_core.training.control import Control
from xoron_core.training.hooks.base import Hook
from xoron_core.training.metrics import now

VOCAB_SIZE = 151_936
ROWS, LENGTH = 16, 1024
WARM_UP = 10
VARIANTS: dict[str, dict[str, Any]] = {
    "bf16": {},
    "fp16-scaled": {"training": {"bf16": False, "fp16": True}},
    "fp16-model": {"training": {"bf16": False, "model_dtype": "float16"}},
    "bf16-eager": {"training": {"torch_compile": False}},
    "bf16-recomputing": {"training": {"gradient_checkpointing": True}},
    "bf16-8bit": {"training": {"use_8bit_optimizer": True}},
    "bf16-lora": {"lora": {"use_lora": True, "train_lora_only": True}},
    "bf16-accumulating-4x4-rows": {
        "training": {"gradient_accumulation_steps": 4},
        "modalities": {"text": {"batch_size": 4}},
    },
    "bf16-gqa": {"model": {"language": {"attention": "gqa"}}},
    "bf16-one-row": {
        "training": {"max_seq_length": ROWS * LENGTH},
        "modalities": {"text": {"batch_size": 1}},
    },
}

COLUMNS = (
    ("tokens/s", "tokens_per_s", ",.0f"),
    ("ms a step", "ms_per_step", ".1f"),
    ("slowest", "slowest_ms", ".0f"),
    ("waiting for data", "waited_for_data_ms", ".1f"),
    ("peak GiB", "peak_gib", ".1f"),
    ("loss of steps 1-10", "first_loss", ".3f"),
    ("of the last ten", "last_loss", ".3f"),
    ("steps not finite", "steps_not_finite", "d"),
    ("first ten steps, s", "until_step_10_s", ".0f"),
)


def write_tokenizer(folder: Path) -> Path:
    """The demo's tokenizer with as many ids as Qwen2.5's."""
    content = json.loads((demo_corpus() / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    taken = set(vocabulary.values()) | {token["id"] for token in content["added_tokens"]}
    free = (number for number in range(VOCAB_SIZE) if number not in taken)
    vocabulary.update({f"<unused {number}>": number for number in free})
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_documents(folder: Path) -> Path:
    """Sources of the standard library, a document each."""
    folder.mkdir()
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*/*.py")):
            if text := path.read_text(encoding="utf-8", errors="ignore").strip():
                file.write(json.dumps({"text": text}) + "\n")
    return folder


def config_of(folder: Path, steps: int, overrides: dict[str, Any]) -> RunConfig:
    """`base`, text only."""
    own = {
        "model": {"tokenizer": str(folder / "tokenizer.json")},
        "data": {
            "sources": [{"name": "code", "category": "code", "path": str(folder / "documents"), "eval_split": None}]
        },
        "modalities": {"text": {"batch_size": ROWS}},
        "training": {
            "max_steps": steps,
            "num_epochs": 1000,
            "gradient_accumulation_steps": 1,
            "learning_rate": 3e-4,
            "warmup_ratio": 0.2,
            "max_seq_length": LENGTH,
            "gradient_checkpointing": False,
            "use_8bit_optimizer": False,
            "logging_steps": 10,
        },
    }
    return RunConfig.parse(merge(own, overrides))


class Watch(Hook):
    """Notes when steps end (each has waited for its gradients), what they logged, and what they waited for."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []
        self.num_odd = 0
        self.data_s: list[float] = []

    def after_step(self, trainer: Any) -> None:
        """A step is done."""
        if trainer.is_logging_step:
            self.losses.append(trainer.metrics.flush()["text/ce"])
        self.ends.append(now())
        self.data_s.append(trainer.stopwatch.data_s)
        self.num_odd += trainer.state.nonfinite_in_a_row > 0


def train(folder: Path, steps: int, overrides: dict[str, Any], *, profiles: bool) -> dict[str, Any]:
    """One row of the table."""
    torch.cuda.reset_peak_memory_stats()
    watch = Watch()
    begin = now()
    with ExitStack() as resources:
        trainer = build_trainer(
            config_of(folder, steps, overrides), [watch], Control(), None, lambda _: None, resources
        )
        if profiles:
            profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
            trainer.hooks.append(Profiled(profiler, steps))
        trainer.train()
    lengths = [end - start for start, end in zip(watch.ends[WARM_UP - 1 :], watch.ends[WARM_UP:], strict=False)]
    rate = ROWS * LENGTH / statistics.mean(lengths)
    return {
        "tokens_per_s": rate,
        "ms_per_step": 1000 * statistics.median(lengths),
        "slowest_ms": 1000 * max(lengths),
        "waited_for_data_ms": 1000 * (watch.data_s[-1] - watch.data_s[WARM_UP - 1]) / len(lengths),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "first_loss": watch.losses[0],
        "last_loss": watch.losses[-1],
        "steps_not_finite": watch.num_odd,
        "until_step_10_s": watch.ends[WARM_UP - 1] - begin,
    }


class Profiled(Hook):
    """Prints what the GPU does in three of the last steps."""

    def __init__(self, profiler: Any, steps: int) -> None:
        self.profiler = profiler
        self.at = steps - 5

    def after_step(self, trainer: Any) -> None:
        """Begin and end."""
        if trainer.global_step == self.at:
            self.profiler.start()
        elif trainer.global_step == self.at + 3:
            torch.cuda.synchronize()
            self.profiler.stop()
            table = self.profiler.key_averages()
            print(table.table(sort_by="self_cuda_time_total", row_limit=45, max_name_column_width=90))


def peer_step() -> Iterator[None]:
    """A compiled Qwen2-MoE of the shape, all in bf16, with fused AdamW and its own cross-entropy."""
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    config = Qwen2MoeConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=1024,
        intermediate_size=2048,
        moe_intermediate_size=2048,
        shared_expert_intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=16,
        num_key_value_heads=4,
        num_experts=8,
        num_experts_per_tok=2,
        decoder_sparse_step=2,
        tie_word_embeddings=True,
        use_cache=False,
        attn_implementation="sdpa",
        experts_implementation="grouped_mm",
    )
    with torch.device("cuda"):
        model = Qwen2MoeForCausalLM(config).to(torch.bfloat16)  # under autocast its experts fall back to a loop
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    compiled = torch.compile(model)
    ids = torch.randint(VOCAB_SIZE, (ROWS, LENGTH), device="cuda")
    while True:
        loss = compiled(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield


def peer(steps: int) -> dict[str, Any]:
    """Its row."""
    torch.cuda.reset_peak_memory_stats()
    begin = now()
    for number, _ in enumerate(peer_step(), start=1):
        if number == WARM_UP:
            torch.cuda.synchronize()
            start = now()
        if number == steps:
            break
    torch.cuda.synchronize()
    rate = (steps - WARM_UP) * ROWS * LENGTH / (now() - start)
    peak = torch.cuda.max_memory_allocated() / 2**30
    return {"tokens_per_s": rate, "ms_per_step": 1000 * ROWS * LENGTH / rate, "peak_gib": peak,
            "until_step_10_s": start - begin}  # fmt: skip


def row_of(variant: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Of the table."""
    if variant == "peer":
        return peer(options.steps)
    return train(folder, options.steps, VARIANTS[variant], profiles=options.profile)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--only", nargs="*", choices=[*VARIANTS, "peer"], default=[*VARIANTS, "peer"])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    print(f"| | {' | '.join(title for title, _, _ in COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tokenizer(folder)
        write_documents(folder / "documents")
        for variant in options.only:
            try:
                row = row_of(variant, folder, options)
            except (RuntimeError, XoronError):  # the other rows are worth having
                traceback.print_exc()
                row = {}
            rows[variant] = row
            shown = [format(row[key], form) if key in row else "-" for _, key, form in COLUMNS]
            print(f"| {variant} | {' | '.join(shown)} |", flush=True)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            gc.collect()
            torch.cuda.empty_cache()
            torch._dynamo.reset()


if __name__ == "__main__":
    main()
