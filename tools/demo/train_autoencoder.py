"""Train the small KL autoencoder that the demo ships, on the demo's pictures. Needs torch and Pillow only.

    python tools/demo/train_autoencoder.py --steps 12000 --out xoron_core/data/demo/autoencoder [--more FOLDER]

Run it in the repository's root. A GPU is used where there is one. Writes `model.safetensors` (fp16; the latents'
statistics in fp32) and `config.json`, and prints how well held-out pictures come back.

Shapes: B pictures, C latent channels, H×W pixels, h×w latent pixels. Pictures lie in [-1, 1].
"""

import argparse
import copy
import ctypes
import dataclasses
import json
import math
import struct
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # works from a checkout that is not installed

from xoron_core.model.autoencoder import DOWNSAMPLING, Autoencoder, AutoencoderConfig  # noqa: E402
from xoron_core.model.initialise import init_module  # noqa: E402

PICTURES = ROOT / "xoron_core" / "data" / "demo" / "pictures"
SIZE = 64
SUFFIXES = {".png", ".webp", ".jpg", ".jpeg"}


def read_picture(path: Path) -> Tensor:
    """A picture as bytes, [3, SIZE, SIZE]; transparency on white, the longer side cropped at both ends."""
    with Image.open(path) as image:
        rgba = image.convert("RGBA")
    canvas = Image.new("RGBA", rgba.size, "white")
    canvas.alpha_composite(rgba)
    side = min(canvas.size)
    left, top = (canvas.width - side) // 2, (canvas.height - side) // 2
    square = canvas.convert("RGB").crop((left, top, left + side, top + side))
    if square.size != (SIZE, SIZE):
        square = square.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(SIZE, SIZE, 3).permute(2, 0, 1)


def read_split(split: str) -> Tensor:
    """All pictures of a split, bytes."""
    lines = (PICTURES / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return torch.stack([read_picture(PICTURES / json.loads(line)["image"]) for line in lines])


def augment(pictures_B3HW: Tensor, generator: torch.Generator) -> Tensor:
    """Flips, turns, zooms, shifts, other grounds and colours: a few hundred pictures stand for many."""
    count, device = len(pictures_B3HW), pictures_B3HW.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(count, *shape, device=device).uniform_(low, high, generator=generator)

    zoom = uniform(math.log(0.55), math.log(1.5)).exp()
    angle = uniform(-0.3, 0.3) * (uniform(0, 1) < 0.5)
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    rows = (
        torch.stack((flip * zoom * angle.cos(), -zoom * angle.sin(), uniform(-0.4, 0.4)), dim=1),
        torch.stack((flip * zoom * angle.sin(), zoom * angle.cos(), uniform(-0.4, 0.4)), dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1), list(pictures_B3HW.shape), align_corners=False)
    moved = F.grid_sample(pictures_B3HW, grid, mode="bicubic", padding_mode="border", align_corners=False)
    unchanged = (uniform(0, 1, 1, 1, 1) < 0.3).float()
    pixels = ((moved * (1 - unchanged) + pictures_B3HW * unchanged).clamp(-1, 1) + 1) / 2
    # other colours: a tint (which colours the white ground too), contrast, now and then the channels in another order
    tint = 1 - uniform(0, 0.7, 3, 1, 1) * (uniform(0, 1, 1, 1, 1) < 0.3)
    contrast = torch.where(uniform(0, 1, 1, 1, 1) < 0.3, uniform(0.6, 1.2, 1, 1, 1), 1.0)
    pixels = (((pixels - 0.5) * contrast + 0.5) * tint).clamp(0, 1)
    order = uniform(0, 1, 3).argsort(dim=1)
    order = torch.where(uniform(0, 1, 1) < 0.3, order, torch.arange(3, device=device))
    return pixels.gather(1, order[:, :, None, None].expand_as(pixels)) * 2 - 1


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 of pixels, of their differences to neighbours (edges), and of two coarser scales."""
    loss = F.l1_loss(made, wanted)
    loss = loss + 0.5 * F.l1_loss(made.diff(dim=2), wanted.diff(dim=2))
    loss = loss + 0.5 * F.l1_loss(made.diff(dim=3), wanted.diff(dim=3))
    for scale in (2, 4):
        loss = loss + 0.25 * F.l1_loss(F.avg_pool2d(made, scale), F.avg_pool2d(wanted, scale))
    return loss


def total_loss(model: Autoencoder, images: Tensor, generator: torch.Generator, kl_weight: float) -> Tensor:
    """Reconstruction, KL, and reconstruction of the half-size picture from half-size latents.

    The last keeps fine detail of the latents from meaning coarse detail of the picture, which a flow model would
    have to guess (arXiv 2502.14831).
    """
    posterior = model.encode(images)
    mean, logvar = posterior
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    latents = posterior.sample(noise)
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    half = F.l1_loss(model.decode(F.avg_pool2d(latents, 2)), F.avg_pool2d(images, 2))
    return reconstruction_loss(model.decode(latents), images) + 0.25 * half + kl_weight * kl


@torch.no_grad()
def set_statistics(model: Autoencoder, images: Tensor) -> dict[str, float]:
    """Store the mean and deviation of each channel's latents, and say what they are like."""
    mean, logvar = model.encode(images)
    own_variance = logvar.exp().mean(dim=(0, 2, 3))
    model.latent_mean_C.copy_(mean.mean(dim=(0, 2, 3)))
    model.latent_std_C.copy_((mean.var(dim=(0, 2, 3)) + own_variance).sqrt())
    scaled = model.encode_scaled(images)
    neighbours = (scaled[..., 1:] * scaled[..., :-1]).mean() / scaled.square().mean()
    return {
        "posterior std / latent std": float((own_variance.sqrt() / model.latent_std_C).max()),
        "correlation of neighbouring latents": float(neighbours),
        "largest |latent|": float(scaled.abs().max()),
    }


@torch.no_grad()
def mean_psnr(model: Autoencoder, images: Tensor) -> float:
    """Mean over pictures, in dB."""
    made = model.decode_scaled(model.encode_scaled(images)).clamp(-1, 1)
    squared = ((made - images) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * squared.clamp(min=1e-10).log10()).mean())


