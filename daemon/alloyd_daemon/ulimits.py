"""What the limits of the shell (ulimit) leave a daemon and its jobs, in words."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

from alloyd.errors import ServiceError
from alloyd.units import format_size

LEAST_FILES: Final = 128
MOST_FILES: Final = 65536
FEW_PROCESSES: Final = 1024
"""Processes and threads of all programs of a user, below which they may have run out."""


def open_more_files() -> None:
    """Let so many files be open as this user may have: each client is one, and ZeroMQ aborts where no more may be.

    Raises
    ------
    ServiceError
        They are too few to serve anybody.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if wanted > soft != resource.RLIM_INFINITY:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft != resource.RLIM_INFINITY and soft < LEAST_FILES:
        raise ServiceError(
            f"at most {soft} files may be open here, and the daemon needs {LEAST_FILES}",
            hint="Start it where 'ulimit -n' allows more.",
        )


def tight() -> str:
    """A sentence on what is so little that libraries die of it, which they seldom tell; else empty."""
    addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    found = []
    if addresses != resource.RLIM_INFINITY:
        found.append(f"{format_size(addresses)} of addresses (ulimit -v)")
    if processes != resource.RLIM_INFINITY and processes < FEW_PROCESSES:
        found.append(f"{processes} processes and threads (ulimit -u)")
    return f" Here it may have no more than {' and '.join(found)}: is it that?" if found else ""
