"""An importance matrix: for each GGUF tensor the mean squared activation of each of its columns."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alloyd.errors import HeaderError, SourceNotFound

from ..checkpoints.small_file import read_small
from .element_type import F32
from .ggml import LARGEST_IMPORTANCE
from .reader import MAGIC, parse

_SUMS: Final = ".in_sum2"
_COUNTS: Final = ".counts"


@dataclass(frozen=True, slots=True)
class Imatrix:
    """Importance of the columns of every tensor it knows.

    ``weights`` maps a GGUF tensor name to float32: the columns of its matrix, or of each expert's matrix one after the
    other.
    """

    weights: Mapping[str, NDArray[np.float32]]
    digest: str
    """BLAKE3 of the file in hexadecimal, for plans and manifests."""


def read_imatrix(path: Path) -> Imatrix:
    """Read an importance matrix as llama-imatrix writes it: GGUF, or the older ``.dat``.

    Raises
    ------
    SourceNotFound
        There is no such file.
    HeaderError
        It is cut short, is no importance matrix, or holds values that no measurement gives.
    """
    import blake3  # wanted only where there is an imatrix

    try:
        data = read_small(path)
    except OSError as wrong:
        raise SourceNotFound(
            f"the imatrix {path} cannot be read: {wrong.strerror}",
            hint="llama-imatrix makes one from a GGUF and a text.",
            path=str(path),
        ) from wrong
    weights = _from_gguf(data, str(path)) if data.startswith(MAGIC) else _from_dat(data, str(path))
    if not weights:
        raise _lie(str(path), "empty", "weighs no tensor")
    for name, values in weights.items():
        if not 0 <= float(values.min()) <= float(values.max()) <= LARGEST_IMPORTANCE:
            raise _lie(
                str(path), "value", f"has weights of {name} that are not from 0 to {LARGEST_IMPORTANCE:.0e}"
            )
        values.flags.writeable = False
    return Imatrix(MappingProxyType(weights), blake3.blake3(data).hexdigest())


def _from_gguf(data: bytes, file: str) -> dict[str, NDArray[np.float32]]:
    """Sums of squares and counts, one count a matrix; a matrix that was never used weighs every column alike."""
    head = parse(io.BytesIO(data), len(data), file=file)
    if head.metadata.get("general.type", "imatrix") != "imatrix":
        raise _lie(file, "kind", "is a GGUF file, but no imatrix")
    arrays: dict[str, NDArray[np.float32]] = {}
    for tensor in head.tensors:
        if tensor.type is not F32:
            raise _lie(file, "type", f"has a tensor '{tensor.name}' of {tensor.type.name}, not F32")
        arrays[tensor.name] = np.frombuffer(data, "<f4", tensor.size // 4, tensor.offset).astype(np.float32)
    found: dict[str, NDArray[np.float32]] = {}
    for name, sums in arrays.items():
        if not name.endswith(_SUMS):
            if not name.endswith(_COUNTS) or name.removesuffix(_COUNTS) + _SUMS not in arrays:
                raise _lie(file, "pair", f"has a tensor '{name}' that is no half of sums and counts")
            continue
        weighed = name.removesuffix(_SUMS)
        counts = arrays.get(weighed + _COUNTS)
        if counts is None or sums.size % counts.size:
            raise _lie(file, "pair", f"has sums for {weighed}, but no counts that fit them")
        with np.errstate(all="ignore"):
            rounded = np.rint(counts)[:, None]
            means = np.where(rounded > 0, sums.reshape(counts.size, -1) / rounded, np.float32(1))
        found[weighed] = means.astype(np.float32).reshape(-1)
    return found


def _from_dat(data: bytes, file: str) -> dict[str, NDArray[np.float32]]:
    """The older form: a count of entries; for each a name, a number of calls, and means times that number."""
    at = 0

    def integer(what: str) -> int:
        nonlocal at
        if len(data) - at < 4:
            raise _lie(file, "too-short", f"ends inside {what}")
        (value,) = struct.unpack_from("<i", data, at)
        at += 4
        return int(value)

    entries = integer("its count of entries")
    # A name, its length and three numbers take 13 bytes at least.
    if not 1 <= entries <= len(data) // 13:
        raise _lie(file, "count", f"says that it has {entries} entries, or is no imatrix")
    found: dict[str, NDArray[np.float32]] = {}
    for number in range(entries):
        length = integer(f"entry {number}")
        if not 1 <= length <= 4096 or length > len(data) - at:
            raise _lie(file, "too-short", f"has an entry {number} with a name of {length} bytes")
        name = data[at : at + length].decode("utf-8", "replace")
        at += length
        calls, columns = integer(f"entry '{name}'"), integer(f"entry '{name}'")
        if columns < 1 or 4 * columns > len(data) - at:
            raise _lie(file, "too-short", f"says that '{name[:80]}' has {columns} columns")
        values = np.frombuffer(data, "<f4", columns, at).astype(np.float32)
        at += 4 * columns
        if name in found:
            raise _lie(file, "duplicate-tensor", f"weighs '{name[:80]}' twice")
        found[name] = values / np.float32(calls) if calls > 0 else values
    return found


def _lie(file: str, lie: str, found: str) -> HeaderError:
    return HeaderError(
        f"the imatrix {file} {found}",
        hint="Make it again with llama-imatrix.",
        lie=lie,
        file=file,
    )
