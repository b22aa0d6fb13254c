"""Small durable steps: write a file or a folder's entries down to the disk, and say what the system refused."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from alloyd.errors import DiskFull, OutputError

_FOR_A_MOMENT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def see_if_passing(wrong: OSError) -> None:
    """Raise ``wrong`` again if it tells of this moment only: the file is there, and must not count as gone."""
    if wrong.errno in _FOR_A_MOMENT:
        raise wrong


def write_file(path: Path, data: bytes) -> None:
    """Write a small file and force it to disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, data: bytes) -> None:
    """Put a small file at ``path``: a reader, and whoever comes after a kill, finds the old one or the new one, whole.

    Raises OutputError, and DiskFull where no room is left.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with errors_of(path):
        try:
            write_file(fresh, data)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as wrong:
        if wrong.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing ``path`` into :class:`OutputError` and
    :class:`DiskFull`."""
    try:
        yield
    except OSError as wrong:
        if wrong.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"no room left for {path} ({wrong.strerror})",
                hint="Free some space, then resume: finished work is kept.",
                path=str(path),
            ) from wrong
        hint = "Check the rights and the state of that file system."
        if wrong.errno in (errno.EMFILE, errno.ENFILE):
            hint = "Start the daemon where 'ulimit -n' allows more; finished work is kept."
        raise OutputError(
            f"{path} cannot be written ({wrong.strerror})",
            hint=hint,
            path=str(path),
        ) from wrong
