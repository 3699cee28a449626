"""Image generation: flow matching of a picture from its caption.

Shapes: B pictures, S side of a square picture, C latent channels, H × W latent pixels, L caption tokens.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from xoron_core.contract.config.generators import GeneratorConfig
from xoron_core.contract.modalities.image_generation import ImageGenerationConfig
from xoron_core.data.media import read_picture
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.modalities.base import Artifact, Batch, LossTerms
from xoron_core.modalities.flow_matching import CaptionedSample, FlowMatching, latent_size, to_bytes
from xoron_core.modalities.picture_files import picture_artifact
from xoron_core.model.flow import flow_target, interpolate
from xoron_core.model.flow_transformer import FlowTransformer
from xoron_core.model.xoron import XoronMultimodalModel


class ImageGeneration(FlowMatching[str]):
    """Captions to pictures."""

    name: ClassVar[str] = "image_generation"
    components: ClassVar[frozenset[str]] = frozenset({"llm", "generator", "autoencoder"})
    media_key: ClassVar[str] = "images"

    @property
    def config(self) -> ImageGenerationConfig:
        """The section `modalities.image_generation`."""
        return self.run_config.modalities.image_generation

    @property
    def generator_config(self) -> GeneratorConfig:
        """The image generator's."""
        return self.run_config.model.image_generator

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return latent_size(self.config.image_size)

    def generator_of(self, model: XoronMultimodalModel) -> FlowTransformer:
        """The image generator."""
        return model.generator

    def prepare(self, record: Record, origin: SampleOrigin) -> CaptionedSample:
        """The picture that the field `image` names and the field `caption`.

        Raises: DataError when the picture cannot be read or there is no caption.
        """
        caption = record.text("caption")
        pixels = read_picture(record, "image", self.config.image_size)
        return self.captioned(origin, pixels, caption)

    def loss(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        """Mean squared error of the predicted velocity, a number for each picture."""
        tensors = batch.tensors
        latents_BCHW = model.encode_images(tensors["images"], tensors["posterior_noise"])
        states_BLD = model.encode_text(tensors["prompt_ids"], tensors["prompt_mask"])
        found = flow_errors(
            model.generator,
            latents_BCHW,
            tensors["noise"],
            tensors["times"],
            states_BLD,
            tensors["prompt_mask"],
            tensors["drop_prompt"],
        )
        one = torch.ones((), device=found.errors_B.device)
        terms = {"loss": (found.errors_B.sum(), one * batch.num_samples)}
        if "moe_aux" in self.objective:
            terms["moe_aux"] = (found.aux_loss, one)
        return terms

    def prompts(self, held_out: Sequence[CaptionedSample]) -> tuple[str, ...]:
        """Captions to draw."""
        return self.config.sample_prompts

    def sample(self, model: XoronMultimodalModel, prompt: str, generator: torch.Generator) -> tuple[Artifact, ...]:
        """A picture of the caption, as PNG."""
        images_13HW = model.decode_images(self.draw_latents(model, prompt, generator))
        return (picture_artifact(to_bytes(images_13HW[0]), prompt),)


class FlowErrors(NamedTuple):
    """What pictures' velocities are off by, and what the experts' balance asks for."""

    errors_B: Tensor
    """Mean squared error of each picture."""
    aux_loss: Tensor
    """Zero where the balance is loss-free."""


def flow_errors(
    generator: FlowTransformer,
    latents_BCHW: Tensor,
    noise_BCHW: Tensor,
    times_B: Tensor,
    states_BLD: Tensor,
    prompt_mask_BL: Tensor | None,
    drop_prompt_B: Tensor | None = None,
) -> FlowErrors:
    """The flow loss of each picture, at a time of its own between data and noise."""
    noisy_BCHW = interpolate(latents_BCHW, noise_BCHW, times_B)
    prediction = generator.predict(noisy_BCHW, times_B, states_BLD, prompt_mask_BL, drop_prompt_B)
    target_BCHW = flow_target(latents_BCHW, noise_BCHW)
    errors_B = (prediction.velocity.float() - target_BCHW.float()).square().flatten(1).mean(1)
    return FlowErrors(errors_B, prediction.aux_loss)
