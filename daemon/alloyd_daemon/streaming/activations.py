"""Holds hidden states between layers: in memory as far as the budget goes, the rest in a file.

The file is written and read, not mapped: a disk that fills up is then an error and not a killed process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from alloyd.errors import OutputError

from ..checkpoints.durable import errors_of

SPILL: Final = "activations.spill"


@dataclass(frozen=True, slots=True)
class _Spilled:
    """A tensor in the file."""

    offset: int
    shape: torch.Size
    dtype: torch.dtype
    nbytes: int


class Activations:
    """CPU tensors by (key, batch), each held until it is taken or its key is dropped.

    ``room`` bytes stay in memory; ``spill`` bytes of ``folder`` are reserved at once, so that a disk without room
    is told before work. ``written`` counts the bytes that went to the file.

    Raises DiskFull or OutputError where the file cannot be made, written or read.
    """

    def __init__(self, *, room: int, spill: int, folder: Path) -> None:
        self.written = 0
        self._room = room
        self._held: dict[tuple[str, int], torch.Tensor | _Spilled] = {}
        self._in_memory = 0
        self._free: dict[int, list[int]] = {}
        self._end = 0
        self._path = folder / SPILL
        self._file: int | None = None
        if spill:
            with errors_of(self._path):
                self._file = self._open()
                os.posix_fallocate(self._file, 0, spill)

    def _open(self) -> int:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        # Without a name it goes with the process, however that ends.
        self._path.unlink()
        return handle

    def put(self, key: str, batch: int, hidden: torch.Tensor) -> None:
        """Hold ``hidden``, which nobody else changes."""
        nbytes = hidden.nbytes
        if self._in_memory + nbytes <= self._room:
            self._in_memory += nbytes
            self._held[key, batch] = hidden
            return
        with errors_of(self._path):
            if self._file is None:
                self._file = self._open()
            free = self._free.get(nbytes)
            if free:
                offset = free.pop()
            else:
                offset, self._end = self._end, self._end + nbytes
            _write(self._file, offset, bytes_of(hidden))
        self.written += nbytes
        self._held[key, batch] = _Spilled(offset, hidden.shape, hidden.dtype, nbytes)

    def get(self, key: str, batch: int) -> torch.Tensor:
        """What was put; not to be changed. KeyError where nothing was."""
        found = self._held[key, batch]
        if isinstance(found, torch.Tensor):
            return found
        hidden = torch.empty(found.shape, dtype=found.dtype)
        assert self._file is not None
        with errors_of(self._path):
            _read(self._file, found.offset, bytes_of(hidden), self._path)
        return hidden

    def take(self, key: str, batch: int) -> torch.Tensor:
        """:meth:`get`, and hold it no longer."""
        hidden = self.get(key, batch)
        self._forget((key, batch))
        return hidden

    def drop(self, key: str) -> None:
        """Hold nothing of ``key`` any more."""
        for place in [each for each in self._held if each[0] == key]:
            self._forget(place)

    def entries(self) -> Iterator[tuple[str, int]]:
        """(key, batch) of all that is held, sorted."""
        return iter(sorted(self._held))

    def close(self) -> None:
        """Let everything go; the file with it."""
        self._held.clear()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _forget(self, place: tuple[str, int]) -> None:
        found = self._held.pop(place)
        if isinstance(found, torch.Tensor):
            self._in_memory -= found.nbytes
        else:
            self._free.setdefault(found.nbytes, []).append(found.offset)


def bytes_of(hidden: torch.Tensor) -> memoryview:
    """The bytes of a CPU tensor; writing to them changes it where it is contiguous."""
    flat: Any = hidden.contiguous().view(-1).view(torch.uint8).numpy()
    return memoryview(flat)


def _write(file: int, offset: int, data: memoryview) -> None:
    while data:
        done = os.pwrite(file, data, offset)
        data, offset = data[done:], offset + done


def _read(file: int, offset: int, into: memoryview, path: Path) -> None:
    while into:
        done = os.preadv(file, [into], offset)
        if not done:
            raise OutputError(
                f"{path} became shorter while it was in use", hint="Run it again.", path=str(path)
            )
        into, offset = into[done:], offset + done
