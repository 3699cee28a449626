"""Pictures as files that a page can show."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from xoron_core.modalities.base import Artifact


def picture_artifact(pixels_HWC: npt.NDArray[np.uint8], caption: str) -> Artifact:
    """A picture [H, W, 3] as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC).save(buffer, format="PNG")
    return Artifact(buffer.getvalue(), "image/png", "png", caption)
