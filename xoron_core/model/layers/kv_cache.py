"""What generation keeps of the tokens it has seen. Shapes: B batch, S tokens so far, C cached values a token."""

import torch
from torch import Tensor


class KeyValueCache:
    """One buffer a layer: compressed latents for latent attention, keys and values for grouped-query attention."""

    def __init__(self, num_layers: int, batch_size: int, max_tokens: int, width: int, like: Tensor) -> None:
        """`like` gives dtype and device; `width` is C, the layers' `cache_width`."""
        shape = (num_layers, batch_size, max_tokens, width)
        self._values_LBSC = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.num_tokens = 0
        """Tokens in the cache; the caller adds to it after a pass through all layers."""

    def append(self, layer: int, new_BTC: Tensor, window: int | None) -> Tensor:
        """Store a layer's new values and give what the newest token may see, [B, at most window, C]."""
        end = self.num_tokens + new_BTC.shape[1]
        self._values_LBSC[layer, :, self.num_tokens : end] = new_BTC
        start = 0 if window is None else max(0, end - window)
        return self._values_LBSC[layer, :, start:end]
