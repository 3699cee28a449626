"""Clips as files that a page can play."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from xoron_core.modalities.base import Artifact

QUALITY = 90
FRAME_MS = 125


def clip_artifact(frames_THWC: npt.NDArray[np.uint8], caption: str) -> Artifact:
    """Pictures [T, H, W, 3] as an animated webp that loops, each shown for an eighth of a second."""
    first, *others = (Image.fromarray(frame) for frame in frames_THWC)
    buffer = io.BytesIO()
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=FRAME_MS, loop=0, quality=QUALITY)
    return Artifact(buffer.getvalue(), "image/webp", "webp", caption)
