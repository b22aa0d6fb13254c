"""Where merged blocks go: a staged, journalled, atomically published safetensors checkpoint.

Lifetime of a sink: ``open``, many ``write`` and ``record`` from any thread, ``publish``, ``close``. After
``close`` without ``publish`` the next sink of the same identity goes on where this one stopped.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from blake3 import blake3

from alloyd.errors import DiskFull, OutputError, OutputExists

from ..checkpoints import staging
from ..faults import reach
from .digest import PIECE, piece_digests
from .header import ALIGNMENT
from .journal import Block, Journal, Owner, read_journal, start_journal
from .layout import INDEX, OutputLayout
from .libc import address_of, allocate, start_writeback
from .mounts import is_network
from .staging import already_published, check_output, discard_staging

__all__ = ["SafetensorsSink", "already_published", "check_output", "discard_staging"]

_LEAST_SIDE: Final = 1024 * 1024
_LEAST_DIRECT: Final = 1024 * 1024


class SafetensorsSink:
    """A checkpoint under construction.

    Parameters
    ----------
    final:
        The folder that will appear, whole, by :meth:`publish`.
    layout:
        Every byte's place, from ``layout.lay_out``.
    identity:
        What the output follows from (recipe, sources, version), as text. A staging folder of another identity
        is thrown away; one of this identity is continued.
    force:
        Replace a model that is already at ``final``.
    expected_side_bytes:
        Bytes of the side files, for the check of free space.
    """

    def __init__(
        self, final: Path, layout: OutputLayout, *, identity: str, force: bool, expected_side_bytes: int = 0
    ) -> None:
        self.place = staging.Place.of(final)
        self.layout = layout
        self.identity = identity
        self.force = force
        self._side_bytes = expected_side_bytes
        self._owner = Owner(identity, _layout_digest(layout))
        self._lock: int | None = None
        self._journal: Journal | None = None
        self._handles: list[int] = []
        self._direct: list[int | None] = []
        self._covered: list[dict[int, int]] = [{} for _ in layout.tensors]
        self._covering = threading.Lock()
        self._published = False

    def open(self) -> tuple[Block, ...]:
        """Create or adopt the staging folder, reserve the room, and return the blocks that are already there.

        A journalled block is returned only if its bytes on disk still have their digests. Blocks come sorted
        and never overlap.

        Raises
        ------
        OutputExists
            ``final`` is taken; ``facts['published']`` is true when it holds this very output already.
        DiskFull
            The output does not fit.
        OutputError
            It cannot be written, or another process is writing it.
        """
        if already_published(self.place.final, self.identity):
            raise self._done_already()
        self._check_output()
        with staging.errors_of(self.place.final):
            self._lock = staging.enter(self.place, self.identity, force=self.force)
        if self._lock is None:
            raise self._done_already()
        fresh = False
        try:
            with staging.errors_of(self.place.staging):
                self._check_output()
                adopted = self._adopt()
                if adopted is None:
                    fresh = True
                    self._clear()
                self._reserve()
                blocks = self._verified(adopted or ())
                for block in blocks:
                    self._covered[block.tensor][block.start] = block.stop
                self._journal = start_journal(self.place.state / "journal", self._owner, blocks)
                staging.sync_folder(self.place.state)
        except BaseException:
            if fresh:
                self.discard()
            else:
                self.close()
            raise
        return blocks

    def write(self, slot: int, start: int, data: memoryview) -> None:
        """Write ``data`` at byte ``start`` of output tensor number ``slot``; safe from many threads, copies
        nothing. Large data in whole pages goes past the page cache where the file system allows.

        Raises
        ------
        DiskFull, OutputError
            The operating system refuses.
        ValueError
            The range is not inside the tensor.
        """
        if not data.nbytes:
            return
        into = self.layout.tensors[slot]
        if start < 0 or start + data.nbytes > into.nbytes:
            raise ValueError(
                f"{data.nbytes} bytes at {start} are not inside '{into.name}' of {into.nbytes} bytes"
            )
        handle, begin = self._handles[into.shard], into.offset + start
        rest, position = data.cast("B"), begin
        with staging.errors_of(self.place.staging / self.layout.shards[into.shard].filename):
            if self._write_direct(into.shard, begin, rest):
                return
            while rest:
                count = os.pwrite(handle, rest, position)
                position += count
                rest = rest[count:]
        start_writeback(handle, begin, position - begin)

    def _write_direct(self, shard: int, begin: int, data: memoryview) -> bool:
        """Write past the page cache; False where that is not possible, and then nothing is known to be written.

        Filling fresh page-cache pages costs more than the disk on many machines, and would push out what others keep
        there; a direct write costs no processor time.
        """
        handle = self._direct[shard]
        if handle is None or data.nbytes < _LEAST_DIRECT:
            return False
        if (begin | data.nbytes | address_of(data)) % ALIGNMENT:
            return False
        try:
            return os.pwrite(handle, data, begin) == data.nbytes
        except OSError as wrong:
            if wrong.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            self._direct[shard] = None
            return False

    def record(self, block: Block) -> None:
        """Journal a block whose bytes were written; safe from many threads.

        Raises
        ------
        DiskFull, OutputError
            The operating system refuses.
        """
        with staging.errors_of(self.place.staging):
            self._open_journal().append(block)
        with self._covering:
            self._covered[block.tensor][block.start] = block.stop

    def checkpoint(self) -> None:
        """Force all that was written and recorded to disk.

        Raises
        ------
        DiskFull, OutputError
            The operating system refuses.
        """
        with staging.errors_of(self.place.staging):
            self._sync_shards()
            self._open_journal().sync()

    def publish(self, side_files: Mapping[str, bytes], last: Sequence[str] = ("config.json",)) -> None:
        """Write the side files, force everything to disk, and let the output appear at ``final``.

        Names in ``last`` (and the index, before them) appear after everything else where files appear one by
        one.

        Raises
        ------
        OutputError
            A tensor whose blocks were not all recorded, a side file that takes a shard's name, or the
            operating system refuses.
        OutputExists
            Something came to be at ``final`` meanwhile.
        """
        if self._published:
            return
        self._check_complete()
        sides = dict(side_files)
        if self.layout.index is not None:
            sides[INDEX] = self.layout.index
        files = self._in_order(sides, last)
        with staging.errors_of(self.place.staging):
            self._sync_shards()
            self._remove_strangers(files)
            for name, data in sides.items():
                path = self.place.staging / name
                if path.parent != self.place.staging:
                    path.parent.mkdir(exist_ok=True)
                staging.write_file(path, data)
                reach("after-fsync-side-file")
            for folder in {self.place.staging / name for name in files if "/" in name}:
                staging.sync_folder(folder.parent)
        self._close_files()
        with staging.errors_of(self.place.final):
            sealed = staging.Sealed(self.identity, files, self.force)
            staging.seal(self.place, sealed)
            staging.finish(self.place, sealed)
        self._published = True
        self._unlock()

    def close(self) -> None:
        """Let go of files and lock; without :meth:`publish` the staging folder stays for the next sink."""
        self._close_files()
        self._unlock()

    def discard(self) -> None:
        """Remove the staging folder, also one that an earlier process left; a published output stays.

        Raises
        ------
        OutputError
            Another process is writing it.
        """
        self._close_files()
        if self._published or (self._lock is None and not self.place.staging.exists()):
            return
        with staging.errors_of(self.place.staging):
            if self._lock is None:
                self._lock = staging.acquire(self.place)
            staging.discard(self.place)
        self._unlock()

    def _check_output(self) -> None:
        try:
            check_output(self.place.final, self.force)
        except OutputExists:
            # Another process may have published this very output since it was asked for.
            if staging.published_as(self.place) == self.identity:
                raise self._done_already() from None
            raise

    def _done_already(self) -> OutputExists:
        path = str(self.place.final)
        return OutputExists(f"{path} holds this output already", path=path, published=True)

    def _adopt(self) -> tuple[Block, ...] | None:
        """The journal's blocks if the staging folder is this output's, else ``None``."""
        owner, blocks = read_journal(self.place.state / "journal")
        if owner != self._owner:
            return None
        for shard in self.layout.shards:
            try:
                with open(self.place.staging / shard.filename, "rb") as file:
                    known = file.read(len(shard.header)) == shard.header
                    known = known and os.fstat(file.fileno()).st_size == shard.size
            except OSError:
                return None
            if not known:
                return None
        return blocks

    def _clear(self) -> None:
        for folder, kept in ((self.place.staging, staging.STATE), (self.place.state, "lock")):
            for each in folder.iterdir():
                if each.name == kept:
                    continue
                if each.is_dir() and not each.is_symlink():
                    shutil.rmtree(each)
                else:
                    each.unlink()

    def _reserve(self) -> None:
        """Check for room, then take it: every shard with its full size and its header."""
        paths = [self.place.staging / shard.filename for shard in self.layout.shards]
        held = sum(path.stat().st_blocks * 512 for path in paths if path.exists())
        need = self.layout.size + max(self._side_bytes, _LEAST_SIDE) - held
        room = os.statvfs(self.place.staging)
        free = room.f_bavail * room.f_frsize
        if need > free:
            raise DiskFull(
                f"the output {self.place.final} needs {need:,} bytes; its file system has {free:,} free",
                hint="Free some space or choose another output.",
                path=str(self.place.final),
                need=need,
                free=free,
            )
        for path, shard in zip(paths, self.layout.shards, strict=True):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._handles.append(handle)
            self._direct.append(_open_direct(path))
            if not allocate(handle, shard.size):
                os.ftruncate(handle, shard.size)
            header, position = memoryview(shard.header), 0
            while position < len(header):
                position += os.pwrite(handle, header[position:], position)

    def _verified(self, blocks: Iterable[Block]) -> tuple[Block, ...]:
        """The blocks whose bytes are on disk; of blocks that overlap, the one recorded last."""
        good: list[Block] = []
        taken: dict[int, list[tuple[int, int]]] = {}
        buffer = memoryview(bytearray(PIECE))
        for block in reversed(tuple(blocks)):
            spans = taken.setdefault(block.tensor, [])
            if any(block.start < stop and start < block.stop for start, stop in spans):
                continue
            if self._on_disk(block, buffer):
                spans.append((block.start, block.stop))
                good.append(block)
        return tuple(sorted(good, key=lambda each: (each.tensor, each.start)))

    def _on_disk(self, block: Block, buffer: memoryview) -> bool:
        if not 0 <= block.tensor < len(self.layout.tensors):
            return False
        slot = self.layout.tensors[block.tensor]
        size = block.stop - block.start
        if block.start < 0 or block.start % PIECE or size <= 0 or block.stop > slot.nbytes:
            return False
        if len(block.pieces) != -(-size // PIECE):
            return False
        handle, position, end = self._handles[slot.shard], slot.offset + block.start, slot.offset + block.stop
        for piece in block.pieces:
            length, done = min(PIECE, end - position), 0
            while done < length:
                count = os.preadv(handle, [buffer[done:length]], position + done)
                if count == 0:
                    return False
                done += count
            if piece_digests(buffer[:length]) != (piece,):
                return False
            position += length
        return True

    def _check_complete(self) -> None:
        for slot, covered in zip(self.layout.tensors, self._covered, strict=True):
            done = sum(stop - start for start, stop in covered.items())
            if done != slot.nbytes:
                raise OutputError(
                    f"tensor '{slot.name}' is not complete: {done} of {slot.nbytes} bytes were recorded",
                    path=str(self.place.final),
                    tensor=slot.name,
                )

    def _in_order(self, sides: Mapping[str, bytes], last: Sequence[str]) -> tuple[str, ...]:
        shards = [shard.filename for shard in self.layout.shards]
        for name in sides:
            parts = PurePosixPath(name).parts
            if (
                name in shards
                or not parts
                or len(parts) > 2
                or parts[0].startswith(".")
                or ".." in parts
                or "/" in parts
            ):
                raise OutputError(f"'{name}' cannot be the name of a side file", path=str(self.place.final))
        late = [name for name in (INDEX, *last) if name in sides]
        return (*shards, *sorted(set(sides) - set(late)), *dict.fromkeys(late))

    def _remove_strangers(self, files: Sequence[str]) -> None:
        """A run that stopped while writing side files may have left some that this one does not have."""
        wanted = {PurePosixPath(name).parts[0] for name in files} | {staging.STATE}
        for each in self.place.staging.iterdir():
            if each.name not in wanted:
                if each.is_dir() and not each.is_symlink():
                    shutil.rmtree(each)
                else:
                    each.unlink()

    def _sync_shards(self) -> None:
        for handle in self._handles:
            os.fsync(handle)
            reach("after-fsync-shard")

    def _open_journal(self) -> Journal:
        if self._journal is None:
            raise ValueError("the sink is not open")
        return self._journal

    def _close_files(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        while self._handles:
            os.close(self._handles.pop())
        while self._direct:
            direct = self._direct.pop()
            if direct is not None:
                os.close(direct)

    def _unlock(self) -> None:
        if self._lock is not None:
            staging.release(self.place, self._lock)
            self._lock = None


def _open_direct(path: Path) -> int | None:
    """The file opened for writes past the page cache, ``None`` where that is not to be had."""
    if is_network(path.parent):
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except (OSError, AttributeError):
        return None


def _layout_digest(layout: OutputLayout) -> str:
    digest = blake3()
    for shard in layout.shards:
        digest.update(f"{shard.filename} {shard.size}\n".encode())
        digest.update(shard.header)
    return digest.hexdigest()
