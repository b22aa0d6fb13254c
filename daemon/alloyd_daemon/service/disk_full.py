"""What a job that met a full disk waits for before it goes on, if waiting can help."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from alloyd.errors import DiskFull, Problems

from .machine import Machine
from .store_rows import Lack

LEAST_MORE: Final = 64 * 2**20
"""A job that could not say how much it needs is tried again when so many bytes more are free."""


def wanting(error: Mapping[str, Any], machine: Machine) -> Lack | None:
    """The room that a job whose last word was ``error`` waits for.

    ``None`` when it failed for another reason as well, when nobody knows where, or when the file system is too small
    for it however empty.
    """
    problems = error.get("problems", ()) if error.get("code") == Problems.code else (error,)
    lacks = [_lack(each.get("facts", {}), machine) for each in problems if each.get("code") == DiskFull.code]
    found = [each for each in lacks if each is not None]
    if not found or len(found) < len(problems):
        return None
    return max(found, key=lambda each: each.need)


def _lack(facts: Mapping[str, Any], machine: Machine) -> Lack | None:
    path = Path(str(facts.get("path") or ""))
    disk = machine.disk(path) if path.is_absolute() else None
    if disk is None:
        return None
    need = facts.get("need")
    if not isinstance(need, int):
        # Never more than there could be: else a small disk would be waited for in vain.
        need = min(disk.free + LEAST_MORE, disk.free + (disk.size - disk.free) // 2 + 1)
    return None if need > disk.size else Lack("disk", need, disk.free, str(path))
