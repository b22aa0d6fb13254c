"""The decorator of every CPU kernel: compiled at first use, released from the GIL, kept on disk for the next process.

numba knows a cached function by its own file alone, though kernels are inlined into each other; so the folder they are
kept in is named after a digest of all kernel sources. It is this user's own: what lies there is executed.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numba
from numba import njit


def _digest() -> str:
    digest = blake2b(numba.__version__.encode(), digest_size=8)
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _cache_folder() -> Path | None:
    """A folder that only this user can write, or ``None``."""
    root = os.environ.get("NUMBA_CACHE_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "alloyd"
    )
    folder = Path(root) / f"kernels-{_digest()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    mine = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return folder if mine and os.access(folder, os.W_OK | os.X_OK) else None


_folder = _cache_folder()
if _folder is not None:
    numba.config.CACHE_DIR = str(_folder)

compiled: Any = njit(cache=_folder is not None, nogil=True)
"""Compile a kernel; without a folder to keep it in, each process compiles its own."""
