"""What this machine has left: memory, disk, devices, and how often the kernel killed for want of memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from alloyd.units import memory_groups, total_memory


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
        least = _field("/proc/meminfo", "MemAvailable:", unit=1024)
        least = total_memory() if least is None else least
        for folder, v2 in memory_groups():
            limit = _number(f"{folder}/{'memory.max' if v2 else 'memory.limit_in_bytes'}")
            used = _number(f"{folder}/{'memory.current' if v2 else 'memory.usage_in_bytes'}")
            if limit is not None and used is not None:
                cache = _field(f"{folder}/memory.stat", "inactive_file" if v2 else "total_inactive_file") or 0
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
        for folder, v2 in memory_groups():
            kills = _field(f"{folder}/{'memory.events' if v2 else 'memory.oom_control'}", "oom_kill")
            if kills is not None:
                return kills
        return _field("/proc/vmstat", "oom_kill") or 0


def _number(file: str) -> int | None:
    try:
        with open(file) as opened:
            return int(opened.read())
    except (OSError, ValueError):  # "max" is no limit
        return None


def _field(file: str, name: str, *, unit: int = 1) -> int | None:
    """The number behind ``name`` in a file of names and numbers."""
    try:
        with open(file) as lines:
            for line in lines:
                words = line.split()
                if len(words) >= 2 and words[0] == name:
                    return int(words[1]) * unit
    except (OSError, ValueError):
        pass
    return None
