"""Sizes as people write and read them: ``512MiB``, ``2GB``, ``25%``; ages as ``30d``, durations as ``3m 20s``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from .errors import UsageError, did_you_mean

_FACTORS = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


def parse_size(text: str, *, total: int | None = None) -> int:
    """Bytes from ``512MiB`` (powers of 1024), ``2GB`` (powers of 1000), ``1048576`` or ``25%`` of ``total``.

    Raises
    ------
    UsageError
        The text is no size, its unit is unknown, or it is not positive.
    """
    if len(text) > 40:  # and no number that a float cannot hold
        raise UsageError(f"'{text}' is not a size", hint="Write 512MiB, 2GB or 25%.", value=text)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([A-Za-z]*|%)\s*", text)
    if match is None:
        raise UsageError(f"'{text}' is not a size", hint="Write 512MiB, 2GB or 25%.", value=text)
    number, unit = float(match[1]), match[2].lower()
    if unit == "%":
        if number > 100:
            raise UsageError(f"'{text}' is more than everything", hint="Write at most 100%.", value=text)
        size = int(number / 100 * (total_memory() if total is None else total))
    elif unit in _FACTORS:
        size = int(number * _FACTORS[unit])
    else:
        known = ("KiB", "MiB", "GiB", "TiB", "KB", "MB", "GB", "TB", "%")
        raise UsageError(
            f"'{text}' has the unknown unit '{match[2]}'", hint=did_you_mean(match[2], known), value=text
        )
    if size <= 0:
        raise UsageError(f"'{text}' is not a positive size", hint="Write 512MiB, 2GB or 25%.", value=text)
    return size


_AGES = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_age(text: str) -> float:
    """Seconds from ``30d``, ``12h``, ``2w``, ``90s`` or ``0``.

    Raises
    ------
    UsageError
        The text is no age.
    """
    match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)\s*", text)
    if match is None or (not match[2] and float(match[1])) or match[2].lower() not in (*_AGES, ""):
        raise UsageError(f"'{text}' is not an age", hint="Write 30d, 12h or 2w.", value=text)
    return float(match[1]) * _AGES.get(match[2].lower(), 0)


def total_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's limit when smaller."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for folder, v2 in memory_groups():
        try:
            with open(f"{folder}/{'memory.max' if v2 else 'memory.limit_in_bytes'}") as file:
                total = min(total, int(file.read()))
        except (OSError, ValueError):  # "max" is no limit
            continue
    return total


def memory_groups() -> Iterator[tuple[str, bool]]:
    """The folders of this process's memory control group and of those above it, and whether they are of version 2.

    They are strings, because a daemon asks all the time, and pathlib has Python intern every part of every path.
    """
    try:
        with open("/proc/self/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        v2 = controllers == ""
        if v2 or "memory" in controllers.split(","):
            root = "/sys/fs/cgroup" if v2 else "/sys/fs/cgroup/memory"
            folder = f"{root}/{place.strip('/')}".rstrip("/")
            while len(folder) >= len(root):
                yield folder, v2
                folder = os.path.dirname(folder)


def format_size(size: float) -> str:
    """Bytes for people, in powers of 1000 as disks are sold: ``1.7 GB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 999.5 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"


def format_duration(seconds: float) -> str:
    """Seconds for people: ``0.4 s``, ``12 s``, ``3m 20s``, ``2h 05m``, ``3d 04h``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def format_count(number: int) -> str:
    """A number of parameters as the field writes it: 7.24B, 851M."""
    for factor, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= factor:
            value = number / factor
            return f"{value:.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}"
    return str(number)
