"""The diffusion transformer that predicts a clip's velocity in the latent space of the pictures' autoencoder.

Shapes: B clips, T frames, F = B·T frames of all clips, C latent channels, H×W latent pixels, N tokens of a frame,
L prompt tokens, D width, G width of the prompt's states.
"""

import torch.nn.functional as F
from torch import Tensor

from xoron_core.contract.config.generators import VideoGeneratorConfig
from xoron_core.model.flow_transformer import FlowPrediction, FlowTransformer
from xoron_core.model.layers.space_time import SpaceTimeBlock, space_time_rotary


class VideoGenerator(FlowTransformer):
    """Factorised space-time MoE-DiT over patches of 1×P×P. What it says of a frame depends on no later one."""

    def __init__(self, config: VideoGeneratorConfig, prompt_size: int, latent_channels: int = 4) -> None:
        super().__init__(config, SpaceTimeBlock, prompt_size, latent_channels)

    def predict(
        self,
        noisy_latents: Tensor,
        t_B: Tensor,
        prompt_states_BLG: Tensor,
        prompt_mask_BL: Tensor | None = None,
        drop_prompt_B: Tensor | None = None,
    ) -> FlowPrediction:
        """Velocity of latents [B, T, C, H, W]; see `FlowTransformer.predict`.

        `t_B` may be [B, T], a time for each frame: a frame that is given clean has time 0.
        """
        batch_size, num_frames, _, height, width = noisy_latents.shape
        x_FND = self.embed_latents(noisy_latents.flatten(0, 1))
        prompt = self.embed_prompt(prompt_states_BLG, prompt_mask_BL, drop_prompt_B)
        t_BT = t_B.view(batch_size, -1).expand(-1, num_frames)
        time_BTD = self.time_embedding(t_BT.flatten()).view(batch_size, num_frames, -1)
        condition_FD = F.silu(time_BTD + prompt.pooled_BD.unsqueeze(1)).flatten(0, 1)
        prompt_FLD = prompt.states_BLD.repeat_interleave(num_frames, dim=0)
        seen_FJ = F.pad(prompt.mask_BL, (0, x_FND.shape[1]), value=True).repeat_interleave(num_frames, dim=0)
        patch = self.patch_size
        rotary = space_time_rotary(
            batch_size, num_frames, height // patch, width // patch, self.head_width, x_FND.device
        )
        x_FND, aux_loss = self.run_blocks(x_FND, prompt_FLD, prompt.states_BLD, condition_FD, seen_FJ, rotary)
        velocity_FCHW = self.read_velocity(x_FND, condition_FD, height, width)
        return FlowPrediction(velocity_FCHW.view(noisy_latents.shape), aux_loss)
