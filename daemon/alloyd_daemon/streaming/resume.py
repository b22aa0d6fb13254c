"""Keeps the activations at a layer's end on disk, so that a run that was killed goes on there with the same scores.

A file holds tensors one after another, then a table (JSON) of what they are with a digest of each, the table's length
and a mark. It is written beside its final name, forced to disk and renamed; one that is damaged, or of other
candidates, is as good as none.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import torch
from blake3 import blake3

from ..checkpoints.durable import errors_of, sync_folder
from .activations import Activations, bytes_of

NAME: Final = "activations.kept"
MARK: Final = b"alloyd activations 1\n"
_LONGEST_TABLE: Final = 1 << 28


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor of the file."""

    key: str
    batch: int
    offset: int
    dtype: str
    shape: tuple[int, ...]
    digest: str


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds: the activations before ``step`` of the run called ``identity``, and each lost candidate's
    error."""

    identity: str
    step: int
    lost: dict[int, dict[str, object]]
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that was read and believed as far as its table goes."""

    table: Table
    path: Path

    def tensors(self) -> Iterator[tuple[str, int, torch.Tensor]]:
        """(key, batch, tensor) of each. Raises ValueError at bytes that are not what the table says."""
        with self.path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            for each in self.table.entries:
                dtype = getattr(torch, each.dtype, None)
                if not isinstance(dtype, torch.dtype) or min(each.shape, default=0) < 1:
                    raise ValueError(each.dtype)
                if math.prod(each.shape) * dtype.itemsize > size:
                    raise ValueError("a tensor larger than the file")
                hidden = torch.empty(each.shape, dtype=dtype)
                into = bytes_of(hidden)
                file.seek(each.offset)
                done = 0
                while done < len(into) and (count := file.readinto(into[done:])):
                    done += count
                if done < len(into) or blake3(into).hexdigest() != each.digest:
                    raise ValueError("the digest differs")
                yield each.key, each.batch, hidden


def keep(
    folder: Path, activations: Activations, *, identity: str, step: int, lost: Mapping[int, dict[str, object]]
) -> None:
    """Replace what is kept by the present activations. Raises DiskFull or OutputError; the old file is then left."""
    path = folder / NAME
    fresh = path.with_suffix(".partial")
    entries = []
    try:
        with errors_of(fresh), fresh.open("wb") as file:
            for key, batch in activations.entries():
                hidden = activations.get(key, batch)
                data = bytes_of(hidden)
                dtype = str(hidden.dtype).removeprefix("torch.")
                digest = blake3(data).hexdigest()
                entries.append(Entry(key, batch, file.tell(), dtype, tuple(hidden.shape), digest))
                file.write(data)
            table = msgspec.json.encode(Table(identity, step, dict(lost), tuple(entries)))
            file.write(table + len(table).to_bytes(8, "little") + MARK)
            file.flush()
            os.fsync(file.fileno())
        with errors_of(path):
            fresh.replace(path)
            sync_folder(folder)
    finally:
        fresh.unlink(missing_ok=True)


def kept(folder: Path, identity: str) -> Kept | None:
    """What an earlier run called ``identity`` kept; ``None`` where there is nothing, or nothing that can be used."""
    path = folder / NAME
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            tail = 8 + len(MARK)
            if size < tail:
                return None
            file.seek(size - tail)
            end = file.read(tail)
            length = int.from_bytes(end[:8], "little")
            if end[8:] != MARK or length > min(size - tail, _LONGEST_TABLE):
                return None
            file.seek(size - tail - length)
            table = msgspec.json.decode(file.read(length), type=Table)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Kept(table, path) if table.identity == identity else None
