"""What this machine has left: memory, disk, devices, and how often the kernel killed for want of memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alloyd.units import total_memory


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes of a file system: ``free`` to this user, and its whole ``size``."""

    free: int
    size: int


class Machine:
    """The machine as this process's control group lets it be seen; tests put another in its place."""

    def memory(self) -> int:
        """Bytes that all jobs together may take: the machine's, or the control group's limit when smaller."""
        return total_memory()

    def available(self) -> int:
        """Bytes of memory that could be taken now, what the page cache would give back included."""
        least = _field(Path("/proc/meminfo"), "MemAvailable:", unit=1024)
        least = total_memory() if least is None else least
        for folder, v2 in _groups():
            limit = _number(folder / ("memory.max" if v2 else "memory.limit_in_bytes"))
            used = _number(folder / ("memory.current" if v2 else "memory.usage_in_bytes"))
            if limit is not None and used is not None:
                cache = _field(folder / "memory.stat", "inactive_file" if v2 else "total_inactive_file") or 0
                least = min(least, max(0, limit - used + cache))
        return least

    def disk(self, path: Path) -> Disk | None:
        """The file system that ``path`` lies on, or will; ``None`` where nobody knows."""
        try:
            while not path.exists() and path != path.parent:
                path = path.parent
            room = os.statvfs(path)
        except OSError:
            return None
        return Disk(room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize)

    def gpus(self) -> int:
        """How many GPUs there are that a model could be scored on."""
        return len([each for each in Path("/dev").glob("nvidia*") if each.name[6:].isdigit()])

    def memory_kills(self) -> int:
        """How many processes the kernel has killed for want of memory: of this control group where it counts them,
        else of the machine."""
        for folder, v2 in _groups():
            kills = _field(folder / ("memory.events" if v2 else "memory.oom_control"), "oom_kill")
            if kills is not None:
                return kills
        return _field(Path("/proc/vmstat"), "oom_kill") or 0


def _groups() -> Iterator[tuple[Path, bool]]:
    """The folders of this process's memory control group and of those above it, and whether they are of version 2."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        v2 = controllers == ""
        root = Path("/sys/fs/cgroup") if v2 else Path("/sys/fs/cgroup/memory")
        if v2 or "memory" in controllers.split(","):
            group = root / place.lstrip("/")
            yield from ((each, v2) for each in (group, *group.parents) if each.is_relative_to(root))


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # "max" is no limit
        return None


def _field(file: Path, name: str, *, unit: int = 1) -> int | None:
    """The number behind ``name`` in a file of names and numbers."""
    try:
        for line in file.read_text().splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == name:
                return int(words[1]) * unit
    except (OSError, ValueError):
        pass
    return None
