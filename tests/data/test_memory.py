"""Memory that runs out while a file is decoded says nothing about the file; no file makes it run out."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from PIL import Image
from support.nasty_files import animation, film, picture, sound, tone

from xoron_core.contract.errors import DataError
from xoron_core.data import audio, clips, media
from xoron_core.data.records import Record

ROOT = Path(__file__).parents[2]
FRAMES = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]


def record_of(content: bytes) -> Record:
    return Record("a", 0, {"file": "x"}, lambda relative: content)


def raising(error: Exception) -> Callable[..., None]:
    def decode(*arguments: object) -> None:
        raise error

    return decode


def test_it_is_no_unreadable_row(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((media, "_decode"), (audio, "_decode"), (clips, "on_white")):
        monkeypatch.setattr(module, name, raising(MemoryError()))
    with pytest.raises(MemoryError):
        media.read_picture(record_of(picture(FRAMES[0], "PNG")), "file", 8)
    with pytest.raises(MemoryError):
        audio.read_audio(record_of(sound(tone(0.1))), "file", 16_000, 5.0)
    with pytest.raises(MemoryError):
        clips.read_clip(record_of(animation(FRAMES, "WEBP")), "file", 8, 2)


def test_a_film_that_asks_for_too_much_is_an_unreadable_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "_pixels", raising(av.error.MemoryError(12, "Cannot allocate memory")))
    with pytest.raises(DataError, match="not a readable clip"):
        clips.read_clip(record_of(film(FRAMES, "mp4", "libx264")), "file", 8, 2)


PEAKS = """
import resource, sys, warnings
from pathlib import Path

import torch
from support.nasty_files import nasty_clips, nasty_pictures, nasty_reader, nasty_sounds
from xoron_core.contract.errors import DataError
from xoron_core.data.audio import read_audio
from xoron_core.data.clips import read_clip
from xoron_core.data.media import read_picture
from xoron_core.data.records import Record

warnings.simplefilter("error")
folder = Path(sys.argv[1])
kinds = (
    (nasty_pictures(folder), lambda record: read_picture(record, "image", 16)),
    (nasty_sounds(folder, max_s=5.0), lambda record: read_audio(record, "audio", 16_000, 5.0)),
    (nasty_clips(folder), lambda record: read_clip(record, "video", 16, 4)),
)
for _ in range(6):
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    for rows, read in kinds:
        for index, row in enumerate(rows):
            try:
                read(Record("nasty", index, row.fields, nasty_reader("nasty", index, folder)))
            except DataError:
                pass
"""


def test_no_nasty_file_takes_much_and_none_leaves_anything(tmp_path: Path) -> None:
    """In a process of its own, whose peak is nobody else's and whose standard error shows what libraries print."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    before, first, *later = map(int, done.stdout.split())
    assert first - before < 300, "MiB"
    assert later[-1] - first < 20, "MiB"
