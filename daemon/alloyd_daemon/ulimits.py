"""What the limits of the shell (ulimit) leave a daemon and its jobs, in words."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

from alloyd.errors import ServiceError
from alloyd.units import format_size

LEAST_FILES: Final = 128
MOST_FILES: Final = 65536


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


def few_addresses() -> str:
    """A sentence where a process may have so many addresses only, which libraries seldom tell; else empty."""
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        return ""
    return f" A process may have {format_size(most)} of addresses (ulimit -v) here: is it that?"
