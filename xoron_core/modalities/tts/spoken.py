"""A recording and its text, what is drawn of it, texts to speak. Shapes: T samples, F frames, R frames of a clip."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xoron_core.data.records import SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.model.speech.mel import num_frames


def spell(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """The ids of a text's characters, one by one, between beginning and end, which silence is aligned with."""
    spelled = (token for character in " ".join(text.split()) for token in tokenizer.encode(character))
    return (tokenizer.bos_id, *spelled, tokenizer.eos_id)


class Draw(NamedTuple):
    """What is random about a sample: scalars, and [R]."""

    has_reference: Tensor
    """Whether it is told whose voice it is."""
    reference_frames_R: Tensor
    """The clip of itself that tells it."""
    reference_mask_R: Tensor
    """True where the clip is: a recording may be shorter."""
    segment_start: Tensor
    """First frame of the segment of which the waveform is looked at."""


@dataclass(frozen=True)
class SpokenSample:
    """A recording [T], the ids of its characters, pitch and voicing of its frames [F] each."""

    origin: SampleOrigin
    waveform: npt.NDArray[np.float32]
    token_ids: tuple[int, ...]
    pitch: npt.NDArray[np.float32]
    voicing: npt.NDArray[np.float32]

    @property
    def length(self) -> int:
        """Frames of its spectrogram."""
        return self.num_frames

    @property
    def shape(self) -> tuple[()]:
        """Sound is padded."""
        return ()

    def piece(self, start: int, stop: int) -> "SpokenSample":
        """Itself: a recording and its text have no parts that belong together."""
        return self

    @property
    def num_frames(self) -> int:
        """Frames of its spectrogram."""
        return num_frames(len(self.waveform))

    @property
    def has_room(self) -> bool:
        """Whether there is a frame for every token."""
        return len(self.token_ids) <= self.num_frames

    def draw(self, reference_rate: float, clip_frames: int, segment_frames: int) -> Draw:
        """What its seed decides."""
        generator = torch.Generator().manual_seed(self.origin.seed)
        told, clip_at, segment_at = torch.rand(3, generator=generator)
        clip_start = (clip_at * (max(self.num_frames - clip_frames, 0) + 1)).long()
        frames_R = torch.arange(clip_frames) + clip_start
        return Draw(
            has_reference=told < reference_rate,
            reference_frames_R=frames_R.clamp(max=self.num_frames - 1),
            reference_mask_R=frames_R < self.num_frames,
            segment_start=(segment_at * (max(self.num_frames - segment_frames, 0) + 1)).long(),
        )


@dataclass(frozen=True)
class SpeechPrompt:
    """A text to speak, and a recording whose voice to speak it in."""

    text: str
    voice: SpokenSample | None = None

    @property
    def caption(self) -> str:
        """The text, and whose voice it is in."""
        return self.text if self.voice is None else f"{self.text} (in the voice of {self.voice.origin.id})"
