"""Flow matching (arXiv 2210.02747, 2209.03003): straight paths from data at t = 0 to noise at t = 1.

Shapes: B batch, T frames, C latent channels, H×W latent pixels, L prompt tokens, G width of the prompt's states; data,
noise and velocities are [B, C, H, W] of pictures or [B, T, C, H, W] of clips.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from xoron_core.model.flow_transformer import FlowTransformer

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x, t) → velocity of x's shape; t is [B], or [B, T] where frames have times of their own."""


def frame_times(t_B: Tensor, num_frames: int, first_frame_B: Tensor) -> Tensor:
    """The time of every frame, [B, T]: a clip's own, but 0 for the first frame of clips whose first frame is given."""
    t_BT = t_B.unsqueeze(1).repeat(1, num_frames)
    t_BT[:, 0] = torch.where(first_frame_B, 0.0, t_B)
    return t_BT


def interpolate(data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) · data + t · noise; t is [B] or [B, T]."""
    t = t.view(*t.shape, *(1,) * (data.dim() - t.dim()))
    return (1 - t) * data + t * noise


def flow_target(data: Tensor, noise: Tensor) -> Tensor:
    """What the generator learns: the path's velocity, noise - data."""
    return noise - data


def integrate(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Euler's method from noise at t = 1 to data at t = 0 in equal steps."""
    x = noise
    for step in range(steps):
        t_B = torch.full((len(x),), 1 - step / steps, dtype=torch.float32, device=x.device)
        x = x - velocity(x, t_B) / steps
    return x


def hold_first_frame(velocity: Velocity) -> Velocity:
    """The velocity of clips whose first frame is clean already: it has time 0 and does not move."""

    def held(x_BTCHW: Tensor, t_B: Tensor) -> Tensor:
        t_BT = frame_times(t_B, x_BTCHW.shape[1], torch.ones_like(t_B, dtype=torch.bool))
        moving = velocity(x_BTCHW, t_BT)[:, 1:]
        return torch.cat((torch.zeros_like(x_BTCHW[:, :1]), moving), dim=1)

    return held


def guided_velocity(
    generator: FlowTransformer, prompt_states_BLG: Tensor, prompt_mask_BL: Tensor | None, guidance_scale: float
) -> Velocity:
    """Classifier-free guidance (arXiv 2207.12598): null + scale · (prompted - null), both in one pass; at scale 1 the
    prompted prediction alone."""
    batch_size, num_tokens = prompt_states_BLG.shape[:2]
    device = prompt_states_BLG.device
    if prompt_mask_BL is None:
        prompt_mask_BL = torch.ones((batch_size, num_tokens), dtype=torch.bool, device=device)
    if guidance_scale == 1:
        return lambda x, t: generator.predict(x, t, prompt_states_BLG, prompt_mask_BL).velocity
    states = torch.cat((prompt_states_BLG, prompt_states_BLG))
    mask = torch.cat((prompt_mask_BL, prompt_mask_BL))
    drop = torch.arange(2 * batch_size, device=device) >= batch_size

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        both = generator.predict(torch.cat((x, x)), torch.cat((t, t)), states, mask, drop)
        prompted, null = both.velocity.chunk(2)
        return null + guidance_scale * (prompted - null)

    return velocity


@torch.no_grad()
def sample_flow(
    flow_transformer: FlowTransformer,
    prompt_states_BLG: Tensor,
    prompt_mask_BL: Tensor | None,
    *,
    latent_shape: tuple[int, ...],
    steps: int,
    guidance_scale: float,
    generator: torch.Generator,
    first_frame_BCHW: Tensor | None = None,
) -> Tensor:
    """Latents of unit variance for each prompt, [B, *latent_shape]; clips begin with `first_frame_BCHW` where given.

    Noise is drawn on `generator`'s own device and moved. Call it in eval mode, or the experts' load counts the sample.
    """
    shape = (len(prompt_states_BLG), *latent_shape)
    x = torch.randn(shape, generator=generator, device=generator.device).to(prompt_states_BLG.device)
    velocity = guided_velocity(flow_transformer, prompt_states_BLG, prompt_mask_BL, guidance_scale)
    if first_frame_BCHW is not None:
        x[:, 0] = first_frame_BCHW
        velocity = hold_first_frame(velocity)
    return integrate(velocity, x, steps)
