"""Small file systems for tests, which can be full or become read-only. Skipped where none can be mounted."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def tmpfs(place: Path, options: str = "size=200m") -> Iterator[Path]:
    """A tmpfs at ``place``, which is made."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a file system cannot be mounted here, so a full or read-only one is not tested")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def remount(place: Path, how: str) -> None:
    """Make the file system at ``place`` read-only (``ro``), or writable again (``rw``)."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)
