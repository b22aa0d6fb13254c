"""The values of one extent as the bytes of the file: order, shift, quantisation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .ggml import quantize
from .placement import Extent


def encode(
    extent: Extent,
    values: NDArray[np.float32],
    out: memoryview | NDArray[np.uint8],
    *,
    tensor: str = "",
) -> int:
    """Encode the elements of ``extent`` into ``out`` and return how many bytes were written.

    Parameters
    ----------
    extent:
        From :meth:`Placement.extents`.
    values:
        C-contiguous float32 of ``extent.elements``: the source elements from ``extent.first`` on. They are not changed.
    out:
        Writable bytes, at least ``extent.size``.
    tensor:
        The tensor's name, for messages.

    Raises
    ------
    SourceError
        Values that the type cannot hold.
    """
    rows = values.reshape(extent.rows, extent.columns)
    if extent.order is not None:
        rows = rows[extent.order]
    if extent.part.shift:
        rows = rows + np.float32(extent.part.shift)
    return quantize(extent.part.type, rows, out, extent.importance, tensor=tensor)
