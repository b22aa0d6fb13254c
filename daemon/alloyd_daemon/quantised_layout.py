"""A merged checkpoint as an ordinary pre-quantised one: what is stored for each tensor, its bytes, its config.json.

Everything but the bytes is known before a value is: names, dtypes and shapes follow from those of the merged tensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alloyd_kernels.dtypes import CODES

from .checkpoints.config import TORCH_NAMES
from .late import library
from .quantiser import Quantiser, StoredTensor
from .skeleton import DTYPE_CODES, EXTRA, USER, Linear, Skeleton
from .torch_bytes import tensor_bytes, torch_tensor


@dataclass(frozen=True, slots=True)
class QuantisedTensor:
    """One merged tensor (name, dtype code, shape) and what is stored for it; ``linear`` where it is quantised.

    What is not quantised is stored in the model's dtype.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    stored: tuple[StoredTensor, ...]
    linear: Linear | None

    @property
    def unchanged(self) -> bool:
        """Whether the merged tensor's own bytes are stored."""
        return self.linear is None and self.stored[0].dtype == self.dtype


@dataclass(frozen=True, slots=True)
class QuantisedLayout:
    """The tensors of a pre-quantised checkpoint, in the order of the merged ones.

    ``skipped`` are the modules that config.json must name because transformers would quantise them by itself;
    ``warnings`` name tensors that the quantiser left as they are.
    """

    quantiser: Quantiser
    dtype: str
    tensors: tuple[QuantisedTensor, ...]
    skipped: tuple[str, ...] | None
    warnings: tuple[str, ...]

    @property
    def stored(self) -> tuple[StoredTensor, ...]:
        """Every tensor of the checkpoint."""
        return tuple(each for tensor in self.tensors for each in tensor.stored)

    def encode(self, place: int, data: Any) -> Mapping[str, memoryview]:
        """The bytes of all that is stored for merged tensor number ``place``, by name.

        ``data`` is the whole tensor's bytes, anything with a buffer; what is stored as it is, is that buffer itself.

        Raises JobError for values that the quantiser cannot hold.
        """
        tensor = self.tensors[place]
        if tensor.unchanged:
            return {tensor.name: memoryview(data).cast("B")}
        wanted = self.dtype if tensor.linear else tensor.stored[0].dtype
        torch = library("torch", user=USER, extra=EXTRA)
        values = torch_tensor(data, tensor.dtype, tensor.shape).to(getattr(torch, TORCH_NAMES[wanted]))
        if tensor.linear is None:
            return {tensor.name: tensor_bytes(values)}
        return self.quantiser.encode(tensor.name, values.T if tensor.linear.transposed else values)

    def workspace(self, place: int) -> int:
        """Bytes of private memory that :meth:`encode` takes for one tensor, results included, its data not."""
        tensor = self.tensors[place]
        if tensor.linear is None:
            return 0 if tensor.unchanged else tensor.stored[0].nbytes
        cast = (
            0 if tensor.dtype == self.dtype and not tensor.linear.transposed else 2 * math.prod(tensor.shape)
        )
        return self.quantiser.workspace(tensor.linear.shape) + 2 * cast

    def config(self, config: bytes) -> bytes:
        """config.json of the quantised checkpoint, from that of the merged one."""
        facts = json.loads(config)
        facts["quantization_config"] = dict(self.quantiser.config(self.skipped))
        return (json.dumps(facts, indent=2) + "\n").encode("ascii")


def quantised_layout(
    tensors: Sequence[tuple[str, str, tuple[int, ...]]], config: Mapping[str, Any], quantiser: Quantiser
) -> QuantisedLayout:
    """What a checkpoint of merged ``tensors`` (name, dtype code, shape) holds once it is quantised.

    ``config`` is the merged checkpoint's parsed config.json; its dtype is what tensors are quantised from, as
    transformers would.

    Raises
    ------
    PlanError
        transformers does not know the model, or has no place for a tensor; a dtype that is not quantised from.
    UsageError
        torch, transformers or the quantiser's library is not installed.
    """
    skeleton = Skeleton(config)
    dtype = DTYPE_CODES[str(skeleton.dtype).removeprefix("torch.")]
    selection = skeleton.select(quantiser)
    found = []
    for name, code, shape in tensors:
        part = skeleton.part(name)
        place = None if part is None else part.place
        linear = selection.linears.get(place or "")
        if linear is not None:
            stored = quantiser.stored(name, dtype, linear.shape)
        else:
            stored = (StoredTensor(name, _kept(skeleton, place, code), shape),)
        found.append(QuantisedTensor(name, code, shape, stored, linear))
    skipped = tuple(sorted(selection.skipped)) if selection.unusual else None
    return QuantisedLayout(quantiser, dtype, tuple(found), skipped, selection.warnings)


def _kept(skeleton: Skeleton, place: str | None, code: str) -> str:
    """The dtype code in which a tensor is stored that is not quantised: transformers leaves it as it finds it."""
    if place is None or code not in CODES:
        return code
    return DTYPE_CODES[str(skeleton.dtype_of(place)).removeprefix("torch.")]
