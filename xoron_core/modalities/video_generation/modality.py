"""Video generation: flow matching of all frames of a clip, from its caption and, half of the time, its first frame.

Shapes: B clips, T frames, S side of a square frame, C latent channels, H × W latent pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xoron_core.contract.config.generators import GeneratorConfig
from xoron_core.contract.modalities.video_generation import VideoGenerationConfig
from xoron_core.data.clips import read_clip
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.modalities.base import Artifact, Batch, LossTerms
from xoron_core.modalities.clip_files import clip_artifact
from xoron_core.modalities.flow_matching import CaptionedSample, FlowMatching, latent_size, to_bytes
from xoron_core.modalities.picture_files import picture_artifact
from xoron_core.model.flow import flow_target, frame_times, interpolate
from xoron_core.model.flow_transformer import FlowTransformer
from xoron_core.model.xoron import XoronMultimodalModel


@dataclass(frozen=True)
class VideoPrompt:
    """A caption and, where it is given, the first frame [S, S, 3]."""

    caption: str
    first_frame: npt.NDArray[np.uint8] | None = None


class VideoGeneration(FlowMatching[VideoPrompt]):
    """Captions, and first frames, to clips."""

    name: ClassVar[str] = "video_generation"
    components: ClassVar[frozenset[str]] = frozenset({"llm", "video_generator", "autoencoder"})
    varies_in_length: ClassVar[bool] = False
    media_key: ClassVar[str] = "videos"

    @property
    def config(self) -> VideoGenerationConfig:
        """The section `modalities.video_generation`."""
        return self.run_config.modalities.video_generation

    @property
    def generator_config(self) -> GeneratorConfig:
        """The video generator's."""
        return self.run_config.model.video_generator

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(T, C, H, W)."""
        return self.config.num_frames, *latent_size(self.config.video_size)

    @property
    def objective(self) -> Mapping[str, float]:
        """Temporal consistency, too."""
        return {**super().objective, "temporal_loss": self.config.temporal_loss_weight}

    def generator_of(self, model: XoronMultimodalModel) -> FlowTransformer:
        """The video generator."""
        return model.video_generator

    def prepare(self, record: Record, origin: SampleOrigin) -> CaptionedSample:
        """The clip that the field `video` names and the field `caption`.

        Raises: DataError when the clip cannot be read or there is no caption.
        """
        caption = record.text("caption")
        frames = read_clip(record, "video", self.config.video_size, self.config.num_frames)
        return self.captioned(origin, frames, caption)

    def draw(self, origin: SampleOrigin) -> dict[str, Tensor]:
        """Also `first_frame` []: whether it is given."""
        generator = torch.Generator().manual_seed(origin.seed ^ 1)  # apart from what pictures draw
        given = torch.rand((), generator=generator) < self.config.first_frame_rate
        return {**super().draw(origin), "first_frame": given}

    def for_evaluation(self, batch: Batch) -> Batch:
        """Without first frames: what is left is to be told from the caption."""
        batch = super().for_evaluation(batch)
        return replace(batch, tensors={**batch.tensors, "first_frame": torch.zeros_like(batch.tensors["first_frame"])})

    def loss(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        """Mean squared error of the predicted velocity over the frames to be made, and temporal consistency: a number
        each for every clip."""
        return self._terms(model, batch, *self._encoded(model, batch), batch.tensors["first_frame"])

    def evaluate(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        """Also the loss with the first frame of every clip given."""
        encoded, first_B = self._encoded(model, batch), batch.tensors["first_frame"]
        given = self._terms(model, batch, *encoded, torch.ones_like(first_B))
        return {**self._terms(model, batch, *encoded, first_B), "first_frame_loss": given["loss"]}

    def _encoded(self, model: XoronMultimodalModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """Latents [B, T, C, H, W] of the clips, states [B, L, D] of the captions."""
        tensors = batch.tensors
        latents_BTCHW = model.encode_videos(tensors["videos"], tensors["posterior_noise"])
        return latents_BTCHW, model.encode_text(tensors["prompt_ids"], tensors["prompt_mask"])

    def _terms(
        self, model: XoronMultimodalModel, batch: Batch, latents_BTCHW: Tensor, states_BLD: Tensor, first_B: Tensor
    ) -> LossTerms:
        tensors = batch.tensors
        found = clip_errors(
            model.video_generator,
            latents_BTCHW,
            tensors["noise"],
            tensors["times"],
            states_BLD,
            tensors["prompt_mask"],
            first_B,
            tensors["drop_prompt"],
        )
        one = torch.ones((), device=found.errors_B.device)
        terms = {
            "loss": (found.errors_B.sum(), one * batch.num_samples),
            "temporal_loss": (found.temporal_B.sum(), one * batch.num_samples),
        }
        if "moe_aux" in self.objective:
            terms["moe_aux"] = (found.aux_loss, one)
        return terms

    def prompts(self, held_out: Sequence[CaptionedSample]) -> tuple[VideoPrompt, ...]:
        """Captions alone, and held-out captions with their clips' first frames."""
        texts = [VideoPrompt(caption) for caption in self.config.sample_prompts]
        once = list({sample.origin.id: sample for sample in held_out}.values())
        count = min(self.config.sample_first_frames, len(once))
        chosen = [once[int(at)] for at in np.linspace(0, len(once) - 1, count)]
        return (*texts, *(VideoPrompt(sample.caption, sample.pixels[0]) for sample in chosen))

    def sample(
        self, model: XoronMultimodalModel, prompt: VideoPrompt, generator: torch.Generator
    ) -> tuple[Artifact, ...]:
        """A clip of the caption, as animated webp; the first frame before it where that was given."""
        if prompt.first_frame is None:
            latents_BTCHW = self.draw_latents(model, prompt.caption, generator)
            return (clip_artifact(to_bytes(model.decode_videos(latents_BTCHW)[0]), prompt.caption),)
        device = next(model.parameters()).device
        first_B3HW = torch.from_numpy(prompt.first_frame).to(device).movedim(-1, 0)[None].float() / 127.5 - 1.0
        latents_BTCHW = self.draw_latents(model, prompt.caption, generator, model.encode_images(first_B3HW))
        caption = f"{prompt.caption} (first frame given)"
        clip = clip_artifact(to_bytes(model.decode_videos(latents_BTCHW)[0]), caption)
        return picture_artifact(prompt.first_frame, caption), clip


