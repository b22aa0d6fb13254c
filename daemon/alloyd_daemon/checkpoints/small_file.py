"""Read a small file that somebody else put there: a regular one, at most so long, never waited for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

MAX_SMALL: Final = 1 << 30


def read_small(path: Path, *, at_most: int = MAX_SMALL) -> bytes:
    """All bytes of ``path``.

    Raises
    ------
    OSError
        It cannot be read, is no regular file (opening a pipe would wait for a writer), or is longer than
        ``at_most`` bytes.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(handle, "rb") as file:
        facts = os.fstat(handle)
        if stat.S_ISDIR(facts.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        # No more is asked for than is there: Python makes room for all of it first.
        data = file.read(min(facts.st_size, at_most) + 1)
        if facts.st_size < len(data) <= at_most:  # it grew, or does not tell its size
            data += file.read(at_most + 1 - len(data))
    if len(data) > at_most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data
