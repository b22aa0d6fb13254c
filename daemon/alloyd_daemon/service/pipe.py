"""The frames between the daemon and a job's child: four bytes of length, then msgpack."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct

from alloyd.jobs import Finished, Note, Planned, Progress

LARGEST = 256 * 2**20


class Begin(Struct, frozen=True, tag_field="pipe", tag="begin"):
    """To the child, first: what to do. ``act`` is ``run``, or ``discard`` to remove a cancelled job's staging.

    ``log`` is the file that the child's own words go to from now on.
    """

    act: Literal["run", "discard"]
    kind: str
    spec: dict[str, Any]
    home: str
    job: str
    settings: dict[str, Any]
    log: str


class Halt(Struct, frozen=True, tag_field="pipe", tag="halt"):
    """To the child: stop after the block in flight (``pause``), remove the staging too (``cancel``), or ``now``."""

    how: Literal["pause", "cancel", "now"]


class Failed(Struct, frozen=True, tag_field="report", tag="failed"):
    """From the child, last: the error that ended the job."""

    error: dict[str, Any]


class Halted(Struct, frozen=True, tag_field="report", tag="halted"):
    """From the child, last: it stopped as asked, or has discarded."""

    how: Literal["pause", "cancel", "discard"]


Orders = Begin | Halt
Answer = Planned | Progress | Note | Finished | Failed | Halted


def frame(message: Struct) -> bytes:
    """One message as bytes."""
    body = msgspec.msgpack.encode(message)
    return struct.pack(">I", len(body)) + body


class Frames:
    """Cuts a stream of bytes into message bodies; :class:`ValueError` for a length that cannot be."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take ``data`` in and yield each body that is whole."""
        self._pending += data
        while len(self._pending) >= 4:
            (length,) = struct.unpack_from(">I", self._pending)
            if length > LARGEST:
                raise ValueError(f"a message of {length} bytes")
            if len(self._pending) < 4 + length:
                return
            body = bytes(self._pending[4 : 4 + length])
            del self._pending[: 4 + length]
            yield body


def write_all(handle: int, data: bytes) -> None:
    """Write every byte of ``data`` to a blocking file descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
