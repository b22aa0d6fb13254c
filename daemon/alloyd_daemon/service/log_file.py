"""The logs of the daemon and of its helpers: JSON, an object a line, rotated; plain lines on stderr for people.

A record is ``{"at", "level", "message"}``, ``job`` where it is about one, and what else the caller gave as ``extra``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

from alloyd.foreign import printable
from alloyd.paths import Home
from alloyd.units import parse_size

from ..settings import DaemonSettings

_USUAL: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Said in the line itself, below it, or only in the file.
_ELSEWHERE: Final = ("at", "level", "message", "traceback", "job", "output", "settings")
# What journald takes at the head of a line, as syslog numbers it.
_PRIORITIES: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """A record as plain data."""
    told: dict[str, Any] = {
        "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "message": record.getMessage(),
    }
    told |= {name: value for name, value in vars(record).items() if name not in _USUAL}
    if record.exc_info:
        told["traceback"] = logging.Formatter().formatException(record.exc_info)
    return told


class JsonLines(logging.Formatter):
    """One JSON object, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        # The standard library's encoder: it also takes what UTF-8 cannot hold, such as a file's name.
        return json.dumps(fields(record), default=str)


class PlainLines(logging.Formatter):
    """A line for people; ``journal`` leaves out the time, which journald knows, and says the priority instead."""

    def __init__(self, *, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        told = fields(record)
        more = [f"{name}={value}" for name, value in told.items()
                if name not in _ELSEWHERE and value != ""]  # fmt: skip
        words = told["message"] + (f" ({', '.join(more)})" if more else "")
        # Words of others may hold line breaks and what a terminal obeys: no line is without its head.
        lines = [
            *words.splitlines(),
            *str(told.get("output", "")).splitlines(),
            *str(told.get("traceback", "")).splitlines(),
        ]
        if self._journal:
            head = f"<{_PRIORITIES.get(record.levelname, 6)}>"
        else:
            head = f"{told['at'].replace('T', ' ')[:19]}Z {record.levelname} "
        return "\n".join(f"{head}{printable(line)}" for line in lines if line)


class LogFile(RotatingFileHandler):
    """A private file that is begun anew when it is full; a full disk costs lines, no work."""

    def __init__(self, file: Path, largest: int, count: int) -> None:
        super().__init__(file, maxBytes=largest, backupCount=count, encoding="utf-8", delay=True)
        self.setFormatter(JsonLines())

    def _open(self) -> TextIOWrapper:
        handle = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return open(handle, "a", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:
        """What cannot be written is lost; there is no other place for it."""

    def reopen(self) -> None:
        """Go on in a new file when the old one was moved away."""
        with self.lock or contextlib.nullcontext():
            if self.stream is not None:
                self.stream.close()
                self.stream = None


class Quiet(logging.StreamHandler[Any]):
    """Lines on stderr; a terminal that was closed costs lines, no work."""

    def handleError(self, record: logging.LogRecord) -> None:
        """What cannot be written is in the file."""


def under_journal(environ: Mapping[str, str], descriptor: int = 2) -> bool:
    """Whether ``descriptor`` goes to journald: ``$JOURNAL_STREAM`` names its device and inode."""
    try:
        facts = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{facts.st_dev}:{facts.st_ino}"


def begin(home: Home, settings: DaemonSettings, name: str = "daemon") -> LogFile:
    """Log into ``logs/<name>.log``, and on stderr where somebody may read it; returns the file, to be reopened."""
    file = LogFile(home.log(name), parse_size(settings.log_size), settings.log_count)
    handlers: list[logging.Handler] = [file]
    if not _stray(home):
        plain = Quiet(sys.stderr)
        plain.setFormatter(PlainLines(journal=under_journal(os.environ)))
        handlers.append(plain)
    logging.basicConfig(level=settings.log_level.upper(), handlers=handlers, force=True)
    return file


def _stray(home: Home) -> bool:
    """Whether stderr is the file for what a daemon in the background says besides its log."""
    try:
        return os.path.samestat(os.fstat(2), os.stat(home.stray))
    except OSError:
        return False


def bound(file: Path, largest: int) -> bool:
    """Cut a job's log that has grown beyond ``largest`` bytes; its last half of them is kept as ``FILE.1``.

    The job appends to the file all the while, so it is emptied in place. Returns whether that was done.
    """
    try:
        if os.stat(file).st_size <= largest:
            return False
        with open(file, "r+b") as log:
            log.seek(-(largest // 2), os.SEEK_END)
            last = log.read(largest)
            kept = file.with_name(f"{file.name}.1")
            handle = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(handle, "wb") as copy:
                copy.write(last)
            log.truncate(0)
    except OSError:
        return False
    return True
