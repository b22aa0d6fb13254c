"""The few system calls that Python does not offer, or offers without letting other threads run."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_SYNC_FILE_RANGE_WRITE: Final = 2
_CACHESTAT: Final = 451
_M_ARENA_MAX: Final = -8

MADV_DONTNEED: Final = 4
MADV_POPULATE_READ: Final = 22


def _function(name: str, *arguments: type) -> Callable[..., int] | None:
    try:
        found = getattr(_LIBC, name)
    except AttributeError:
        return None
    found.argtypes = list(arguments)
    found.restype = ctypes.c_int
    call: Callable[..., int] = found
    return call


_fallocate = _function("fallocate", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_sync_file_range = _function("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_renameat2 = _function(
    "renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
)
_madvise = _function("madvise", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_syscall = _function("syscall", ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint)
_malloc_trim = _function("malloc_trim", ctypes.c_size_t)
_mallopt = _function("mallopt", ctypes.c_int, ctypes.c_int)
_mincore = _function("mincore", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)


def allocate(handle: int, size: int) -> bool:
    """Reserve disk blocks for the first ``size`` bytes of a file; False where the file system cannot.

    Python's posix_fallocate is not used: where the file system lacks the call, glibc writes every block
    instead.

    Raises
    ------
    OSError
        Anything but "not supported", above all ENOSPC.
    """
    if _fallocate is None or size == 0:
        return False
    while _fallocate(handle, 0, 0, size) != 0:
        code = ctypes.get_errno()
        if code in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            return False
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True


def start_writeback(handle: int, offset: int, size: int) -> None:
    """Ask the kernel to begin writing this range to disk now; only a wish, so failures are ignored."""
    if _sync_file_range is not None:
        _sync_file_range(handle, offset, size, _SYNC_FILE_RANGE_WRITE)


def exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step; False where the kernel or file system cannot.

    Raises
    ------
    OSError
        Anything but "not supported".
    """
    if _renameat2 is None:
        return False
    if _renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(one))


def advise(address: int, size: int, advice: int) -> int:
    """madvise without holding the interpreter's lock; returns 0 or the error number."""
    if _madvise is None:
        return errno.ENOSYS
    return 0 if _madvise(address, size, advice) == 0 else ctypes.get_errno()


def release_heap() -> None:
    """Give whole free pages of the heap back, where the C library keeps them (glibc does, between blocks in use)."""
    if _malloc_trim is not None:
        _malloc_trim(0)


def share_heap() -> None:
    """Have all threads allocate from one heap, where glibc would give each its own, which keeps what it once took."""
    if _mallopt is not None:
        _mallopt(_M_ARENA_MAX, 1)


def resident_pages(address: int, size: int) -> bytes | None:
    """One byte per page of a mapped range, 1 where the page cache holds it; ``None`` where that is not told."""
    pages = -(-size // os.sysconf("SC_PAGE_SIZE"))
    flags = ctypes.create_string_buffer(pages)
    if _mincore is None or _mincore(address, size, flags) != 0:
        return None
    return flags.raw


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


def cached_pages(handle: int, offset: int, size: int) -> int | None:
    """How many pages of a range of a file the page cache holds; ``None`` before Linux 6.5, or without the right."""
    counts = (ctypes.c_uint64 * 5)()
    wanted = _Range(offset, size)
    if _syscall is None or _syscall(_CACHESTAT, handle, ctypes.byref(wanted), ctypes.byref(counts), 0) != 0:
        return None
    return int(counts[0])


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


def address_of(data: object) -> int:
    """The address of a buffer's first byte, valid as long as the caller keeps the buffer (Python's stable ABI)."""
    view = _Buffer()
    get, release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
    get.argtypes = [ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int]
    release.argtypes = [ctypes.POINTER(_Buffer)]
    release.restype = None
    get(data, ctypes.byref(view), 0)
    address = int(view.buf or 0)
    release(ctypes.byref(view))
    return address
