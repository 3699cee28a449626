"""Memory that runs out while a file is decoded says nothing about the file."""

import io
from collections.abc import Callable

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from xoron_core.contract.errors import DataError
from xoron_core.data import audio, clips, media
from xoron_core.data.records import Record


def record_of(content: bytes) -> Record:
    return Record("a", 0, {"file": "x"}, lambda relative: content)


def raising(error: Exception) -> Callable[..., None]:
    def decode(*arguments: object) -> None:
        raise error

    return decode


def sound() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.ones(1000), 16_000, format="WAV")
    return buffer.getvalue()


def animation() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], duration=100)
    return buffer.getvalue()


def test_it_is_no_unreadable_row(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((media, "_decode"), (audio, "_decode"), (clips, "on_white")):
        monkeypatch.setattr(module, name, raising(MemoryError()))
    with pytest.raises(MemoryError):
        media.read_picture(record_of(b""), "file", 8)
    with pytest.raises(MemoryError):
        audio.read_audio(record_of(sound()), "file", 16_000, 5.0)
    with pytest.raises(MemoryError):
        clips.read_clip(record_of(animation()), "file", 8, 2)


def test_a_film_that_asks_for_too_much_is_an_unreadable_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "on_white", raising(av.error.MemoryError(12, "Cannot allocate memory")))
    with pytest.raises(DataError, match="not a readable clip"):
        clips.read_clip(record_of(animation()), "file", 8, 2)
