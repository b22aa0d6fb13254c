"""What a process and its children use, read from /proc: memory, bytes from and to storage, processor time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """Of a process and all below it.

    ``resident`` and ``private`` (anonymous, shared or swapped out) are bytes now; ``read`` and ``written`` bytes from
    and to storage, which the page cache saves, and ``cpu`` seconds, since they began, ended children included.

    Each is made of its five figures by name: of an iterator, Python would make a longer tuple and shorten it, and
    keep thousands of those.
    """

    resident: int = 0
    private: int = 0
    read: int = 0
    written: int = 0
    cpu: float = 0.0

    def plus(self, other: Usage) -> Usage:
        """Both together."""
        return Usage(
            self.resident + other.resident,
            self.private + other.private,
            self.read + other.read,
            self.written + other.written,
            self.cpu + other.cpu,
        )

    def at_least(self, other: Usage) -> Usage:
        """With the sums of ``other`` where those are larger."""
        return Usage(
            self.resident,
            self.private,
            max(self.read, other.read),
            max(self.written, other.written),
            max(self.cpu, other.cpu),
        )

    def since(self, other: Usage) -> Usage:
        """What was added to the sums since ``other``."""
        return Usage(
            read=self.read - other.read, written=self.written - other.written, cpu=self.cpu - other.cpu
        )


def usage(process: int) -> Usage | None:
    """What ``process`` and its children use; ``None`` when it has ended or may not be looked at."""
    own = _usage_of(process)
    if own is None:
        return None
    for each in map(_usage_of, _below(process)):
        if each is not None:
            own = own.plus(each)
    return own


def open_files() -> int:
    """How many descriptors this process has open; 0 where that is not told."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return 0


def resident_memory() -> int:
    """Bytes of memory that this process occupies; 0 where that is not told."""
    try:
        return int(_text("/proc/self/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _below(process: int) -> Iterator[int]:
    """All that ``process`` has started, directly or not, and that lives."""
    try:
        threads = os.listdir(f"/proc/{process}/task")
    except OSError:
        return
    for thread in threads:
        try:
            children = _text(f"/proc/{process}/task/{thread}/children").split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from _below(child)


def _usage_of(process: int) -> Usage | None:
    try:
        status = _fields(process, "status")
        # The name, in brackets, may hold anything; what follows the last bracket is numbers.
        stat = _text(f"/proc/{process}/stat").rpartition(")")[2].split()
        if "VmRSS" not in status:
            return None  # it is dead already, and only waits to be buried
        cpu = sum(map(int, stat[11:15])) / _TICKS
        traffic = _fields(process, "io")
    except (OSError, ValueError, IndexError):
        return None
    private = sum(1024 * status.get(name, 0) for name in ("RssAnon", "RssShmem", "VmSwap"))
    return Usage(
        1024 * status["VmRSS"], private, traffic.get("read_bytes", 0), traffic.get("write_bytes", 0), cpu
    )


def _fields(process: int, file: str) -> dict[str, int]:
    """The lines ``Name: NUMBER [kB]`` of a file of /proc."""
    found = {}
    for line in _text(f"/proc/{process}/{file}").splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdigit():
            found[name] = int(number[0])
    return found


def _text(file: str) -> str:
    # Not pathlib, which has Python intern every part of every path that is looked at.
    with open(file, errors="replace") as opened:
        return opened.read()
