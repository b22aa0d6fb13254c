"""A transformers model in memory, built on the meta device and filled tensor by tensor, quantised on the way or not.

A full-precision copy never exists: what is held is the (quantised) model and the tensor at hand. A warm model takes new
values for single tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from alloyd.errors import PlanError, ShapeMismatch

from .checkpoints.libc import release_heap
from .late import library
from .quantiser import Quantiser
from .skeleton import DTYPE_CODES, EXTRA, USER, Part, Selection, Skeleton


class Resident:
    """A model that is filled once with :meth:`fill`, then changed with :meth:`update`.

    Parameters
    ----------
    config:
        The parsed config.json.
    quantiser:
        What quantises linear modules; ``None`` leaves all weights as they are.
    dtype:
        The dtype code of what is not quantised; ``None`` for what the config says.
    device:
        Where the model lives: torch's name of a device.

    ``model`` is transformers' module, in evaluation mode once it is filled; ``warnings`` name tensors that the
    quantiser left as they are. Saving it after a forward loses precision (bitsandbytes repacks its weights for the
    processor): :mod:`alloyd_daemon.quantised_layout` writes checkpoints.

    Raises PlanError and UsageError as :class:`Skeleton` does.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        quantiser: Quantiser | None = None,
        dtype: str | None = None,
        device: str = "cpu",
    ) -> None:
        self._torch = library("torch", user=USER, extra=EXTRA)
        self._skeleton = Skeleton(config, dtype=dtype)
        self._quantiser = quantiser
        self._device = self._torch.device(device)
        self._selection = Selection({}, (), False, ())
        self.model = self._skeleton.model
        if quantiser is not None:
            self._selection = self._skeleton.select(quantiser)
            quantiser.prepare(self.model, self._selection.skipped)
        self._filled: set[Part] = set()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Tensors that the quantiser left as they are, and why."""
        return self._selection.warnings

    @property
    def held_bytes(self) -> int:
        """Bytes that the filled model's weights take, known before it is filled; tied ones count once."""
        tied = self.model.all_tied_weights_keys
        return sum(self._bytes_of(place) for place in self._skeleton.shapes if place not in tied)

    @property
    def filling_bytes(self) -> int:
        """The most bytes that filling or changing the model takes beside it: one tensor, and quantising it."""
        linears = self._selection.linears.values()
        spaces = [self._quantiser.workspace(each.shape) for each in linears] if self._quantiser else []
        tensors = [
            math.prod(shape) * self._skeleton.dtype_of(place).itemsize
            for place, shape in self._skeleton.shapes.items()
        ]
        return max(tensors, default=0) + max(spaces, default=0)

    def fill(self, tensors: Iterable[tuple[str, Any]]) -> None:
        """Give the model its weights: every (checkpoint name, torch tensor) once, in any order.

        A tensor may be dropped or overwritten as soon as the next is asked for.

        Raises
        ------
        PlanError
            A tensor fits nowhere, or a parameter was given none.
        ShapeMismatch
            A tensor has another shape than its parameter.
        JobError
            A tensor has values that the quantiser cannot hold.
        """
        self._put_all(tensors)
        missing = self._missing()
        self.model.tie_weights(missing_keys=missing, recompute_mapping=False)
        if missing:
            first = min(missing)
            raise PlanError(
                f"the parameter '{first}' of {type(self.model).__name__}"
                f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''} got no tensor",
                hint="The checkpoint's tensors do not match its config.json.",
                tensor=first,
            )
        self._skeleton.restore_buffers(self._device)
        self.model.eval()

    def update(self, tensors: Iterable[tuple[str, Any]]) -> None:
        """Replace the values of single tensors of a filled model. Raises as :meth:`fill` does."""
        self._put_all(tensors)

    def _bytes_of(self, place: str) -> int:
        linear = self._selection.linears.get(place)
        if linear is None or self._quantiser is None:
            return math.prod(self._skeleton.shapes[place]) * int(self._skeleton.dtype_of(place).itemsize)
        dtype = DTYPE_CODES[str(self._skeleton.dtype).removeprefix("torch.")]
        return sum(each.nbytes for each in self._quantiser.stored(place, dtype, linear.shape))

    def _put_all(self, tensors: Iterable[tuple[str, Any]]) -> None:
        with self._torch.no_grad():
            for name, tensor in tensors:
                part = self._skeleton.part(name)
                if part is not None:
                    self._put(part, name, tensor)
                    self._filled.add(part)
                    release_heap()

    def _missing(self) -> set[str]:
        """Parameters and persistent buffers that were not filled, or not wholly."""
        left = {place: math.prod(shape) for place, shape in self._skeleton.shapes.items()}
        for part in self._filled:
            left[part.place] -= math.prod(part.shape)
        whole = {part.place for part in self._filled}
        return {place for place, elements in left.items() if elements or place not in whole}

    def _put(self, part: Part, name: str, tensor: Any) -> None:
        if tuple(tensor.shape) != part.shape:
            raise ShapeMismatch(
                f"tensor '{name}' has the shape {list(tensor.shape)}; "
                f"{type(self.model).__name__} expects {list(part.shape)}",
                hint="The checkpoint's tensors do not match its config.json.",
                tensor=name,
            )
        path, _, leaf = part.place.rpartition(".")
        module = self.model.get_submodule(path)
        linear = self._selection.linears.get(part.place)
        if linear is not None and self._quantiser is not None:
            value = tensor.to(device=self._device, dtype=self._skeleton.dtype)
            self._quantiser.load(module, name, value.T if linear.transposed else value)
            return
        held = getattr(module, leaf)
        if held.device.type == "meta":
            dtype = self._skeleton.dtype_of(part.place)
            held = self._torch.empty(held.shape, dtype=dtype, device=self._device)
            if leaf in module._buffers:
                module._buffers[leaf] = held
            else:
                setattr(module, leaf, self._torch.nn.Parameter(held, requires_grad=False))
        held[part.index].copy_(tensor)
