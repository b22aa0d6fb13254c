"""A wall clock that a test turns while a daemon runs: a trial daemon that reads how far off it is from a file."""

from __future__ import annotations

import importlib
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final

import trial_daemon

READERS: Final = ("store", "worker", "server", "resources")
"""Modules of the service that ask what time it is."""
DAEMON: Final = (
    f"import trial_clock; trial_clock.install(__import__('os').environ['CLOCK']); {trial_daemon.DAEMON}"
)


def install(file: str) -> None:
    """Have this process see the time that is as many seconds from the true one as ``file`` says."""
    true = time.time

    def off() -> float:
        try:
            return float(Path(file).read_text())
        except (OSError, ValueError):
            return 0.0

    class Turned(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=off())

    time.time = lambda: true() + off()
    time.time_ns = lambda: int((true() + off()) * 1e9)
    for name in READERS:
        importlib.import_module(f"alloyd_daemon.service.{name}").datetime = Turned  # type: ignore[attr-defined]


def turn(file: Path, seconds: float) -> None:
    """Turn the clock from now on."""
    beside = file.with_name(f".{file.name}")
    beside.write_text(str(seconds))
    beside.rename(file)
