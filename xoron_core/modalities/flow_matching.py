"""Flow matching from captions: what image and video generation have in common.

x_t = (1 − t)·x0 + t·noise, target noise − x0 (rectified flow, arXiv 2209.03003). Shapes: B samples, S side of a square
picture, C latent channels, H × W latent pixels, L caption tokens; … what lies between batch and channels (nothing, or
the frames of a clip).
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xoron_core.contract.config.generators import GeneratorConfig
from xoron_core.contract.modalities.flow_matching import FlowMatchingConfig
from xoron_core.data.records import SampleOrigin
from xoron_core.modalities.base import Batch, Modality
from xoron_core.model.autoencoder import DOWNSAMPLING, AutoencoderConfig
from xoron_core.model.flow import sample_flow
from xoron_core.model.flow_transformer import FlowTransformer
from xoron_core.model.prompts import padded_prompts, prompt_ids
from xoron_core.model.xoron import XoronMultimodalModel

P = TypeVar("P")


@dataclass(frozen=True)
class CaptionedSample:
    """A picture [S, S, 3] or a clip [T, S, S, 3] of bytes, its caption and the ids of that, and how many tokens its
    latents make."""

    origin: SampleOrigin
    pixels: npt.NDArray[np.uint8]
    caption: str
    prompt_ids: tuple[int, ...]
    num_patches: int

    @property
    def length(self) -> int:
        """Tokens of latents and caption."""
        return self.num_patches + len(self.prompt_ids)

    @property
    def shape(self) -> tuple[int, ...]:
        """Pictures of one size are stacked."""
        return self.pixels.shape

    def piece(self, start: int, stop: int) -> "CaptionedSample":
        """Itself: it has no parts."""
        return self


class FlowMatching(Modality[CaptionedSample, P]):
    """Captions to what the subclass prepares and encodes."""

    eval_repeats: ClassVar[int] = 4
    media_key: ClassVar[str]
    """The batch's name for what is to be made."""

    @property
    @abstractmethod
    def config(self) -> FlowMatchingConfig:
        """Its own section of the configuration."""

    @property
    @abstractmethod
    def generator_config(self) -> GeneratorConfig:
        """What its generator is built by."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """Latents of a sample, (…, C, H, W)."""

    @abstractmethod
    def generator_of(self, model: XoronMultimodalModel) -> FlowTransformer:
        """Its generator."""

    @property
    def objective(self) -> Mapping[str, float]:
        """The flow loss, and the experts' balance loss where that is how they are balanced."""
        return {"loss": 1.0, "moe_aux": 1.0} if self.generator_config.moe.balance == "aux_loss" else {"loss": 1.0}

    def prompt_ids(self, caption: str) -> tuple[int, ...]:
        """The ids of a caption, cut to the longest there may be."""
        return prompt_ids(self.tokenizer, caption, self.config.max_prompt_tokens)

    def captioned(self, origin: SampleOrigin, pixels: npt.NDArray[np.uint8], caption: str) -> CaptionedSample:
        """The sample of a picture or clip and its caption."""
        *times, _, height, width = self.latent_shape
        num_patches = prod(times) * height * width // self.generator_config.patch_size**2
        return CaptionedSample(origin, pixels, caption, self.prompt_ids(caption), num_patches)

    def collate(self, samples: Sequence[CaptionedSample]) -> Batch:
        """What is to be made, [B, …, 3, S, S] in [-1, 1], `prompt_ids` and `prompt_mask` [B, L], and what is drawn
        from each sample's seed (see `draw`)."""
        pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples]))
        draws = [self.draw(sample.origin) for sample in samples]
        prompt_ids, prompt_mask = self.padded([sample.prompt_ids for sample in samples])
        return Batch(
            modality=self.name,
            tensors={
                self.media_key: pixels.movedim(-1, -3).float().div_(127.5).sub_(1.0),
                "prompt_ids": prompt_ids,
                "prompt_mask": prompt_mask,
                **{name: torch.stack([draw[name] for draw in draws]) for name in draws[0]},
            },
            counts={name: 1.0 if name == "moe_aux" else float(len(samples)) for name in self.objective},
            num_samples=len(samples),
            num_tokens=0,
            sample_ids=tuple(sample.origin.id for sample in samples),
        )

    def draw(self, origin: SampleOrigin) -> dict[str, Tensor]:
        """Everything random about a sample: `times` and `drop_prompt`, scalars, `noise` and `posterior_noise`, of the
        latents' shape."""
        generator = torch.Generator().manual_seed(origin.seed)
        part, num_parts = origin.stratum
        time = (torch.rand((), generator=generator) + part) / num_parts
        drop = torch.rand((), generator=generator) < self.config.cfg_dropout_rate
        noise, posterior_noise = torch.randn((2, *self.latent_shape), generator=generator)
        return {"times": time, "drop_prompt": drop, "noise": noise, "posterior_noise": posterior_noise}

    def padded(self, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        """Ids [B, L], padded on the right, and where there are some (True)."""
        return padded_prompts(prompts, self.tokenizer.pad_id)

    def for_evaluation(self, batch: Batch) -> Batch:
        """With every caption kept."""
        kept = {**batch.tensors, "drop_prompt": torch.zeros_like(batch.tensors["drop_prompt"])}
        return replace(batch, tensors=kept)

    def with_condition_of(self, sample: CaptionedSample, other: CaptionedSample) -> CaptionedSample:
        """The picture or clip with another's caption."""
        return replace(sample, caption=other.caption, prompt_ids=other.prompt_ids)

    def draw_latents(
        self,
        model: XoronMultimodalModel,
        caption: str,
        generator: torch.Generator,
        first_frame_BCHW: Tensor | None = None,
    ) -> Tensor:
        """Latents [1, …, C, H, W] that the model makes of a caption, and of a first frame where there is one."""
        device = next(model.parameters()).device
        ids, mask = (tensor.to(device) for tensor in self.padded([self.prompt_ids(caption)]))
        return sample_flow(
            self.generator_of(model),
            model.encode_text(ids, mask),
            mask,
            latent_shape=self.latent_shape,
            steps=self.config.sampling_steps,
            guidance_scale=self.config.guidance_scale,
            generator=generator,
            first_frame_BCHW=first_frame_BCHW,
        )


def latent_size(size: int) -> tuple[int, int, int]:
    """Latents (C, H, W) of a square picture of `size` pixels a side."""
    return AutoencoderConfig.latent_channels, size // DOWNSAMPLING, size // DOWNSAMPLING


def to_bytes(pixels: Tensor) -> npt.NDArray[np.uint8]:
    """Pictures [..., 3, S, S] in [-1, 1] → bytes [..., S, S, 3]."""
    levels = pixels.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    made: npt.NDArray[np.uint8] = levels.movedim(-3, -1).cpu().numpy()
    return made
