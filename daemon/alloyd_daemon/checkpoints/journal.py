"""The journal of finished blocks: append-only, every record proves itself, a torn tail is ignored.

A record is the payload's length (u32 little-endian), the first 16 bytes of its BLAKE3, and the payload
(msgpack). The first record says whose journal it is.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from blake3 import blake3

from ..faults import reach
from .durable import see_if_passing

VERSION: Final = 1
_CHECK: Final = 16
_MAX_RECORD: Final = 2**26


class Owner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose blocks these are: the job's identity and the digest of the output's layout."""

    identity: str
    layout: str
    version: int = VERSION


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One finished block: bytes [start, stop) of output tensor number ``tensor``.

    ``start`` is a multiple of ``digest.PIECE``; ``pieces`` are the piece digests of the merged bytes. ``inputs`` has
    (place of the source in the assignment, its piece digests for this block). ``facts`` are counts to add up.
    ``stored`` has the digest of each run of the files that the block became, where it is stored in another form.
    """

    tensor: int
    start: int
    stop: int
    pieces: tuple[bytes, ...]
    inputs: tuple[tuple[int, tuple[bytes, ...]], ...] = ()
    facts: Mapping[str, int] = {}
    stored: tuple[bytes, ...] = ()


class Journal:
    """An open journal; :meth:`append` may be called from many threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def append(self, block: Block) -> None:
        """Add one record; it survives the end of this process at once, a power cut after :meth:`sync`."""
        record = _record(msgspec.msgpack.encode(block))
        with self._lock:
            _write_all(self._handle, record)
        reach("after-record")

    def sync(self) -> None:
        """Force the journal to disk."""
        os.fsync(self._handle)
        reach("after-fsync-journal")

    def close(self) -> None:
        """Close the file; the journal stays."""
        os.close(self._handle)


def start_journal(path: Path, owner: Owner, blocks: Iterable[Block] = ()) -> Journal:
    """A journal with these records in place of whatever ``path`` holds, in one step."""
    fresh = path.with_name(path.name + ".new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        _write_all(handle, _record(msgspec.msgpack.encode(owner)))
        for block in blocks:
            _write_all(handle, _record(msgspec.msgpack.encode(block)))
        os.fsync(handle)
    finally:
        os.close(handle)
    reach("after-fsync-new-journal")
    os.rename(fresh, path)
    reach("after-rename-journal")
    return Journal(path)


def read_journal(path: Path) -> tuple[Owner | None, tuple[Block, ...]]:
    """The owner and the blocks of a journal, up to the first record that does not prove itself.

    ``None`` as owner means that there is no journal, or none that can be believed. Raises OSError where it cannot be
    opened at this moment.
    """
    try:
        data = path.read_bytes()
    except OSError as wrong:
        see_if_passing(wrong)
        return None, ()
    payloads = _payloads(data)
    try:
        owner = msgspec.msgpack.decode(next(payloads, b""), type=Owner)
        if owner.version != VERSION:
            return None, ()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None, ()
    blocks: list[Block] = []
    decoder = msgspec.msgpack.Decoder(Block)
    for payload in payloads:
        try:
            blocks.append(decoder.decode(payload))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            break
    return owner, tuple(blocks)


def _record(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "little") + blake3(payload).digest()[:_CHECK] + payload


def _payloads(data: bytes) -> Iterator[bytes]:
    place = 0
    while place + 4 + _CHECK <= len(data):
        length = int.from_bytes(data[place : place + 4], "little")
        begin = place + 4 + _CHECK
        payload = data[begin : begin + length]
        if length > _MAX_RECORD or len(payload) < length:
            return
        if blake3(payload).digest()[:_CHECK] != data[place + 4 : begin]:
            return
        yield payload
        place = begin + length


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
