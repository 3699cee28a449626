"""Flow matching (arXiv 2210.02747, 2209.03003): straight paths from data at t = 0 to noise at t = 1.

Shapes: B batch, C latent channels, H×W latent pixels, L prompt tokens, G width of the prompt's states.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from xoron_core.model.image_generator import ImageGenerator

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x_BCHW, t_B) → velocity_BCHW."""


def interpolate(data_BCHW: Tensor, noise_BCHW: Tensor, t_B: Tensor) -> Tensor:
    """x_t = (1 - t) · data + t · noise."""
    t_B111 = t_B.view(-1, *(1,) * (data_BCHW.dim() - 1))
    return (1 - t_B111) * data_BCHW + t_B111 * noise_BCHW


def flow_target(data_BCHW: Tensor, noise_BCHW: Tensor) -> Tensor:
    """What the generator learns: the path's velocity, noise - data."""
    return noise_BCHW - data_BCHW


def integrate(velocity: Velocity, noise_BCHW: Tensor, steps: int) -> Tensor:
    """Euler's method from noise at t = 1 to data at t = 0 in equal steps."""
    x_BCHW = noise_BCHW
    for step in range(steps):
        t_B = torch.full((len(x_BCHW),), 1 - step / steps, dtype=torch.float32, device=x_BCHW.device)
        x_BCHW = x_BCHW - velocity(x_BCHW, t_B) / steps
    return x_BCHW


def guided_velocity(
    generator: ImageGenerator, prompt_states_BLG: Tensor, prompt_mask_BL: Tensor | None, guidance_scale: float
) -> Velocity:
    """Classifier-free guidance (arXiv 2207.12598): null + scale · (prompted - null), both in one pass; at scale 1 the
    prompted prediction alone."""
    batch_size, num_tokens = prompt_states_BLG.shape[:2]
    device = prompt_states_BLG.device
    if prompt_mask_BL is None:
        prompt_mask_BL = torch.ones((batch_size, num_tokens), dtype=torch.bool, device=device)
    if guidance_scale == 1:
        return lambda x_BCHW, t_B: generator.predict(x_BCHW, t_B, prompt_states_BLG, prompt_mask_BL).velocity_BCHW
    states = torch.cat((prompt_states_BLG, prompt_states_BLG))
    mask = torch.cat((prompt_mask_BL, prompt_mask_BL))
    drop = torch.arange(2 * batch_size, device=device) >= batch_size

    def velocity(x_BCHW: Tensor, t_B: Tensor) -> Tensor:
        both = generator.predict(torch.cat((x_BCHW, x_BCHW)), torch.cat((t_B, t_B)), states, mask, drop)
        prompted, null = both.velocity_BCHW.chunk(2)
        return null + guidance_scale * (prompted - null)

    return velocity


@torch.no_grad()
def sample_flow(
    image_generator: ImageGenerator,
    prompt_states_BLG: Tensor,
    prompt_mask_BL: Tensor | None,
    *,
    height: int,
    width: int,
    steps: int,
    guidance_scale: float,
    generator: torch.Generator,
) -> Tensor:
    """Latents of unit variance for each prompt, [B, C, height, width] (in latent pixels).

    Noise is drawn on `generator`'s own device and moved. Call it in eval mode, or the experts' load counts the sample.
    """
    shape = (len(prompt_states_BLG), image_generator.latent_channels, height, width)
    noise_BCHW = torch.randn(shape, generator=generator, device=generator.device).to(prompt_states_BLG.device)
    velocity = guided_velocity(image_generator, prompt_states_BLG, prompt_mask_BL, guidance_scale)
    return integrate(velocity, noise_BCHW, steps)
