"""Sound as the bytes of a file."""

import io

import numpy as np
import numpy.typing as npt
import soundfile

from xoron_core.modalities.base import Artifact


def wav_artifact(waveform_T: npt.NDArray[np.float32], sample_rate: int, caption: str) -> Artifact:
    """A waveform [T] in [-1, 1] as a WAV file of 16 bits that every browser plays.

    What goes beyond is cut off; what is no number (a model that went astray) is silence.
    """
    audible_T = np.nan_to_num(waveform_T, nan=0.0, posinf=1.0, neginf=-1.0).clip(-1.0, 1.0)
    buffer = io.BytesIO()
    soundfile.write(buffer, audible_T, sample_rate, format="WAV", subtype="PCM_16")
    return Artifact(buffer.getvalue(), "audio/wav", "wav", caption)
