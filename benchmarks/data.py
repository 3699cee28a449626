"""How fast data gets ready, per core, beside Hugging Face `datasets` and a plain DataLoader doing the same work.

    python benchmarks/data.py [--seconds 8] [--only text,pictures] [--tokenizer NAME_OR_PATH] [--rows 1000000]

One process, one thread. The peer streams the same files with `datasets`, prepares each row with the decoders that
people write (Pillow, soundfile and torchaudio, PyAV), and collates in a `DataLoader` without workers. Files are made
here: text is the standard library's source and the demo corpus, pictures, sounds and clips are synthetic, of usual
sizes.
"""

import argparse
import json
import os
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import av
import datasets
import numpy as np
import psutil
import soundfile
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader
from torchaudio.functional import resample

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.presets import resolve
from xoron_core.contract.sources import demo_corpus
from xoron_core.data.dataset import TrueStreamingDataset
from xoron_core.data.runner import Here
from xoron_core.data.sources import open_source
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.data.workers import WorkerPool
from xoron_core.modalities.base import Batch, Collator
from xoron_core.modalities.registry import enabled_modalities

ROW_LENGTH = 1024
SIZES = ((1024, 768), (768, 1024), (800, 600), (640, 480))
"""Of pictures. With the first two alone it is a sixth slower."""
Rows = list[dict[str, Any]]


