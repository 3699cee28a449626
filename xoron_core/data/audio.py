"""Sound from bytes. Shapes: T samples, C channels."""

import io
import os
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import av
import numpy as np
import numpy.typing as npt
import soundfile

from xoron_core.data.media import MediaError, check_whole, decoding
from xoron_core.data.records import Record

if TYPE_CHECKING:
    from torchaudio.transforms import Resample

MIN_RATE, MAX_RATE = 4_000, 384_000
"""Samples a second that a file may have: below there is no speech left, above there is no such recorder."""
MAX_SAMPLES = 2**27
"""Of all channels together: half a gibibyte. Half an hour of stereo at 37 kHz."""
MAX_RATIO_TERM = 640
"""Rates are changed by a ratio of whole numbers up to about this, exact for every rate in use; the filter that a
stranger rate would ask for has a length of its square. What is left of an error is below a thousandth."""
SILENCE = 1e-4
"""Peak, three steps of 16 bits, below which there is nothing to hear: encoders that normalise have nothing to go by."""
MAX_PEAK = 2.0**31
"""The loudest that a file of whole numbers has; beyond, spectra overflow. Floats of a damaged file are."""
UNTOLD_SAMPLES = 2**63 - 1
"""What libsndfile says of a FLAC that was written to a pipe, and cannot read then."""
MAX_PACKED_CHANNELS = 2
"""PyAV (18) reads memory that is not its own where a frame has eight channels or more."""
MAX_MISSING_S, MAX_MISSING_FRAMES = 0.05, 1
"""What a decoder may be short of the length that a file tells: some count what they swallow at the ends."""

Samples = npt.NDArray[np.float32]


def read_audio(record: Record, key: str, sample_rate: int, max_s: float) -> Samples:
    """The sound that a row names (wav, flac, ogg, opus, mp3, …), its channels averaged, resampled: [T], in [-1, 1] as a
    rule.

    Raises: DataError when it cannot be read, is empty, is longer than `max_s` seconds, holds what is no number, or is
    silent.
    """
    content = record.media(key)
    with decoding(record, key, "sound"):
        samples_TC, rate = _decode(content, max_s)
        samples_T = samples_TC @ np.full(samples_TC.shape[1], 1 / samples_TC.shape[1], dtype=np.float32)
    if rate != sample_rate:
        samples_T = _resampled(samples_T, rate, sample_rate)
    name = record.media_name(key)
    peak = float(np.abs(samples_T).max())
    if not peak < MAX_PEAK:  # as it is not where one is no number, either
        raise record.error(f"{name} has samples that are no numbers, or none of a sound: {peak:.1g}", "not_finite")
    if peak < SILENCE:
        reason = f"{name} is silent, its peak {peak:.1g} after averaging the channels; remove the row"
        raise record.error(reason, "silent")
    return samples_T


def _decode(content: bytes, max_s: float) -> tuple[Samples, int]:
    """Samples [T, C] and their rate."""
    check_whole(content)
    if content[28:36] == b"OpusHead" and content[37] <= MAX_PACKED_CHANNELS:
        samples_TC, rate = _decode_packets(content, "ogg", max_s)
    elif content.startswith((b"ID3", b"\xff")):
        samples_TC, rate = _decode_packets(content, "mp3", max_s)
    else:
        samples_TC, rate = _decode_samples(content, max_s)
    if not samples_TC.size:
        raise MediaError("it has no samples; remove the row", "empty")
    return samples_TC, rate


def _check_size(num_samples: int, num_channels: int, rate: int, max_s: float) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise MediaError(f"{rate} samples a second; {MIN_RATE} to {MAX_RATE} are read")
    if num_samples > max_s * rate:
        reason = f"{num_samples / rate:.2f} s long, at most {max_s:g} s are read; cut it, or raise max_audio_s"
        raise MediaError(reason, "too_long")
    if num_samples * num_channels > MAX_SAMPLES:
        raise MediaError(
            f"{num_samples} samples of {num_channels} channels; at most {MAX_SAMPLES} are read", "too_large"
        )


