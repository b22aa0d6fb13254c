"""Read ranges of tensors through one of two doors: ``mmap`` (no copy) or ``pread`` (into a caller's buffer).

Both are safe to use from many threads; no Python lock is taken once a file is open. Behind the cursor
``release`` gives pages back: those mapped into this process always, those of the page cache only where
nothing was cached before this job came.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from alloyd.errors import SourceChanged, SourceError, UsageError

from .checkpoint import Checkpoint, LowRank, Tensor
from .libc import MADV_DONTNEED, MADV_POPULATE_READ, address_of, advise
from .low_rank import Factors
from .mounts import is_network, read_ahead
from .page_cache import PAGE, cached_granules, uncached_parts

FAR_AHEAD: Final = 1024 * 1024
_EMPTY: Final = memoryview(b"")
_EHWPOISON: Final = 133


@dataclass(slots=True)
class _File:
    """One open file. ``cached`` says what the page cache held when it was opened (``cached_granules``); ``ask``
    whether to ask for pages ahead of their use; ``present`` which ranges were populated and not yet released."""

    path: Path
    handle: int
    cached: bytes
    ask: bool
    mapping: mmap.mmap | None
    data: memoryview
    address: int
    present: set[tuple[int, int]] = field(default_factory=set)


class Reader(ABC):
    """Ranges of a checkpoint's tensors. Files are opened at their first use and stay open until
    :meth:`close`."""

    door: Literal["mmap", "pread"]

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._files: list[_File | None] = [None] * len(checkpoint.files)
        self._opening = threading.Lock()

    @abstractmethod
    def view(self, tensor: Tensor, start: int, stop: int, into: memoryview | None = None) -> memoryview:
        """Bytes [start, stop) of ``tensor``.

        Through ``mmap`` the result is a part of the mapped file, its pages present, and ``into`` is ignored.
        Through ``pread`` the bytes are read into the first ``stop - start`` bytes of ``into`` (a new buffer
        when ``None``).

        Raises
        ------
        SourceChanged
            The file was replaced, truncated, or cannot be read.
        ValueError
            The range is not inside the tensor, or ``into`` is too small.
        """

    def copies(self, tensor: Tensor) -> bool:
        """Whether views of ``tensor`` are written to the caller's buffer."""
        return self.door == "pread"

    def prefetch(self, tensor: Tensor, start: int, stop: int) -> None:
        """Ask the kernel to read bytes [start, stop) of ``tensor`` into the page cache soon.

        Where the kernel already reads a MiB or more ahead nothing is asked: its own way uses large folios and
        larger requests (measured with 8 MiB of read-ahead: 2.5 GB/s by itself, 1.0 GB/s when asked).
        """
        file = self._file(tensor)
        if file.ask and stop > start:
            with contextlib.suppress(OSError):
                os.posix_fadvise(file.handle, tensor.offset + start, stop - start, os.POSIX_FADV_WILLNEED)

    def release(self, tensor: Tensor, start: int, stop: int, *, drop: bool = True) -> None:
        """Give back the pages of bytes [start, stop) of ``tensor``; views of them stay valid and read again.

        With ``drop`` the page cache is given back too, where nothing was cached before this job; without,
        only the mapping is, because another sweep will come by. The page that ``start`` lies in goes too (the
        range before it is done), that of ``stop`` stays.
        """
        file = self._file(tensor)
        first = (tensor.offset + start) // PAGE * PAGE
        last = (tensor.offset + stop) // PAGE * PAGE
        if last <= first:
            return
        if file.mapping is not None:
            for each in list(file.present):
                if each[0] < last and first < each[1]:
                    file.present.discard(each)
            advise(file.address + first, last - first, MADV_DONTNEED)
        for begin, end in uncached_parts(file.cached, first, last) if drop else ():
            with contextlib.suppress(OSError):
                os.posix_fadvise(file.handle, begin, end - begin, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Close every file; views that are still held keep their mapping alive until they go."""
        with self._opening:
            for place, file in enumerate(self._files):
                if file is None:
                    continue
                self._files[place] = None
                os.close(file.handle)
                file.data.release()
                if file.mapping is not None:
                    with contextlib.suppress(BufferError):
                        file.mapping.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _file(self, tensor: Tensor) -> _File:
        return self._files[tensor.file] or self._open(tensor.file)

    def _open(self, number: int) -> _File:
        with self._opening:
            found = self._files[number]
            if found is not None:
                return found
            path = self.checkpoint.files[number]
            try:
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as wrong:
                raise _changed(path, f"can no longer be read: {wrong.strerror}") from None
            try:
                status, seen = os.fstat(handle), self.checkpoint.prints[number]
                if (status.st_size, status.st_mtime_ns, status.st_ino) != (
                    seen.size,
                    seen.mtime_ns,
                    seen.inode,
                ):
                    raise _changed(path, "was written or replaced after its header was read")
                # Threads that read in turns look random to the kernel (pread by two: 0.9 GB/s without, 2.2 with).
                with contextlib.suppress(OSError):
                    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
                cached = cached_granules(handle, status.st_size)
                ask = read_ahead(status.st_dev) < FAR_AHEAD
                mapping, data, address = self._map(path, handle, status.st_size)
                file = _File(path, handle, cached, ask, mapping, data, address)
            except BaseException:
                os.close(handle)
                raise
            self._files[number] = file
            return file

    def _map(self, path: Path, handle: int, size: int) -> tuple[mmap.mmap | None, memoryview, int]:
        """The file's mapping, a view of it, and its address; nothing where the door does not map."""
        return None, _EMPTY[:], 0


class MappedReader(Reader):
    """The ``mmap`` door: shared, read-only mappings, populated block by block."""

    door = "mmap"

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._populate = True

    def view(self, tensor: Tensor, start: int, stop: int, into: memoryview | None = None) -> memoryview:
        _check_range(tensor, start, stop)
        if start == stop:
            return _EMPTY
        file = self._file(tensor)
        begin, end = tensor.offset + start, tensor.offset + stop
        # A sweep that comes by again finds its pages where the one before left them.
        if self._populate and (begin, end) not in file.present:
            first = begin // PAGE * PAGE
            code = advise(file.address + first, end - first, MADV_POPULATE_READ)
            if code in (errno.EFAULT, _EHWPOISON):
                raise _changed(file.path, f"cannot be read at byte {begin} (truncated, or a failing disk)")
            if code in (errno.EINVAL, errno.ENOSYS):
                self._populate = False
            if code == 0:
                file.present.add((begin, end))
        return file.data[begin:end]

    def _map(self, path: Path, handle: int, size: int) -> tuple[mmap.mmap | None, memoryview, int]:
        try:
            mapping = mmap.mmap(handle, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        except OSError as wrong:
            raise SourceError(
                f"{path} cannot be mapped ({wrong.strerror})", hint="Use the reader 'pread'.", path=str(path)
            ) from None
        return mapping, memoryview(mapping), address_of(mapping)


class PreadReader(Reader):
    """The ``pread`` door: copies into the caller's buffer; a file that shrinks is an error, no signal."""

    door = "pread"

    def view(self, tensor: Tensor, start: int, stop: int, into: memoryview | None = None) -> memoryview:
        _check_range(tensor, start, stop)
        if start == stop:
            return _EMPTY
        size = stop - start
        if into is None:
            into = memoryview(bytearray(size))
        elif into.nbytes < size:
            raise ValueError(f"a buffer of {into.nbytes} bytes is too small for {size}")
        file = self._file(tensor)
        target = into.cast("B")[:size]
        position, done = tensor.offset + start, 0
        while done < size:
            try:
                count = os.preadv(file.handle, [target[done:]], position + done)
            except OSError as wrong:
                raise _changed(
                    file.path, f"cannot be read at byte {position + done}: {wrong.strerror}"
                ) from None
            if count == 0:
                raise _changed(file.path, f"ends at byte {position + done}, inside tensor '{tensor.name}'")
            done += count
        return target


class AdaptedReader(Reader):
    """The tensors of a checkpoint with an adapter: W + scale * (B @ A) wherever the adapter has something to add.

    ``inner`` reads what is stored. The factors of a tensor are decoded at its first view, and given back with the whole
    of it.
    """

    def __init__(self, inner: Reader) -> None:
        super().__init__(inner.checkpoint)
        self.inner = inner
        self.door = inner.door
        self._factors: dict[str, Factors] = {}
        self._decoding = threading.Lock()

    def copies(self, tensor: Tensor) -> bool:
        return tensor.low_rank is not None or self.inner.copies(tensor)

    def view(self, tensor: Tensor, start: int, stop: int, into: memoryview | None = None) -> memoryview:
        """As of every reader; of what the adapter changes, ``start`` and ``stop`` are whole float32."""
        low_rank = tensor.low_rank
        if low_rank is None:
            return self.inner.view(tensor, start, stop, into)
        _check_range(tensor, start, stop)
        size = stop - start
        if into is None:
            into = memoryview(bytearray(size))
        elif into.nbytes < size:
            raise ValueError(f"a buffer of {into.nbytes} bytes is too small for {size}")
        target = into.cast("B")[:size]
        if size:
            begin, end = _of_weight(tensor, low_rank, start, stop)
            weight = self.inner.view(low_rank.weight, begin, end)
            self._factors_of(tensor.name, low_rank).add(weight, start // 4, target)
        return target

    def prefetch(self, tensor: Tensor, start: int, stop: int) -> None:
        low_rank = tensor.low_rank
        if low_rank is None:
            self.inner.prefetch(tensor, start, stop)
        else:
            self.inner.prefetch(low_rank.weight, *_of_weight(tensor, low_rank, start, stop))

    def release(self, tensor: Tensor, start: int, stop: int, *, drop: bool = True) -> None:
        low_rank = tensor.low_rank
        if low_rank is None:
            self.inner.release(tensor, start, stop, drop=drop)
            return
        self.inner.release(low_rank.weight, *_of_weight(tensor, low_rank, start, stop), drop=drop)
        if (start, stop) == (0, tensor.nbytes):
            with self._decoding:
                self._factors.pop(tensor.name, None)
            for each in (low_rank.a, low_rank.b):
                self.inner.release(each, 0, each.nbytes, drop=drop)

    def close(self) -> None:
        with self._decoding:
            self._factors.clear()
        self.inner.close()

    def _factors_of(self, name: str, low_rank: LowRank) -> Factors:
        with self._decoding:
            found = self._factors.get(name)
            if found is None:
                a, b = (self.inner.view(each, 0, each.nbytes) for each in (low_rank.a, low_rank.b))
                found = self._factors[name] = Factors(low_rank, a, b)
            return found


def _of_weight(tensor: Tensor, low_rank: LowRank, start: int, stop: int) -> tuple[int, int]:
    """The bytes of the stored weight that bytes [start, stop) of what is made of it come from."""
    if not tensor.nbytes:
        return 0, 0
    whole, part = tensor.nbytes, low_rank.weight.nbytes
    return start * part // whole, stop * part // whole


def open_reader(checkpoint: Checkpoint, door: Literal["auto", "mmap", "pread"] = "auto") -> Reader:
    """A reader of ``checkpoint``; ``auto`` takes ``pread`` when any file lies on a network mount or FUSE,
    else ``mmap``. Of a checkpoint with an adapter it gives what the adapter makes of it.

    Raises
    ------
    UsageError
        An unknown door.
    """
    if door == "auto":
        folders = {os.path.dirname(os.path.realpath(each)) for each in checkpoint.files}
        door = "pread" if any(is_network(Path(each)) for each in folders) else "mmap"
    if door not in ("mmap", "pread"):
        raise UsageError(f"unknown reader '{door}'", hint="Known: auto, mmap, pread.")
    reader = MappedReader(checkpoint) if door == "mmap" else PreadReader(checkpoint)
    return reader if checkpoint.adapter is None else AdaptedReader(reader)


def _check_range(tensor: Tensor, start: int, stop: int) -> None:
    if not 0 <= start <= stop <= tensor.nbytes:
        raise ValueError(f"bytes [{start}, {stop}) are not inside '{tensor.name}' of {tensor.nbytes} bytes")


def _changed(path: Path, what: str) -> SourceChanged:
    return SourceChanged(
        f"source changed or unreadable: {path} {what}",
        hint="Leave the sources alone while they are read, then run the merge again.",
        path=str(path),
    )
