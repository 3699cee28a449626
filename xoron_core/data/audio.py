"""Sound from bytes. Shapes: T samples, C channels."""

import io
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import soundfile

from xoron_core.data.records import Record

MIN_RATE, MAX_RATE = 4_000, 384_000
"""Samples a second that a file may have: below there is no speech left, above there is no such recorder."""
MAX_RATIO_TERM = 640
"""Rates are changed by a ratio of whole numbers up to about this, exact for every rate in use; the filter that a
stranger rate would ask for has a length of its square. What is left of an error is below a thousandth."""
SILENCE = 1e-4
"""Peak, three steps of 16 bits, below which there is nothing to hear: encoders that normalise have nothing to go by."""


def read_audio(record: Record, key: str, sample_rate: int, max_s: float) -> npt.NDArray[np.float32]:
    """The sound that a row names (wav, flac, ogg, opus, mp3, …), its channels averaged, resampled: [T], in [-1, 1] as a
    rule.

    Raises: DataError when it cannot be read, is empty, is longer than `max_s` seconds, holds what is no number, or is
    silent.
    """
    name = record.text(key)
    content = record.read(name)
    try:
        samples_TC, rate = _decode(content, max_s)
    except soundfile.LibsndfileError as error:
        raise record.error(f"{name!r} is not a readable sound: {error.error_string}") from error
    except MemoryError:  # it says nothing about the file
        raise
    except Exception as error:  # boundary: a decoder raises whatever a broken file leads it to
        raise record.error(f"{name!r} is not a readable sound: {error}") from error
    samples_T = samples_TC.mean(axis=1, dtype=np.float32)
    if not np.isfinite(samples_T).all():
        raise record.error(f"{name!r} has samples that are no numbers; write it anew")
    if (peak := float(np.abs(samples_T).max())) < SILENCE:
        raise record.error(f"{name!r} is silent, its peak {peak:.1g} after averaging the channels; remove the row")
    return samples_T if rate == sample_rate else _resample(samples_T, rate, sample_rate)


def _decode(content: bytes, max_s: float) -> tuple[npt.NDArray[np.float32], int]:
    """Samples [T, C] and their rate; looks at the length before it makes room for the samples."""
    with soundfile.SoundFile(io.BytesIO(content)) as sound:
        rate, seconds = int(sound.samplerate), sound.frames / sound.samplerate
        if not MIN_RATE <= rate <= MAX_RATE:
            raise ValueError(f"{rate} samples a second; {MIN_RATE} to {MAX_RATE} are read")
        if seconds > max_s:
            raise ValueError(f"{seconds:.2f} s long, at most {max_s:g} s are read; cut it, or raise max_audio_s")
        samples_TC = sound.read(dtype="float32", always_2d=True)
    if not samples_TC.size:
        raise ValueError("it has no samples; remove the row")
    return samples_TC, rate


def _resample(samples_T: npt.NDArray[np.float32], rate: int, target_rate: int) -> npt.NDArray[np.float32]:
    """The same sound at another rate, band-limited."""
    import torch
    from torchaudio.functional import resample

    ratio = Fraction(rate, target_rate).limit_denominator(MAX_RATIO_TERM)
    resampled: npt.NDArray[np.float32] = resample(
        torch.from_numpy(samples_T), ratio.numerator, ratio.denominator
    ).numpy()
    return resampled