def write_rows(folder: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """A JSONL file of one split."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


def text_rows() -> Iterator[dict[str, Any]]:
    """Real documents of every length: sources of the standard library, and the demo corpus."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*/*.py")):
        if text := path.read_text(encoding="utf-8", errors="ignore").strip():
            yield {"text": text}
    for path in sorted((demo_corpus() / "text").glob("*/train.jsonl")):
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def photograph(generator: np.random.Generator, width: int, height: int) -> Image.Image:
    """Something with the detail of a photograph: noise of all scales."""
    total = np.zeros((height, width, 3))
    for scale in (4, 16, 64, 256):
        small = generator.normal(size=(height // scale + 2, width // scale + 2, 3)).astype(np.float32)
        layers = [Image.fromarray(small[..., at]).resize((width, height), Image.Resampling.BICUBIC) for at in range(3)]
        total += np.stack([np.asarray(layer) for layer in layers], axis=-1) * scale**0.5
    total += generator.normal(size=total.shape) * 0.5
    low, high = total.min(), total.max()
    return Image.fromarray(((total - low) / (high - low) * 255).astype(np.uint8))


def picture_rows(folder: Path, count: int = 48) -> Rows:
    """JPEG of up to 1,024 pixels a side."""
    generator = np.random.default_rng(0)
    (folder / "files").mkdir(parents=True)
    for number in range(count):
        width, height = SIZES[number % len(SIZES)]
        photograph(generator, width, height).save(folder / "files" / f"{number}.jpg", quality=88)
    return [{"image": f"files/{number}.jpg", "caption": "a picture"} for number in range(count)]


def sound_rows(folder: Path, count: int = 48) -> Rows:
    """Three seconds at 44.1 and 48 kHz, as WAV, FLAC, MP3 and Opus."""
    generator = np.random.default_rng(0)
    (folder / "files").mkdir(parents=True)
    rows = []
    for number in range(count):
        suffix, rate = [("wav", 44_100), ("flac", 48_000), ("mp3", 44_100), ("opus", 48_000)][number % 4]
        times = np.arange(3 * rate) / rate
        wave = 0.3 * np.sin(2 * np.pi * 220 * times) + 0.05 * generator.normal(size=len(times))
        path = folder / "files" / f"{number}.{suffix}"
        if suffix == "opus":
            soundfile.write(path, wave.astype(np.float32), rate, format="OGG", subtype="OPUS")
        else:
            soundfile.write(path, wave.astype(np.float32), rate)
        rows.append({"audio": f"files/{path.name}", "text": "this is what is said in it"})
    return rows


def moving(generator: np.random.Generator, count: int) -> list[Image.Image]:
    """A picture of 256 pixels that a window moves over."""
    large = photograph(generator, 512, 512)
    return [large.crop((2 * at, at, 2 * at + 256, at + 256)) for at in range(count)]


def clip_rows(folder: Path, kind: str, count: int = 6) -> Rows:
    """Three seconds of 256 × 256: H.264 with 30 frames a second, or an animated WebP with 24."""
    generator = np.random.default_rng(0)
    (folder / "files").mkdir(parents=True)
    for number in range(count):
        path = folder / "files" / f"{number}.{kind}"
        if kind == "mp4":
            with av.open(str(path), "w") as film:
                stream = film.add_stream("libx264", rate=30)
                stream.width = stream.height = 256
                stream.pix_fmt = "yuv420p"
                for frame in moving(generator, 90):
                    film.mux(stream.encode(av.VideoFrame.from_image(frame)))
                film.mux(stream.encode(None))
        else:
            first, *others = moving(generator, 72)
            first.save(path, "WEBP", save_all=True, append_images=others, duration=42, quality=75)
    return [{"video": f"files/{number}.{kind}", "caption": "a clip"} for number in range(count)]


def config_of(category: str, folder: Path, options: dict[str, Any], tokenizer: str = "demo") -> RunConfig:
    """The demo preset with one source."""
    source = {"name": "bench", "category": category, "path": str(folder), "eval_split": None}
    return resolve(
        "demo",
        {
            "model": {"tokenizer": tokenizer},
            "data": {"sources": [source]},
            "modalities": options,
            "training": {"max_seq_length": ROW_LENGTH},
        },
    )


def dataset_of(config: RunConfig, cache: Path | None = None) -> tuple[TrueStreamingDataset, Collator]:
    """The data set of the one modality that has a source, and its collator."""
    modalities = enabled_modalities(config, Tokenizer.load(config.model.tokenizer))
    [name] = modalities
    dataset = TrueStreamingDataset(
        [(config.data.sources[0], name)], modalities, {name: 1.0}, 0, config.data, cache=cache
    )
    return dataset, Collator(modalities)


def rate(batches: Iterable[Any], count: Callable[[Any], float], seconds: float) -> float:
    """What `count` adds up to in a second, after the first batch."""
    iterator = iter(batches)
    next(iterator)
    total, begin = 0.0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        total += count(next(iterator))
    return total / spent


def ours(config: RunConfig, count: Callable[[Batch], float], seconds: float) -> float:
    """The rate of this project's data set."""
    dataset, collate = dataset_of(config)
    with closing(dataset):
        drawn = dataset.follow(Here(dataset.preparation, collate, lambda: None))
        return rate((found.part for found in drawn if found.part is not None), count, seconds)


def peer(
    folder: Path, prepare: Callable[[dict[str, Any]], Any], collate: Callable[[list[Any]], Any], size: int
) -> Iterator[Any]:
    """Batches of the peer, epoch after epoch."""
    while True:
        rows = datasets.load_dataset("json", data_files=str(folder / "train.jsonl"), split="train", streaming=True)
        rows = rows.shuffle(seed=0, buffer_size=1000).map(lambda row: {"sample": prepare(row)})
        yield from DataLoader(rows, batch_size=size, collate_fn=lambda found: collate([row["sample"] for row in found]))


def bench_text(home: Path, seconds: float, tokenizer: str) -> tuple[str, float, float, str]:
    """Tokens a second, tokenised, weighted and packed."""
    folder = write_rows(home / "text", text_rows())
    config = config_of("document", folder, {"text": {"batch_size": 16}}, tokenizer)
    useful: list[float] = []

    def tokens(batch: Batch) -> float:
        useful.append(batch.num_tokens / batch.tensors["input_ids"].numel())
        return batch.num_tokens

    mine = ours(config, tokens, seconds)
    backend = Tokenizer.load(tokenizer)

    def prepare(row: dict[str, Any]) -> list[int]:
        return [backend.bos_id, *backend.encode(row["text"]), backend.eos_id]

    def concatenate(found: list[list[int]]) -> torch.Tensor:
        """Rows by cutting what lies end to end, without weights: what most loaders do."""
        flat = [token for ids in found for token in ids]
        return torch.tensor(flat[: len(flat) // ROW_LENGTH * ROW_LENGTH]).view(-1, ROW_LENGTH)

    theirs = rate(peer(folder, prepare, concatenate, 64), lambda rows: rows.numel(), seconds)
    return "text, tokens", mine, theirs, f"useful positions {100 * np.mean(useful):.2f} %"


def bench_pictures(home: Path, seconds: float, tokenizer: str) -> tuple[str, float, float, str]:
    """Pictures a second."""
    folder = write_rows(home / "pictures", picture_rows(home / "pictures"))
    config = config_of("image_generation", folder, {"image_generation": {"image_size": 256, "batch_size": 8}})

    def prepare(row: dict[str, Any]) -> np.ndarray[Any, Any]:
        with Image.open(folder / row["image"]) as image:
            return np.asarray(ImageOps.fit(image.convert("RGB"), (256, 256), Image.Resampling.LANCZOS))

    theirs = rate(peer(folder, prepare, lambda found: torch.from_numpy(np.stack(found)), 8), len, seconds)
    return "pictures ≤ 1,024 → 256 px", ours(config, lambda batch: batch.num_samples, seconds), theirs, ""


def bench_sounds(home: Path, seconds: float, tokenizer: str) -> tuple[str, float, float, str]:
    """Recordings a second."""
    folder = write_rows(home / "sounds", sound_rows(home / "sounds"))
    config = config_of("voice_asr", folder, {"asr": {"batch_size": 8, "max_audio_s": 10.0, "max_answer_tokens": 64}})

    def prepare(row: dict[str, Any]) -> np.ndarray[Any, Any]:
        samples, sample_rate = soundfile.read(folder / row["audio"], dtype="float32", always_2d=True)
        return resample(torch.from_numpy(samples.mean(axis=1)), sample_rate, 16_000).numpy()

    def pad(found: list[Any]) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence([torch.as_tensor(wave) for wave in found], batch_first=True)

    theirs = rate(peer(folder, prepare, pad, 8), len, seconds)
    return "sounds 3 s → 16 kHz", ours(config, lambda batch: batch.num_samples, seconds), theirs, ""


def bench_clips(home: Path, seconds: float, kind: str) -> tuple[str, float, float, str]:
    """Clips a second, 16 frames of 128 pixels."""
    folder = write_rows(home / kind, clip_rows(home / kind, kind))
    options = {"video_generation": {"video_size": 128, "num_frames": 16, "batch_size": 2}}
    config = config_of("video_generation", folder, options)

    def prepare(row: dict[str, Any]) -> np.ndarray[Any, Any]:
        path = folder / row["video"]
        if kind == "mp4":
            with av.open(str(path)) as film:
                frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        else:
            with Image.open(path) as image:
                frames = []
                for at in range(image.n_frames):
                    image.seek(at)
                    frames.append(np.asarray(image.convert("RGB")))
        picked = [frames[int(at)] for at in np.linspace(0, len(frames) - 1, 16)]
        return np.stack([np.asarray(Image.fromarray(frame).resize((128, 128))) for frame in picked])

    theirs = rate(peer(folder, prepare, lambda found: torch.from_numpy(np.stack(found)), 2), len, seconds)
    name = {"mp4": "clips, H.264 256 → 16 × 128 px", "webp": "clips, animated WebP 256 → 16 × 128 px"}[kind]
    return name, ours(config, lambda batch: batch.num_samples, seconds), theirs, ""


def bench_resume(home: Path, num_rows: int) -> tuple[str, float, float, str]:
    """Seconds from opening to the first micro-batch after row `num_rows` of a source, its index built before."""
    folder = write_rows(
        home / "many", ({"text": f"row {number} says nothing new"} for number in range(num_rows + 9999))
    )
    cache = home / "cache"
    config = config_of("document", folder, {"text": {"batch_size": 4}})
    begin = time.perf_counter()
    open_source(config.data.sources[0], "train", cache).close()
    built = time.perf_counter() - begin
    dataset, _ = dataset_of(config, cache)
    state = dataset.state_dict()
    state["lanes"]["text"]["plan"]["sources"]["bench"]["at"] = num_rows
    dataset.close()
    begin = time.perf_counter()
    dataset, collate = dataset_of(config, cache)
    with closing(dataset):
        dataset.load_state_dict(state)
        next(dataset.follow(Here(dataset.preparation, collate, lambda: None)))
        mine = time.perf_counter() - begin
    begin = time.perf_counter()
    rows = datasets.load_dataset("json", data_files=str(folder / "train.jsonl"), split="train", streaming=True)
    next(iter(rows.skip(num_rows)))
    return f"resume at row {num_rows:,}, s", mine, time.perf_counter() - begin, f"index built once in {built:.2f} s"


def bench_memory(home: Path, num_samples: int) -> str:
    """Resident memory of the trainer's process and a worker after a tenth of the samples, and after all."""
    folder = home / "many"
    if not folder.exists():
        write_rows(folder, ({"text": f"row {number} says nothing new"} for number in range(num_samples)))
    config = config_of("document", folder, {"text": {"batch_size": 16}})
    dataset, collate = dataset_of(config, home / "cache")
    pool: WorkerPool[Batch] = WorkerPool(
        1, dataset.preparation, collate, ahead=2, timeout_s=60.0, modules=("xoron_core.modalities.registry",)
    )
    figures = []
    with closing(dataset), closing(pool):
        seen, marks = 0, [num_samples // 10, num_samples]
        for drawn in dataset.follow(pool):
            seen += len(drawn.sample_ids)
            if marks and seen >= marks[0]:
                resident = [psutil.Process().memory_info().rss, psutil.Process(pool.pids[0]).memory_info().rss]
                figures.append(f"after {marks.pop(0):,}: {resident[0] / 2**20:.0f} + {resident[1] / 2**20:.0f} MiB")
            if not marks:
                break
    return ", ".join(figures)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--only", default="text,pictures,sounds,mp4,webp,resume,memory")
    parser.add_argument("--tokenizer", default="demo")
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    wanted = options.only.split(",")
    benches: dict[str, Callable[[Path], tuple[str, float, float, str]]] = {
        "text": lambda home: bench_text(home, options.seconds, options.tokenizer),
        "pictures": lambda home: bench_pictures(home, options.seconds, options.tokenizer),
        "sounds": lambda home: bench_sounds(home, options.seconds, options.tokenizer),
        "mp4": lambda home: bench_clips(home, options.seconds, "mp4"),
        "webp": lambda home: bench_clips(home, options.seconds, "webp"),
        "resume": lambda home: bench_resume(home, options.rows),
    }
    with tempfile.TemporaryDirectory() as folder:
        print(f"| {'per core and second':40} | here | datasets + DataLoader | |\n|---|---|---|---|")
        for name in (name for name in wanted if name in benches):
            what, mine, theirs, note = benches[name](Path(folder))
            print(f"| {what:40} | {mine:,.2f} | {theirs:,.2f} | {note} |", flush=True)
        if "memory" in wanted:
            print(f"\nresident, trainer + worker: {bench_memory(Path(folder), options.rows)}")


if __name__ == "__main__":
    main()
