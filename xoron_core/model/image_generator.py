"""The diffusion transformer that predicts a picture's velocity in the autoencoder's latent space.

Shapes: B batch, C latent channels, H×W latent pixels, P patch side, N image tokens, L prompt tokens, D width,
G width of the prompt's states.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.model import ImageGeneratorConfig
from xoron_core.model.initialise import Initialised, draw_normal
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.layers.dit import DualStreamBlock, Modulation, TimeEmbedding
from xoron_core.model.layers.norms import modulate
from xoron_core.model.layers.rope import grid_rotary


@dataclass(frozen=True)
class ImageGeneratorOutput:
    """A prediction and the experts' balance loss (a scalar, weighted, zero where the balance is loss-free)."""

    velocity_BCHW: Tensor
    aux_loss: Tensor


def patchify(x_BCHW: Tensor, patch: int) -> Tensor:
    """[B, C, H, W] → [B, N, C·P·P], patches in row order."""
    return F.pixel_unshuffle(x_BCHW, patch).flatten(2).transpose(1, 2)


def unpatchify(x_BNC: Tensor, patch: int, height: int, width: int) -> Tensor:
    """The way back of `patchify`; height and width in latent pixels."""
    grid_BCHW = x_BNC.transpose(1, 2).reshape(len(x_BNC), -1, height // patch, width // patch)
    return F.pixel_shuffle(grid_BCHW, patch)


class ImageGenerator(Checkpointed, Initialised):
    """MoE-DiT for flow matching: x_t = (1 - t) · data + t · noise, velocity = noise - data."""

    def __init__(self, config: ImageGeneratorConfig, prompt_size: int, latent_channels: int = 4) -> None:
        super().__init__()
        self.config = config
        self.latent_channels = latent_channels
        hidden, values = config.hidden_size, latent_channels * config.patch_size**2
        self.patch_proj = nn.Linear(values, hidden)
        self.prompt_proj = nn.Linear(prompt_size, hidden)
        self.null_prompt_D = nn.Parameter(torch.empty(hidden))
        self.time_embedding = TimeEmbedding(hidden)
        self.pooled_proj = nn.Linear(hidden, hidden)
        self.blocks = nn.ModuleList(
            DualStreamBlock(config, last=index == config.num_layers - 1) for index in range(config.num_layers)
        )
        self.final_modulation = Modulation(hidden, 2)
        self.velocity_proj = nn.Linear(hidden, values)

    def init_own(self, generator: torch.Generator) -> None:
        """The first prediction is zero."""
        draw_normal(self.null_prompt_D, 1.0, generator)
        nn.init.zeros_(self.velocity_proj.weight)

    def forward(
        self,
        noisy_latents_BCHW: Tensor,
        t_B: Tensor,
        prompt_states_BLG: Tensor,
        prompt_mask_BL: Tensor | None = None,
    ) -> Tensor:
        """The velocity alone, [B, C, H, W]: see `predict`."""
        return self.predict(noisy_latents_BCHW, t_B, prompt_states_BLG, prompt_mask_BL).velocity_BCHW

    def predict(
        self,
        noisy_latents_BCHW: Tensor,
        t_B: Tensor,
        prompt_states_BLG: Tensor,
        prompt_mask_BL: Tensor | None = None,
        drop_prompt_B: Tensor | None = None,
    ) -> ImageGeneratorOutput:
        """Velocity at times `t_B` in [0, 1] (1 is noise).

        `prompt_mask_BL` is True where there is a prompt token (None: everywhere). A row without any, or where
        `drop_prompt_B` is True, gets the learned null prompt. Raises ValueError for latents that patches do not fill.
        """
        _, channels, height, width = noisy_latents_BCHW.shape
        patch = self.config.patch_size
        if channels != self.latent_channels or height % patch or width % patch:
            raise ValueError(
                f"latents of shape {tuple(noisy_latents_BCHW.shape)}: expected {self.latent_channels} channels and "
                f"sides that are multiples of {patch}; choose image_size a multiple of {8 * patch}"
            )
        x_BND = self.patch_proj(patchify(noisy_latents_BCHW, patch))
        states_BLD, mask_BL = self._prompt(prompt_states_BLG, prompt_mask_BL, drop_prompt_B)
        counts_B1 = mask_BL.sum(dim=1, keepdim=True)
        pooled_BD = (states_BLD * mask_BL.unsqueeze(-1)).sum(dim=1) / counts_B1
        condition_BD = F.silu(self.time_embedding(t_B) + self.pooled_proj(pooled_BD))
        seen_BJ = F.pad(mask_BL, (0, x_BND.shape[1]), value=True)
        rotary = grid_rotary(
            height // patch, width // patch, self.config.hidden_size // self.config.num_heads, x_BND.device
        )
        prompt_BLD = states_BLD
        aux_loss = x_BND.new_zeros((), dtype=torch.float32)
        for block in self.blocks:
            assert isinstance(block, DualStreamBlock)
            x_BND, prompt_BLD, stats = self.run_layer(
                block, x_BND, prompt_BLD, states_BLD, condition_BD, seen_BJ, rotary
            )
            block.experts.record(stats)
            aux_loss = aux_loss + stats.aux_loss
        x_BND = self.velocity_proj(modulate(x_BND, *self.final_modulation(condition_BD)))
        return ImageGeneratorOutput(unpatchify(x_BND, patch, height, width), aux_loss)

    def _prompt(
        self, states_BLG: Tensor, mask_BL: Tensor | None, drop_prompt_B: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Projected states and mask, with the null prompt as the single token of rows without one."""
        states_BLD = self.prompt_proj(states_BLG)
        if mask_BL is None:
            mask_BL = torch.ones(states_BLD.shape[:2], dtype=torch.bool, device=states_BLD.device)
        mask_BL = mask_BL.bool()
        without_B1 = ~mask_BL.any(dim=1, keepdim=True)
        if drop_prompt_B is not None:
            without_B1 = without_B1 | drop_prompt_B.unsqueeze(1)
        states_BLD = torch.where(without_B1.unsqueeze(-1), self.null_prompt_D.to(states_BLD.dtype), states_BLD)
        first_L = torch.arange(mask_BL.shape[1], device=mask_BL.device) == 0
        return states_BLD, torch.where(without_B1, first_L, mask_BL)
