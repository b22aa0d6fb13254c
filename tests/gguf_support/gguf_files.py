"""Write a GGUF from a checkpoint folder by its layout, in blocks of any size; read GGUF files back for comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alloyd_daemon.gguf.encode import encode
from alloyd_daemon.gguf.imatrix import Imatrix
from alloyd_daemon.gguf.layout import GgufLayout, describe
from checkpoint_factory import SAFETENSORS_CODES, Tensors, read_checkpoint


def describe_folder(
    folder: Path, type_name: str, weights: Tensors, *, imatrix: Imatrix | None = None
) -> GgufLayout:
    """The layout of the checkpoint in ``folder``."""
    sources = [(name, SAFETENSORS_CODES[values.dtype], values.shape) for name, values in weights.items()]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return describe(sources, config, folder, type_name, filename="out.gguf", imatrix=imatrix)


def write_gguf(
    folder: Path,
    out: Path,
    type_name: str,
    *,
    block: int = 1 << 15,
    imatrix: Imatrix | None = None,
    change: Callable[[str, NDArray[np.float32]], NDArray[np.float32]] = lambda name, values: values,
) -> GgufLayout:
    """Write ``out`` as a sink would, ``block`` source elements at a time."""
    weights = read_checkpoint(folder)
    layout = describe_folder(folder, type_name, weights, imatrix=imatrix)
    data = np.zeros(layout.size, dtype=np.uint8)
    written = np.zeros(layout.size, dtype=np.bool_)

    def put(offset: int, piece: NDArray[np.uint8]) -> None:
        assert not written[offset : offset + piece.size].any()
        written[offset : offset + piece.size] = True
        data[offset : offset + piece.size] = piece

    put(0, np.frombuffer(layout.header, dtype=np.uint8))
    for constant in layout.constants:
        put(constant.offset, np.frombuffer(constant.data, dtype=np.uint8))
    for placement, values in zip(layout.placements, weights.values(), strict=True):
        flat = change(placement.source, values.astype(np.float32).reshape(-1))
        step = max(block // placement.unit, 1) * placement.unit
        for first in range(0, flat.size, step):
            for extent in placement.extents(first, min(step, flat.size - first)):
                bytes_out = np.empty(extent.size, dtype=np.uint8)
                encode(extent, flat[extent.first : extent.first + extent.elements], bytes_out)
                put(extent.offset, bytes_out)
    for tensor in layout.tensors:
        assert written[tensor.offset : tensor.offset + tensor.size].all(), tensor.name
    out.write_bytes(data.tobytes())
    return layout


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, tuple[tuple[int, ...], str, bytes]]]:
    """Metadata, and for each tensor its shape (ggml's order), type and bytes."""
    import gguf

    reader = gguf.GGUFReader(path)
    metadata = {
        name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")
    }
    tensors = {
        each.name: (tuple(map(int, each.shape)), each.tensor_type.name, each.data.tobytes())
        for each in reader.tensors
    }
    return metadata, tensors