def raw_bytes(tensor: Tensor) -> bytes:
    """The values in memory order; torch has no such call without numpy."""
    tensor = tensor.contiguous()
    return ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size())


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """The format in short: length of the header, header, values one after another."""
    names = {torch.float16: "F16", torch.float32: "F32"}
    header: dict[str, object] = {}
    parts: list[bytes] = []
    end = 0
    for name, tensor in tensors.items():
        part = raw_bytes(tensor)
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + len(part)],
        }
        parts.append(part)
        end += len(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def save(model: Autoencoder, out: Path) -> int:
    """Write weights and sizes; returns the weights' bytes."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {
        # ordered by width: every value then starts at a multiple of its size
        name: tensor.cpu().float() if name.startswith("latent_") else tensor.cpu().half()
        for name, tensor in sorted(model.state_dict().items(), key=lambda item: not item[0].startswith("latent_"))
    }
    write_safetensors(out / "model.safetensors", tensors)
    (out / "config.json").write_text(json.dumps(dataclasses.asdict(model.config), indent=2) + "\n", encoding="utf-8")
    return (out / "model.safetensors").stat().st_size


@torch.no_grad()
def write_preview(model: Autoencoder, images: Tensor, path: Path) -> None:
    """Pictures above what came back of them."""
    made = model.decode_scaled(model.encode_scaled(images)).clamp(-1, 1)
    rows = torch.stack((images, made)).permute(0, 3, 1, 4, 2).reshape(2 * SIZE, -1, 3)
    pixels = ((rows + 1) * 127.5).round().byte().cpu().contiguous()
    Image.frombytes("RGB", (pixels.shape[1], pixels.shape[0]), raw_bytes(pixels)).save(path)


def to_unit(pictures: Tensor, device: torch.device) -> Tensor:
    """Bytes → [-1, 1] on the device."""
    return pictures.to(device).float() / 127.5 - 1


def train(options: argparse.Namespace, device: torch.device) -> Autoencoder:
    """AdamW under a cosine schedule; returns the moving average of the weights, rounded as they are shipped."""
    demo = read_split("train")
    more = (
        [read_picture(path) for path in sorted(options.more.rglob("*")) if path.suffix in SUFFIXES]
        if options.more
        else []
    )
    images = to_unit(torch.cat((demo, torch.stack(more))) if more else demo, device)
    print(f"{len(demo)} demo pictures, {len(more)} more, on {device}")
    generator = torch.Generator(device).manual_seed(options.seed)
    model = Autoencoder(AutoencoderConfig()).to(device)
    init_module(model, torch.Generator().manual_seed(options.seed))
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, betas=(0.9, 0.99), weight_decay=1e-3)
    warmup = min(200, options.steps // 10 + 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / options.steps)),
    )
    started = time.monotonic()
    for step in range(options.steps):
        rows = torch.randint(len(images), (options.batch_size,), generator=generator, device=device)
        loss = total_loss(model, augment(images[rows], generator), generator, options.kl_weight)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        decay = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        if step % 500 == 0:
            print(f"step {step} loss {loss.item():.4f} {time.monotonic() - started:.0f} s", flush=True)
    average.half().float()
    for name, value in set_statistics(average, to_unit(demo, device)).items():
        print(f"{name}: {value:.4f}")
    return average


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--kl-weight", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "xoron_core" / "data" / "demo" / "autoencoder")
    parser.add_argument("--more", type=Path, help="a folder of further pictures to train on")
    parser.add_argument("--preview", type=Path, help="a PNG of held-out pictures and what came back")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert SIZE % DOWNSAMPLING == 0
    model = train(options, device)
    heldout = to_unit(read_split("heldout"), device)
    print(f"PSNR train {mean_psnr(model, to_unit(read_split('train'), device)):.2f} dB")
    print(f"PSNR held-out {mean_psnr(model, heldout):.2f} dB")
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {save(model, options.out)} bytes in {options.out}")
    if options.preview:
        write_preview(model, heldout[:16], options.preview)


if __name__ == "__main__":
    main()
