"""Know a source again: header digest, size, modification time and inode of each of its files."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from blake3 import blake3

from alloyd.errors import SourceChanged

if TYPE_CHECKING:
    from .checkpoint import Checkpoint


RESTLESS: Final = 2 * 10**9
"""Nanoseconds after a file's last change in which another change might leave no other time behind."""


class FilePrint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file as it was seen: ``header`` is the BLAKE3 (hex) of its first 8 + n bytes."""

    name: str
    header: str
    size: int
    mtime_ns: int
    inode: int


class Fingerprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All files of a checkpoint, in its order of files."""

    files: tuple[FilePrint, ...]


def file_print(name: str, header: bytes, status: os.stat_result) -> FilePrint:
    """The print of one file from its header's bytes and its status, both taken from one open file."""
    return FilePrint(name, blake3(header).hexdigest(), status.st_size, status.st_mtime_ns, status.st_ino)


def fingerprint(checkpoint: Checkpoint) -> Fingerprint:
    """The checkpoint's files as they were when it was opened."""
    return Fingerprint(checkpoint.prints)


def file_marks(checkpoint: Checkpoint) -> tuple[bytes | None, ...]:
    """For each file 32 bytes that no other content has had on this machine, for caches that outlive a job.

    To its print they add device and status-change time, which nobody can set back. ``None`` where that would promise
    too much: the file is not the one whose header was read, or was written a moment ago.
    """
    return tuple(_mark(path, seen) for path, seen in zip(checkpoint.files, checkpoint.prints, strict=True))


def _mark(path: Path, seen: FilePrint) -> bytes | None:
    try:
        now = path.stat()
    except OSError:
        return None
    if (now.st_size, now.st_mtime_ns, now.st_ino) != (seen.size, seen.mtime_ns, seen.inode):
        return None
    if abs(time.time_ns() - now.st_mtime_ns) < RESTLESS:
        return None
    return blake3(msgspec.msgpack.encode((seen, now.st_dev, now.st_ctime_ns))).digest()


def check_unchanged(checkpoint: Checkpoint, known: Fingerprint) -> None:
    """Compare the files on disk with ``known``.

    Raises
    ------
    SourceChanged
        Naming the first file that was removed, replaced or changed, and in what it differs.
    """
    if len(known.files) != len(checkpoint.files):
        raise SourceChanged(
            f"{checkpoint.path} has {len(checkpoint.files)} files, and had {len(known.files)}",
            path=str(checkpoint.path),
        )
    for path, before in zip(checkpoint.files, known.files, strict=True):
        now = look(path)
        changes: Mapping[str, bool] = {
            "its size": now.size != before.size,
            "its modification time": now.mtime_ns != before.mtime_ns,
            "its inode": now.inode != before.inode,
            "its header": now.header != before.header,
        }
        what = [name for name, differs in changes.items() if differs]
        if what:
            raise SourceChanged(
                f"source changed: {path} ({', '.join(what)})",
                hint="Leave the sources alone while they are read, then run the merge again.",
                path=str(path),
            )


def look(path: Path) -> FilePrint:
    """The print of a file as it is now. Raises SourceChanged where it cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as wrong:
        raise SourceChanged(
            f"source changed: {path} can no longer be read ({wrong.strerror})",
            hint="Put it back, then resume the job.",
            path=str(path),
        ) from None
    try:
        status = os.fstat(handle)
        first = os.pread(handle, 8, 0)
        length = min(int.from_bytes(first, "little"), status.st_size)
        return file_print(path.name, first + os.pread(handle, length, 8), status)
    finally:
        os.close(handle)
