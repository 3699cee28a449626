"""Files as models make them: small, but real, so that a browser has something to show and to play."""

import io
import math
import wave
from collections.abc import Iterator

import numpy as np
from PIL import Image

MIMES = {"txt": "text/plain", "png": "image/png", "webp": "image/webp", "wav": "audio/wav"}

Sample = tuple[str, dict[str, bytes], str, str | None]
"""Stem, content by suffix, what was asked, what is true."""

TEXTS = (
    ("42 <|/assistant|>", "<|user|>\n12 + 30?\n<|/user|>"),
    ("fine, thank you", "<|user|>\nHow are you?\n<|/user|>"),
)
PICTURE_ANSWERS = (
    ("a red apple", "a red apple"),
    ("a blue hat", "a pair of green shoes"),
    ("current " * 48, "green"),
)
PICTURES = ("a cartoon of a sun", "a 3D emoji of a tree", "a red ball", "a sad face")
CLIP_ANSWERS = (
    ("The dot moves to the left.", "The dot moves to the right."),
    ("The red dot jumps up.", "The dot moves down."),
)
CLIPS = ("a dot moves right", "a dot falls", "a green dot moves right")
TRANSCRIPTS = (
    ("he turned sharply and faced Gregson", "He turned sharply, and faced Gregson across the table."),
    ("the birch canoe slid on smooth blanks", "the birch canoe slid on smooth planks"),
)
SENTENCES = (
    "Glue the sheet to the dark blue background.",
    "It is easy to tell the depth.",
    "These days a chicken leg.",
)


def all_samples() -> Iterator[Sample]:
    """Samples of all seven modalities."""
    for i, (said, asked) in enumerate(TEXTS):
        yield f"text-{i}", {"txt": said.encode()}, asked, None
    for i, (said, true) in enumerate(PICTURE_ANSWERS):
        yield f"image_understanding-{i}", {"webp": clip(64, 1, i), "txt": said.encode()}, "What is this?", true
    for i, asked in enumerate(PICTURES):
        yield f"image_generation-{i}", {"png": picture(64, i)}, asked, None
    for i, (said, true) in enumerate(CLIP_ANSWERS):
        yield f"video_understanding-{i}", {"webp": clip(48, 8, i), "txt": said.encode()}, "What happens?", true
    for i, asked in enumerate(CLIPS):
        yield f"video_generation-{i}", {"webp": clip(32, 8, i)}, asked, None
    files = {"png": picture(32), "webp": clip(32, 8)}
    yield "video_generation-3", files, "a dot moves right (first frame given)", None
    for i, (said, true) in enumerate(TRANSCRIPTS):
        yield f"asr-{i}", {"wav": sound(2.0, 200 + 100 * i), "txt": said.encode()}, "What is said?", true
    for i, asked in enumerate(SENTENCES):
        yield f"tts-{i}", {"wav": sound(1.5, 300 + 100 * i), "png": spectrogram(60 + 20 * i)}, asked, None


def _dot(side: int, variant: int, time: float) -> Image.Image:
    """A round dot on a slope of grey, somewhere on its way."""
    y, x = np.mgrid[0:side, 0:side] / side
    middle = (0.5, 0.2 + 0.6 * time) if variant % 2 == 0 else (0.2 + 0.6 * time, 0.5)
    is_dot = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < 0.03
    rgb = np.stack([x, y, 1 - x], axis=-1) * 90 + 120
    rgb[is_dot] = [(220, 50, 50), (40, 90, 220), (30, 150, 90), (240, 200, 40)][variant % 4]
    return Image.fromarray(rgb.astype(np.uint8))


def picture(side: int, variant: int = 0) -> bytes:
    """A square PNG."""
    buffer = io.BytesIO()
    _dot(side, variant, 0.5).save(buffer, "PNG")
    return buffer.getvalue()


def clip(side: int, num_frames: int, variant: int = 0) -> bytes:
    """A square WebP, animated where it has several frames."""
    first, *others = (_dot(side, variant, t / num_frames) for t in range(num_frames))
    buffer = io.BytesIO()
    first.save(buffer, "WEBP", save_all=bool(others), append_images=others, duration=125, loop=0)
    return buffer.getvalue()


def spectrogram(num_frames: int) -> bytes:
    """A PNG of 80 bins."""
    bins, frames = np.mgrid[0:80, 0:num_frames]
    loud = 128 + 127 * np.sin(bins / 7 + frames / 11) * np.cos(frames / 5)
    buffer = io.BytesIO()
    Image.fromarray(loud.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def sound(duration_s: float, hertz: float, rate: int = 16_000) -> bytes:
    """A tone as a WAV file."""
    times = np.arange(int(duration_s * rate)) / rate
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((8000 * np.sin(2 * math.pi * hertz * times)).astype("<i2").tobytes())
    return buffer.getvalue()
