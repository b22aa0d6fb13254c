"""Runs a model's forward with parameters that have no values: what is computed from them is a constant.

transformers builds a model on the meta device without allocating its weights. Inside :class:`Hollow` its own forward
runs there all the same, on real inputs: an operation that meets a parameter without values is carried out for its
shape alone and answers with one constant. So a model can be watched, and what does not depend on its weights (masks,
rotary embeddings) computed, before any weight was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

SMALL: Final = 1 << 20
"""Elements up to which a result is a tensor like any other; some operations ask for that."""


class Hollow(TorchFunctionMode):
    """While it is active, results of parameters on the meta device are ``fill`` everywhere, on ``device``.

    ``names`` gives the name of a parameter by its ``id``; ``used`` collects those that were met, ``met`` the ``id`` of
    every tensor that entered an operation, reading of shape and type aside, and ``beside`` of those that entered one
    together with a parameter.
    """

    def __init__(self, names: Mapping[int, str], *, device: torch.device, fill: float = 0.0) -> None:
        super().__init__()
        self.used: set[str] = set()
        self.met: set[int] = set()
        self.beside: set[int] = set()
        self._names = names
        self._device = device
        self._fill = fill

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        leaves, shape = tree_flatten((args, dict(kwargs or {})))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        if getattr(func, "__name__", "") != "__get__":
            found = {id(each) for each in tensors}
            self.met |= found
            if used := {self._names[each] for each in found if each in self._names}:
                self.used |= used
                self.beside |= found
        if not any(each.is_meta for each in tensors):
            return func(*args, **(kwargs or {}))
        moved = [leaf.to("meta") if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        args, kwargs = tree_unflatten(moved, shape)
        return tree_map(self._real, func(*args, **kwargs))

    def _real(self, result: Any) -> Any:
        if isinstance(result, torch.device):
            return self._device
        if isinstance(result, torch.Tensor) and result.is_meta:
            if result.numel() <= SMALL:
                return torch.full(result.shape, self._fill, dtype=result.dtype, device=self._device)
            # One element seen at every place, so that even the largest result takes no memory.
            return torch.full((), self._fill, dtype=result.dtype, device=self._device).expand(result.shape)
        return result
