"""What the generators of pictures and of clips share: patches in, prompt and time as condition, velocities out.

Shapes: B batch, C latent channels, H×W latent pixels, P patch side, N picture tokens, L prompt tokens, D width,
G width of the prompt's states; … what lies between batch and channels (nothing, or the frames of a clip).
"""

from abc import abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.generators import GeneratorConfig
from xoron_core.model.initialise import Initialised, draw_normal
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.layers.dit import DualStreamBlock, Modulation, TimeEmbedding
from xoron_core.model.layers.norms import modulate
from xoron_core.model.layers.space_time import SpaceTimeBlock


class FlowPrediction(NamedTuple):
    """What a generator says of noisy latents."""

    velocity: Tensor
    """noise - data, of the latents' shape."""
    aux_loss: Tensor
    """The experts' balance loss: a scalar, weighted, zero where the balance is loss-free."""


class Prompt(NamedTuple):
    """A batch of prompts as the blocks read them; rows without one hold the null prompt."""

    states_BLD: Tensor
    mask_BL: Tensor
    pooled_BD: Tensor
    """Mean of the states, projected: part of the blocks' condition."""


def patchify(x_BCHW: Tensor, patch: int) -> Tensor:
    """[B, C, H, W] → [B, N, C·P·P], patches in row order."""
    return F.pixel_unshuffle(x_BCHW, patch).flatten(2).transpose(1, 2)


def unpatchify(x_BNC: Tensor, patch: int, height: int, width: int) -> Tensor:
    """The way back of `patchify`; height and width in latent pixels."""
    grid_BCHW = x_BNC.transpose(1, 2).reshape(len(x_BNC), -1, height // patch, width // patch)
    return F.pixel_shuffle(grid_BCHW, patch)


class FlowTransformer(Checkpointed, Initialised):
    """MoE-DiT for flow matching: x_t = (1 - t) · data + t · noise, velocity = noise - data."""

    def __init__(
        self,
        config: GeneratorConfig,
        block: type[DualStreamBlock | SpaceTimeBlock],
        prompt_size: int,
        latent_channels: int,
    ) -> None:
        super().__init__()
        hidden_size = config.hidden_size
        self.patch_size = config.patch_size
        self.latent_channels = latent_channels
        self.head_width = hidden_size // config.num_heads
        values = latent_channels * config.patch_size**2
        self.patch_proj = nn.Linear(values, hidden_size)
        self.prompt_proj = nn.Linear(prompt_size, hidden_size)
        self.null_prompt_D = nn.Parameter(torch.empty(hidden_size))
        self.time_embedding = TimeEmbedding(hidden_size)
        self.pooled_proj = nn.Linear(hidden_size, hidden_size)
        self.final_modulation = Modulation(hidden_size, 2)
        self.velocity_proj = nn.Linear(hidden_size, values)
        last = config.num_layers - 1
        self.blocks = nn.ModuleList(
            block(hidden_size, config.num_heads, config.moe, last=index == last) for index in range(config.num_layers)
        )

    def init_own(self, generator: torch.Generator) -> None:
        """The first prediction is zero."""
        draw_normal(self.null_prompt_D, 1.0, generator)
        nn.init.zeros_(self.velocity_proj.weight)

    def forward(
        self, noisy_latents: Tensor, t_B: Tensor, prompt_states_BLG: Tensor, prompt_mask_BL: Tensor | None = None
    ) -> Tensor:
        """The velocity alone: see `predict`."""
        return self.predict(noisy_latents, t_B, prompt_states_BLG, prompt_mask_BL).velocity

    @abstractmethod
    def predict(
        self,
        noisy_latents: Tensor,
        t_B: Tensor,
        prompt_states_BLG: Tensor,
        prompt_mask_BL: Tensor | None = None,
        drop_prompt_B: Tensor | None = None,
    ) -> FlowPrediction:
        """Velocity of latents [B, …, C, H, W] at times `t_B` in [0, 1] (1 is noise).

        `prompt_mask_BL` is True where there is a prompt token (None: everywhere). A row without any, or where
        `drop_prompt_B` is True, gets the learned null prompt. Raises ValueError for latents that patches do not fill.
        """

    def embed_latents(self, latents_BCHW: Tensor) -> Tensor:
        """[B, C, H, W] → tokens [B, N, D]. Raises ValueError for latents that patches do not fill."""
        _, channels, height, width = latents_BCHW.shape
        patch = self.patch_size
        if channels != self.latent_channels or height % patch or width % patch:
            raise ValueError(
                f"latents of shape {tuple(latents_BCHW.shape)}: expected {self.latent_channels} channels and "
                f"sides that are multiples of {patch}; choose a picture size that is a multiple of {8 * patch}"
            )
        return self.patch_proj(patchify(latents_BCHW, patch))  # type: ignore[no-any-return]

    def embed_prompt(self, states_BLG: Tensor, mask_BL: Tensor | None, drop_prompt_B: Tensor | None) -> Prompt:
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
        mask_BL = torch.where(without_B1, first_L, mask_BL)
        pooled_BD = (states_BLD * mask_BL.unsqueeze(-1)).sum(dim=1) / mask_BL.sum(dim=1, keepdim=True)
        return Prompt(states_BLD, mask_BL, self.pooled_proj(pooled_BD))

    def run_blocks(self, x_BND: Tensor, prompt_BLD: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
        """Tokens after every block, and the summed balance loss; `rest` goes to each block as it is."""
        aux_loss = x_BND.new_zeros((), dtype=torch.float32)
        for block in self.blocks:
            assert isinstance(block, DualStreamBlock | SpaceTimeBlock)
            x_BND, prompt_BLD, stats = self.run_layer(block, x_BND, prompt_BLD, *rest)
            block.experts.record(stats)
            aux_loss = aux_loss + stats.aux_loss
        return x_BND, aux_loss

    def read_velocity(self, x_BND: Tensor, condition_BD: Tensor, height: int, width: int) -> Tensor:
        """Tokens → velocity [B, C, height, width] (latent pixels)."""
        values_BNC = self.velocity_proj(modulate(x_BND, *self.final_modulation(condition_BD)))
        return unpatchify(values_BNC, self.patch_size, height, width)