class ClipErrors(NamedTuple):
    """What clips' velocities are off by, and what the experts' balance asks for."""

    errors_B: Tensor
    """Mean squared error of each clip, over the frames to be made."""
    temporal_B: Tensor
    """Temporal inconsistency of each clip."""
    aux_loss: Tensor
    """Zero where the balance is loss-free."""


def clip_errors(
    generator: FlowTransformer,
    latents_BTCHW: Tensor,
    noise_BTCHW: Tensor,
    times_B: Tensor,
    states_BLD: Tensor,
    prompt_mask_BL: Tensor | None,
    first_frame_B: Tensor,
    drop_prompt_B: Tensor | None = None,
) -> ClipErrors:
    """The flow loss of each clip, at a time of its own between data and noise; `first_frame_B`: the first frame is
    given."""
    times_BT = frame_times(times_B, latents_BTCHW.shape[1], first_frame_B)
    noisy_BTCHW = interpolate(latents_BTCHW, noise_BTCHW, times_BT)
    prediction = generator.predict(noisy_BTCHW, times_BT, states_BLD, prompt_mask_BL, drop_prompt_B)
    off_BTCHW = prediction.velocity.float() - flow_target(latents_BTCHW, noise_BTCHW).float()
    errors_BT = off_BTCHW.square().flatten(2).mean(2)
    made_BT = torch.ones_like(errors_BT)
    made_BT[:, 0] = (~first_frame_B).to(errors_BT.dtype)
    errors_B = (errors_BT * made_BT).sum(1) / made_BT.sum(1)
    return ClipErrors(errors_B, temporal_inconsistency(off_BTCHW, times_BT), prediction.aux_loss)


def temporal_inconsistency(off_BTCHW: Tensor, times_BT: Tensor) -> Tensor:
    """How much the predicted clean latents change from frame to frame otherwise than the data do: the mean squared
    difference of their differences in time, [B].

    With x̂0 = x_t − t·v̂ and x0 = x_t − t·v, x̂0 − x0 is −t times the velocity's error `off_BTCHW`. Measured against the
    data's own differences, not against zero: plain smoothness would reward clips that stand still.
    """
    error_BTCHW = off_BTCHW * times_BT[:, :, None, None, None]
    return error_BTCHW.diff(dim=1).square().flatten(1).mean(1)
