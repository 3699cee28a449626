"""A spectrogram as a picture. Shapes: F frames, M mel bins."""

import numpy as np
import numpy.typing as npt

from xoron_core.modalities.base import Artifact
from xoron_core.modalities.picture_files import picture_artifact

LEVELS = -1.8, 2.2
"""Normalised log-mel values of the darkest and of the lightest colour: silence and a loud vowel."""
COLOURS = np.array(
    [
        (8, 6, 30),
        (46, 16, 92),
        (110, 26, 118),
        (176, 46, 104),
        (228, 88, 72),
        (250, 152, 58),
        (252, 210, 108),
        (253, 250, 214),
    ],
    dtype=np.float32,
)
"""Evenly spaced, lighter with every step, so that it reads the same in grey and to the colour-blind."""
PIXELS = 4
"""Side of the square that a value becomes."""


def spectrogram_artifact(mel_FM: npt.NDArray[np.float32], caption: str) -> Artifact:
    """A normalised log-mel spectrogram as PNG: time to the right, frequency upwards, loudness as lightness."""
    darkest, lightest = LEVELS
    level_MF = np.nan_to_num((mel_FM.T[::-1] - darkest) / (lightest - darkest)).clip(0, 1) * (len(COLOURS) - 1)
    index_MF = np.minimum(level_MF.astype(np.int64), len(COLOURS) - 2)
    rest_MF1 = (level_MF - index_MF)[..., None]
    rgb_MF3 = COLOURS[index_MF] * (1 - rest_MF1) + COLOURS[index_MF + 1] * rest_MF1
    pixels_HWC = rgb_MF3.round().astype(np.uint8).repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)
    return picture_artifact(pixels_HWC, caption)
