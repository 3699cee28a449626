"""What a field of training state is made of, and its fingerprint: equal bytes give equal ones, on whatever device."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = 2**24


@dataclass(frozen=True)
class Part:
    """Named tensors and plain data that belong together."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    plain: Any = None

    def digest(self, on_progress: Callable[[], None] = lambda: None) -> str:
        """SHA-256 over the plain data as JSON with sorted keys, and name, dtype, shape and bytes of each tensor in the
        order of the names."""
        found = hashlib.sha256(_text(self.plain).encode())
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            found.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            content = _bytes(tensor).numpy()
            for start in range(0, len(content), CHUNK_BYTES):
                found.update(content[start : start + CHUNK_BYTES].data)
                on_progress()
        return found.hexdigest()

    def equals(self, other: "Part") -> bool:
        """Whether both are the same to the last bit, a value that is not a number included."""
        return (
            _text(self.plain) == _text(other.plain)
            and self.tensors.keys() == other.tensors.keys()
            and all(_is_same(tensor, other.tensors[name]) for name, tensor in self.tensors.items())
        )


def _text(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True)


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_bytes(one), _bytes(other))


def _bytes(tensor: Tensor) -> Tensor:
    """The tensor's memory as bytes, on the CPU."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
