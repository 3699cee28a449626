"""The image backbone: a SigLIP vision tower (arXiv 2303.15343) as transformers has it, without its pooling head.

Shapes: B pictures, H × W pixels in [-1, 1], N patches, D width.
"""

import torch
from torch import Tensor

from xoron_core.contract.config.vision import VisionEncoderConfig
from xoron_core.model.initialise import Initialised
from xoron_core.model.layers.checkpointing import Checkpointed


class VisionEncoder(Checkpointed, Initialised):
    """Pictures to patches. What makes fewer tokens of them is a component of its own, `ImageCompressor`: video, which
    goes on from the patches of every frame, does not need it."""

    def __init__(self, config: VisionEncoderConfig) -> None:
        super().__init__()
        # takes seconds to import: only a model that sees pays for it
        from transformers import SiglipVisionConfig, SiglipVisionModel

        self.config = config
        self.vision_model = SiglipVisionModel(
            SiglipVisionConfig(
                image_size=config.image_size,
                patch_size=config.patch_size,
                hidden_size=config.hidden_size,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                intermediate_size=config.intermediate_size,
                vision_use_head=False,
            )
        )

    def init_own(self, generator: torch.Generator) -> None:
        """Number the patches, and scale what writes into the residual stream by 1/√(2 · layers)."""
        position_ids = self.vision_model.embeddings.position_ids
        position_ids.copy_(torch.arange(position_ids.shape[-1]))
        factor = (2 * self.config.num_layers) ** -0.5
        for name, parameter in self.vision_model.named_parameters():
            if name.endswith(("out_proj.weight", "fc2.weight")):
                parameter.mul_(factor)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Normalised states of the patches, [B, N, D], in row order, of pictures in [-1, 1].

        Raises: ValueError for pictures of another size than the configuration's.
        """
        size = self.config.image_size
        if images_B3HW.shape[1:] != (3, size, size):
            raise ValueError(
                f"pictures of shape {tuple(images_B3HW.shape)}: expected [B, 3, {size}, {size}]; resize them, or "
                "change model.vision_encoder.image_size"
            )
        pixels_B3HW = (images_B3HW + 1) / 2
        x_BND = self.vision_model.embeddings((pixels_B3HW - self.config.pixel_mean) / self.config.pixel_std)
        # layer by layer as in `SiglipVisionModel.forward`, recomputed as every other component does it
        for layer in self.vision_model.encoder.layers:
            x_BND = self.run_layer(layer, x_BND, None)
        normed_BND: Tensor = self.vision_model.post_layernorm(x_BND)
        return normed_BND
