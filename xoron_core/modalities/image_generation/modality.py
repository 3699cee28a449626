"""Image generation: flow matching between latents and noise, conditioned on the caption's states from the decoder.

x_t = (1 − t)·x0 + t·noise, target noise − x0 (rectified flow, arXiv 2209.03003). Shapes: B pictures, C latent
channels, H × W latent pixels, L caption tokens.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from xoron_core.contract.modalities.image_generation import ImageGenerationConfig
from xoron_core.contract.special_tokens import BOS
from xoron_core.data.media import read_picture
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.modalities.base import Artifact, Batch, LossTerms, Modality
from xoron_core.model.autoencoder import DOWNSAMPLING, AutoencoderConfig
from xoron_core.model.flow import flow_target, interpolate, sample_flow
from xoron_core.model.xoron import XoronMultimodalModel

PROMPT_MULTIPLE = 8
"""Captions of a batch are padded to a multiple of this: few shapes, little padding."""


@dataclass(frozen=True)
class PictureSample:
    """A picture [S, S, 3] of bytes and the ids of its caption."""

    origin: SampleOrigin
    pixels: npt.NDArray[np.uint8]
    prompt_ids: tuple[int, ...]

    @property
    def length(self) -> int:
        """One: nothing is packed."""
        return 1

    def piece(self, start: int, stop: int) -> "PictureSample":
        """Itself: a picture has no parts."""
        return self


class ImageGeneration(Modality[PictureSample, str]):
    """Captions to pictures."""

    name: ClassVar[str] = "image_generation"
    components: ClassVar[frozenset[str]] = frozenset({"llm", "generator", "autoencoder"})
    eval_repeats: ClassVar[int] = 4

    @property
    def objective(self) -> Mapping[str, float]:
        """The flow loss, and the experts' balance loss where that is how they are balanced."""
        balanced_by_loss = self.run_config.model.image_generator.moe.balance == "aux_loss"
        return {"loss": 1.0, "moe_aux": 1.0} if balanced_by_loss else {"loss": 1.0}

    @property
    def config(self) -> ImageGenerationConfig:
        """The section `modalities.image_generation`."""
        return self.run_config.modalities.image_generation

    def prepare(self, record: Record, origin: SampleOrigin) -> PictureSample:
        """The picture that the field `image` names and the field `caption`.

        Raises: DataError when the picture cannot be read or there is no caption.
        """
        prompt_ids = self._prompt_ids(record.text("caption"))
        return PictureSample(origin, read_picture(record, "image", self.config.image_size), prompt_ids)

    def _prompt_ids(self, caption: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(BOS + caption)[: self.config.max_prompt_tokens])

    def collate(self, samples: Sequence[PictureSample]) -> Batch:
        """`images` [B, 3, S, S] in [-1, 1], `prompt_ids` and `prompt_mask` [B, L], and what is drawn from each
        sample's seed: `times` [B], `noise` and `posterior_noise` [B, C, H, W], `drop_prompt` [B]."""
        pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples]))
        draws = [self._draw(sample.origin) for sample in samples]
        prompt_ids, prompt_mask = self._pad([sample.prompt_ids for sample in samples])
        return Batch(
            modality=self.name,
            tensors={
                "images": pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0,
                "prompt_ids": prompt_ids,
                "prompt_mask": prompt_mask,
                "times": torch.stack([draw[0] for draw in draws]),
                "drop_prompt": torch.stack([draw[1] for draw in draws]),
                "noise": torch.stack([draw[2] for draw in draws]),
                "posterior_noise": torch.stack([draw[3] for draw in draws]),
            },
            counts={"loss": float(len(samples)), "moe_aux": 1.0},
            num_samples=len(samples),
            num_tokens=0,
            sample_ids=tuple(sample.origin.id for sample in samples),
        )

    def _draw(self, origin: SampleOrigin) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Time, whether the caption is dropped, noise, posterior noise."""
        generator = torch.Generator().manual_seed(origin.seed)
        side = self.config.image_size // DOWNSAMPLING
        part, num_parts = origin.stratum
        time = (torch.rand((), generator=generator) + part) / num_parts
        drop = torch.rand((), generator=generator) < self.config.cfg_dropout_rate
        noise, posterior_noise = torch.randn((2, AutoencoderConfig.latent_channels, side, side), generator=generator)
        return time, drop, noise, posterior_noise

    def _pad(self, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        longest = max(len(prompt) for prompt in prompts)
        length = -(-longest // PROMPT_MULTIPLE) * PROMPT_MULTIPLE
        ids = torch.full((len(prompts), length), self.tokenizer.pad_id)
        mask = torch.zeros((len(prompts), length), dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
            mask[row, : len(prompt)] = True
        return ids, mask

    def loss(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        """Mean squared error of the predicted velocity, a number for each picture."""
        tensors = batch.tensors
        latents_BCHW = model.encode_images(tensors["images"], tensors["posterior_noise"])
        states_BLD = model.encode_text(tensors["prompt_ids"], tensors["prompt_mask"])
        noisy_BCHW = interpolate(latents_BCHW, tensors["noise"], tensors["times"])
        output = model.generator.predict(
            noisy_BCHW, tensors["times"], states_BLD, tensors["prompt_mask"], tensors["drop_prompt"]
        )
        target_BCHW = flow_target(latents_BCHW, tensors["noise"])
        errors_B = (output.velocity.float() - target_BCHW.float()).square().flatten(1).mean(1)
        one = torch.ones((), device=errors_B.device)
        terms = {"loss": (errors_B.sum(), one * batch.num_samples)}
        if "moe_aux" in self.objective:
            terms["moe_aux"] = (output.aux_loss, one)
        return terms

    def for_evaluation(self, batch: Batch) -> Batch:
        """With every caption kept."""
        kept = {**batch.tensors, "drop_prompt": torch.zeros_like(batch.tensors["drop_prompt"])}
        return replace(batch, tensors=kept)

    def with_condition_of(self, sample: PictureSample, other: PictureSample) -> PictureSample:
        """The picture with another's caption."""
        return replace(sample, prompt_ids=other.prompt_ids)

    def prompts(self, held_out: Sequence[PictureSample]) -> tuple[str, ...]:
        """Captions to draw."""
        return self.config.sample_prompts

    def sample(self, model: XoronMultimodalModel, prompt: str, generator: torch.Generator) -> tuple[Artifact]:
        """A picture of the caption, as PNG."""
        device = next(model.parameters()).device
        ids, mask = self._pad([self._prompt_ids(prompt)])
        states = model.encode_text(ids.to(device), mask.to(device))
        side = self.config.image_size // DOWNSAMPLING
        latents = sample_flow(
            model.generator,
            states,
            mask.to(device),
            latent_shape=(AutoencoderConfig.latent_channels, side, side),
            steps=self.config.sampling_steps,
            guidance_scale=self.config.guidance_scale,
            generator=generator,
        )
        pixels = model.decode_images(latents)[0].float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()).save(buffer, format="PNG")
        return (Artifact(buffer.getvalue(), "image/png", "png", prompt),)
