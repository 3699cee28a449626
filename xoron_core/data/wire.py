"""What a worker sends: objects whose tensors lie side by side in one buffer, which the receiver may choose (pinned).

A pipe and not shared memory: nothing is left behind by a process that is killed, and a message that is cut off is seen.
"""

import io
import pickle
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 64


class _Writer(pickle.Pickler):
    """Puts tensors aside, in order."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors: list[Tensor] = []
        self.num_bytes = 0

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Tensor):
            return None
        place = self.num_bytes
        self.tensors.append(obj.contiguous())
        self.num_bytes += -(-obj.numel() * obj.element_size() // ALIGNMENT) * ALIGNMENT
        return place, obj.dtype, tuple(obj.shape)


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, buffer: Tensor) -> None:
        super().__init__(file)
        self.buffer = buffer

    def persistent_load(self, pid: Any) -> Tensor:
        place, dtype, shape = pid
        count = torch.Size(shape).numel() * dtype.itemsize
        return self.buffer[place : place + count].view(dtype).view(shape)


def send(connection: Connection, message: Any) -> None:
    """Send an object of the data set's. Raises: OSError when nobody listens."""
    head = io.BytesIO()
    writer = _Writer(head)
    writer.dump(message)
    connection.send((head.getvalue(), writer.num_bytes))
    if writer.num_bytes:
        buffer = torch.zeros(writer.num_bytes, dtype=torch.uint8)
        at = 0
        for tensor in writer.tensors:
            data = tensor.view(-1).view(torch.uint8)
            buffer[at : at + len(data)] = data
            at += -(-len(data) // ALIGNMENT) * ALIGNMENT
        connection.send_bytes(buffer.numpy().data)


def receive(connection: Connection, allocate: Callable[[int], Tensor]) -> Any:
    """The next object; `allocate` gives the buffer, bytes, in which its tensors will lie.

    Raises: EOFError or OSError when the sender is gone.
    """
    head, num_bytes = connection.recv()
    buffer = allocate(num_bytes)
    if num_bytes:
        connection.recv_bytes_into(buffer.numpy().data)
    return _Reader(io.BytesIO(head), buffer).load()
