"""The files of an output under construction: reserved whole, written anywhere from any thread, read back by digest."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from blake3 import blake3

from ..faults import reach
from .digest import PIECE
from .durable import errors_of, see_if_passing
from .header import ALIGNMENT
from .layout import Run, Shard
from .libc import address_of, allocate, start_writeback
from .mounts import is_network

_LEAST_DIRECT: Final = 1024 * 1024


class StagedFiles:
    """The shards of one output in the staging folder ``folder``."""

    def __init__(self, folder: Path, shards: Sequence[Shard]) -> None:
        self._folder = folder
        self._shards = shards
        self._handles: list[int] = []
        self._direct: list[int | None] = []

    @property
    def held(self) -> int:
        """Bytes of the disk that the files hold already."""
        paths = [self._folder / shard.filename for shard in self._shards]
        return sum(path.stat().st_blocks * 512 for path in paths if path.exists())

    @property
    def begun(self) -> bool:
        """Whether every file is there with its size and its header; raises OSError if that cannot be seen now."""
        for shard in self._shards:
            try:
                with open(self._folder / shard.filename, "rb") as file:
                    known = file.read(len(shard.header)) == shard.header
                    if not known or os.fstat(file.fileno()).st_size != shard.size:
                        return False
            except OSError as wrong:
                see_if_passing(wrong)
                return False
        return True

    def reserve(self) -> None:
        """Open every file with its full size, and write what is known of it."""
        for shard in self._shards:
            path = self._folder / shard.filename
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._handles.append(handle)
            self._direct.append(_open_direct(path))
            if not allocate(handle, shard.size):
                os.ftruncate(handle, shard.size)
            for offset, data in ((0, shard.header), *shard.constants):
                _write_all(handle, memoryview(data), offset)

    def write(self, shard: int, offset: int, data: memoryview) -> None:
        """Write ``data`` at ``offset`` of file number ``shard``; copies nothing. Large data in whole pages goes past
        the page cache where the file system allows.

        Raises
        ------
        DiskFull, OutputError
            The operating system refuses.
        """
        with errors_of(self._folder / self._shards[shard].filename):
            if not self._write_direct(shard, offset, data):
                _write_all(self._handles[shard], data, offset)
                start_writeback(self._handles[shard], offset, data.nbytes)

    def _write_direct(self, shard: int, offset: int, data: memoryview) -> bool:
        """Write past the page cache; False where that is not possible, and then nothing is known to be written.

        Filling fresh page-cache pages costs more than the disk on many machines, and would push out what others keep
        there; a direct write costs no processor time.
        """
        handle = self._direct[shard]
        if handle is None or data.nbytes < _LEAST_DIRECT:
            return False
        if (offset | data.nbytes | address_of(data)) % ALIGNMENT:
            return False
        try:
            return os.pwrite(handle, data, offset) == data.nbytes
        except OSError as wrong:
            if wrong.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            self._direct[shard] = None
            return False

    def holds(self, runs: Iterable[Run], digests: Sequence[bytes], buffer: memoryview) -> bool:
        """Whether each of ``runs`` has the BLAKE3 of the same place in ``digests``; ``buffer`` is overwritten."""
        wanted = tuple(runs)
        return len(wanted) == len(digests) and all(
            self._digest(run, buffer) == digest for run, digest in zip(wanted, digests, strict=True)
        )

    def _digest(self, run: Run, buffer: memoryview) -> bytes | None:
        digest, done = blake3(), 0
        # After a failed fsync the page cache may hold what the disk does not.
        with contextlib.suppress(OSError, AttributeError):
            os.posix_fadvise(self._handles[run.shard], run.offset, run.size, os.POSIX_FADV_DONTNEED)
        while done < run.size:
            part = buffer[: min(len(buffer), PIECE, run.size - done)]
            count = os.preadv(self._handles[run.shard], [part], run.offset + done)
            if count == 0:
                return None
            digest.update(part[:count])
            done += count
        return digest.digest()

    def sync(self) -> None:
        """Force every file to disk."""
        for handle in self._handles:
            os.fsync(handle)
            reach("after-fsync-shard")

    def close(self) -> None:
        """Let go of the files."""
        while self._handles:
            os.close(self._handles.pop())
        while self._direct:
            direct = self._direct.pop()
            if direct is not None:
                os.close(direct)


def _write_all(handle: int, data: memoryview, offset: int) -> None:
    rest = data.cast("B")
    while rest:
        count = os.pwrite(handle, rest, offset)
        offset += count
        rest = rest[count:]


def _open_direct(path: Path) -> int | None:
    """The file opened for writes past the page cache, ``None`` where that is not to be had."""
    if is_network(path.parent):
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except (OSError, AttributeError):
        return None
