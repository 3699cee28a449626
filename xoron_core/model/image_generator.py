"""The diffusion transformer that predicts a picture's velocity in the autoencoder's latent space.

Shapes: B batch, C latent channels, H×W latent pixels, N image tokens, L prompt tokens, D width, G width of the prompt's
states.
"""

import torch.nn.functional as F
from torch import Tensor

from xoron_core.contract.config.generators import ImageGeneratorConfig
from xoron_core.model.flow_transformer import FlowPrediction, FlowTransformer
from xoron_core.model.layers.dit import DualStreamBlock
from xoron_core.model.layers.rope import grid_rotary


class ImageGenerator(FlowTransformer):
    """MoE-DiT over the patches of a picture."""

    def __init__(self, config: ImageGeneratorConfig, prompt_size: int, latent_channels: int = 4) -> None:
        super().__init__(config, DualStreamBlock, prompt_size, latent_channels)

    def predict(
        self,
        noisy_latents: Tensor,
        t_B: Tensor,
        prompt_states_BLG: Tensor,
        prompt_mask_BL: Tensor | None = None,
        drop_prompt_B: Tensor | None = None,
    ) -> FlowPrediction:
        """Velocity of latents [B, C, H, W]; see `FlowTransformer.predict`."""
        height, width = noisy_latents.shape[-2:]
        x_BND = self.embed_latents(noisy_latents)
        prompt = self.embed_prompt(prompt_states_BLG, prompt_mask_BL, drop_prompt_B)
        condition_BD = F.silu(self.time_embedding(t_B) + prompt.pooled_BD)
        seen_BJ = F.pad(prompt.mask_BL, (0, x_BND.shape[1]), value=True)
        patch = self.patch_size
        rotary = grid_rotary(height // patch, width // patch, self.head_width, x_BND.device)
        x_BND, aux_loss = self.run_blocks(x_BND, prompt.states_BLD, prompt.states_BLD, condition_BD, seen_BJ, rotary)
        return FlowPrediction(self.read_velocity(x_BND, condition_BD, height, width), aux_loss)
