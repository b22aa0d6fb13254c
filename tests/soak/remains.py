"""What is left over when everything is done, and how a daemon's memory grows."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

MARK: Final = "SOAK_OF_ALLOYD"
"""A variable that every process of one soak has, and its children after it."""
UNFINISHED: Final = re.compile(r"\.partial|\.new$|\.tmp$|\.status\.json$|^\.alloyd$|^\.connection")
SHARED: Final = Path("/dev/shm")


def processes(mark: str) -> list[psutil.Process]:
    """The living processes that carry ``mark``."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if each.environ().get(MARK) == mark and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


def handles(pid: int) -> Counter[str]:
    """What a process has open, by kind: names of files, and how many sockets, pipes and the like."""
    found: Counter[str] = Counter()
    for each in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found[re.sub(r":\[\d+\]$", "", os.readlink(each.path))] += 1
    return found


def settled_handles(pid: int, wanted: Counter[str], seconds: float = 300.0) -> Counter[str]:
    """The same once they are ``wanted``, or after a while: what failed jobs staged is still being removed."""
    deadline = time.monotonic() + seconds
    while (found := handles(pid)) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def unfinished(*folders: Path) -> list[Path]:
    """What a job or a move would have removed, had it come to its end."""
    return [each for folder in folders for each in folder.rglob("*") if UNFINISHED.search(each.name)]


def shared_memory() -> set[str]:
    return {each.name for each in SHARED.iterdir()} if SHARED.is_dir() else set()


def held(name: str) -> bool:
    """Whether any living process has this piece of shared memory open or mapped."""
    for each in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if f"{SHARED}/{name}" in Path(f"/proc/{each.pid}/maps").read_text():
                return True
            if any(path == f"{SHARED}/{name}" for path in handles(each.pid)):
                return True
    return False


def resident(pid: int) -> int:
    """Bytes of memory that a process occupies."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def slope(values: Sequence[float]) -> float:
    """How much ``values`` grow from one to the next: their line of least squares."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    above = sum((place - middle) * (value - mean) for place, value in enumerate(values))
    return above / sum((place - middle) ** 2 for place in range(len(values)))