def _decode_samples(content: bytes, max_s: float) -> tuple[Samples, int]:
    """What libsndfile reads; the length is looked at before there is room made for the samples."""
    try:
        # not BytesIO: where a broken file sends it before its beginning, the exception would be printed and lost
        with os.fdopen(os.memfd_create("sound"), "w+b") as file:
            file.write(content)
            file.seek(0)
            with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                num_samples, rate = int(sound.frames), int(sound.samplerate)
                if num_samples == UNTOLD_SAMPLES:
                    raise MediaError("it does not tell how long it is; write it anew, to a file")
                _check_size(num_samples, sound.channels, rate, max_s)
                samples_TC = sound.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise MediaError(error.error_string or "it cannot be decoded") from error
    if content[28:35] == b"\x01vorbis":  # libsndfile leaves out damaged pages; the last has the place of its end
        page = content.rfind(b"OggS")
        num_samples = max(num_samples, int.from_bytes(content[page + 6 : page + 14], "little", signed=True))
    _check_length(len(samples_TC), num_samples, rate)
    return samples_TC, rate


def _decode_packets(content: bytes, kind: Literal["ogg", "mp3"], max_s: float) -> tuple[Samples, int]:
    """What FFmpeg decodes better than libsndfile does: Opus in half the time; MP3 without notes on standard error, and
    all of it where its bit rate varies and no header says so.

    What cannot be decoded after the last sound is a tag or a rest that means nothing; before, the file is damaged.
    """
    blocks_CT, num_samples, num_packets, damage = [], 0, 0, ""
    with av.open(io.BytesIO(content), mode="r", format=kind) as file:
        stream = file.streams.audio[0]
        context = stream.codec_context
        context.thread_count = 1
        rate, num_channels = context.sample_rate, context.channels
        _check_size(0, num_channels, rate, max_s)
        for packet in file.demux(stream):
            try:
                frames = packet.decode()
            except av.InvalidDataError as error:
                damage = str(error)
                continue
            num_packets += packet.size > 0
            for frame in frames:
                if damage:
                    raise MediaError(f"it is damaged before {frame.time} s: {damage}")
                if (frame.format.name, frame.sample_rate, frame.layout.nb_channels) != ("fltp", rate, num_channels):
                    raise MediaError("its rate or its channels change on the way")
                num_samples += frame.samples
                _check_size(num_samples, num_channels, rate, max_s)
                blocks_CT.append(frame.to_ndarray())
        told_s = float((stream.duration or 0) * (stream.time_base or 0))
    if kind == "ogg":  # of an MP3 it is a guess
        _check_length(num_samples, told_s * rate, rate)
    elif num_packets < (told := _told_mp3_frames(content)) - MAX_MISSING_FRAMES:
        raise MediaError(f"it is cut off: {num_packets} of {told} frames")
    return np.concatenate([np.empty((num_channels, 0), np.float32), *blocks_CT], axis=1).T, rate


def _told_mp3_frames(content: bytes) -> int:
    """How many frames an MP3 has as its first one says (the tag of Xing and LAME); 0 where it does not."""
    is_tagged = content.startswith(b"ID3")  # ten bytes, four of which hold seven bits each of the length of the rest
    start = 10 + sum(byte << 7 * place for place, byte in enumerate(reversed(content[6:10]))) if is_tagged else 0
    first = content[start : start + 64]
    at = max(first.find(b"Xing"), first.find(b"Info"))
    return int.from_bytes(first[at + 8 : at + 12]) if at >= 0 and first[at + 7] & 1 else 0


def _check_length(num_samples: int, told: float, rate: int) -> None:
    if num_samples < told - MAX_MISSING_S * rate:
        raise MediaError(f"it is cut off: {num_samples / rate:.2f} s of {told / rate:.2f} s")


def _resampled(samples_T: Samples, rate: int, target_rate: int) -> Samples:
    """The same sound at another rate, band-limited."""
    import torch

    resampled: Samples = _resampler(rate, target_rate)(torch.from_numpy(samples_T)).numpy()
    return resampled


@lru_cache(maxsize=8)
def _resampler(rate: int, target_rate: int) -> "Resample":
    """Its filter takes as long to make as to use."""
    from torchaudio.transforms import Resample

    ratio = Fraction(rate, target_rate).limit_denominator(MAX_RATIO_TERM)
    return Resample(ratio.numerator, ratio.denominator)
