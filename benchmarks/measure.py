"""Run a command and say how long it took and how much memory its whole process tree held at its worst."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

INTERVAL = 0.05
V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds on the wall; bytes at the worst moment, summed over the process tree; ``None``: not measured.

    ``cpu`` is seconds of processor time, user and system, of every process that was waited for: steadier than the wall
    where others use the machine, though not free of them (they share its caches and, often, its cores).
    ``resident`` counts mapped file pages, ``private`` only what no other process shares and no file backs up
    (Private_Clean + Private_Dirty of smaps_rollup, without private file pages that were never written, is
    what the kernel reports as Anonymous; both are sampled). ``cgroup`` is the peak the kernel charged, page
    cache included.
    """

    seconds: float
    status: int
    resident: int | None = None
    private: int | None = None
    anonymous: int | None = None
    cgroup: int | None = None
    said: str = ""
    cpu: float = 0.0


@dataclass(slots=True)
class _Peaks:
    resident: int = 0
    private: int = 0
    anonymous: int = 0
    stop: threading.Event = field(default_factory=threading.Event)


class Cgroup:
    """A memory cgroup with a hard limit, v1 or v2."""

    def __init__(self, folder: Path, version: int) -> None:
        self.folder = folder
        self.version = version

    def peak(self) -> int | None:
        """The most bytes that were ever charged, page cache included; ``None`` where the kernel does not say."""
        file = self.folder / ("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak")
        return int(file.read_text()) if file.exists() else None

    def kills(self) -> int:
        """How often the kernel killed a process of the group for its memory."""
        file = self.folder / ("memory.oom_control" if self.version == 1 else "memory.events")
        lines = dict(line.split()[:2] for line in file.read_text().splitlines())
        return int(lines.get("oom_kill", 0))

    def enter(self) -> None:
        """Move the calling process into the group."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))


@contextmanager
def cgroup(limit: int, name: str = "alloyd-benchmark") -> Iterator[Cgroup]:
    """A memory cgroup of ``limit`` bytes without swap; needs the right to make one (root, usually)."""
    version = 1 if (V1 / "memory.limit_in_bytes").exists() else 2
    folder = (V1 if version == 1 else V2) / f"{name}-{os.getpid()}"
    if version == 2 and "memory" not in (V2 / "cgroup.subtree_control").read_text().split():
        (V2 / "cgroup.subtree_control").write_text("+memory")
    folder.mkdir()
    try:
        files = (
            {"memory.limit_in_bytes": limit, "memory.memsw.limit_in_bytes": limit}
            if version == 1
            else {"memory.max": limit, "memory.swap.max": 0}
        )
        for file, value in files.items():
            if (folder / file).exists():
                (folder / file).write_text(str(value))
        yield Cgroup(folder, version)
    finally:
        folder.rmdir()


def run(
    command: Sequence[str],
    *,
    memory: bool = False,
    inside: Cgroup | None = None,
    timeout: float | None = None,
) -> Measured:
    """Run ``command`` to its end; with ``memory`` sample its process tree (which slows it a little)."""
    peaks = _Peaks()
    # As in use: what Python compiled is kept, also where the caller's environment forbids it.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environ,
        preexec_fn=inside.enter if inside else None,
    )
    sampler = threading.Thread(target=_sample, args=(process.pid, peaks), daemon=True)
    if memory:
        sampler.start()
    said, _ = process.communicate(timeout=timeout)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    peaks.stop.set()
    if memory:
        sampler.join()
    return Measured(
        seconds=seconds,
        status=process.returncode,
        resident=peaks.resident if memory else None,
        private=peaks.private if memory else None,
        anonymous=peaks.anonymous if memory else None,
        cgroup=inside.peak() if inside else None,
        said=said,
        cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def _sample(root: int, peaks: _Peaks) -> None:
    while not peaks.stop.wait(INTERVAL):
        resident = private = anonymous = 0
        try:
            top = psutil.Process(root)
            processes = [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            sizes = _rollup(process.pid)
            resident += sizes.get("Rss", 0)
            private += sizes.get("Private_Clean", 0) + sizes.get("Private_Dirty", 0)
            anonymous += sizes.get("Anonymous", 0)
        peaks.resident = max(peaks.resident, resident)
        peaks.private = max(peaks.private, private)
        peaks.anonymous = max(peaks.anonymous, anonymous)


def _rollup(pid: int) -> dict[str, int]:
    """The fields of smaps_rollup in bytes; empty for a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {name.rstrip(":"): int(size) * 1024 for name, size, *_ in (line.split() for line in lines)}


def forget(files: Sequence[Path]) -> None:
    """Put what the page cache holds of ``files`` out, so that the next read comes from the disk."""
    os.sync()
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**20:.0f} MiB"
