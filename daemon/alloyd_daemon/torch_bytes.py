"""Tensors between files and torch: bytes of a dtype code and shape as a torch tensor, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from .checkpoints.config import TORCH_NAMES
from .late import library


def torch_tensor(data: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    """A torch tensor of this dtype code and shape over the bytes ``data``, anything with a buffer.

    Nothing is copied, but for a buffer that must not be written: torch has no tensors of that kind.
    """
    torch = library("torch", user="a model in memory", extra="score")
    if not memoryview(data).nbytes:
        return torch.empty(shape, dtype=getattr(torch, TORCH_NAMES[dtype]))
    flat = np.frombuffer(data, dtype=np.uint8)
    return (
        torch.from_numpy(flat if flat.flags.writeable else flat.copy())
        .view(getattr(torch, TORCH_NAMES[dtype]))
        .reshape(shape)
    )


def tensor_bytes(tensor: Any) -> memoryview:
    """The bytes of a torch tensor of any device and strides, in memory of its own or of the tensor."""
    torch = library("torch", user="a model in memory", extra="score")
    flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
    return memoryview(flat.numpy())
