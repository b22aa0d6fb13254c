"""The file of a search's record: opened, locked, and refused where it is damaged, of another program or newer."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alloyd.errors import DiskFull, JobError, JobNotFound, StoreError

RECORD: Final = "history.db"
APPLICATION: Final = 0x616C7368  # "alsh"
VERSION: Final = 1


def folder_of(home: Path, job: str) -> Path:
    """Where all that belongs to the search ``job`` lies."""
    return home / "searches" / job


def record_of(home: Path, job: str) -> Path:
    """The record of the search ``job``. Raises JobNotFound where there is none."""
    path = folder_of(home, job) / RECORD
    try:
        there = job != "" and Path(job).name == job and path.is_file()
    except OSError:  # a name that no file can have
        there = False
    if not there:
        raise JobNotFound(
            f"there is no record of a search '{job}'", hint="'alloy ps --all' lists jobs.", job=job
        )
    return path


def connect(path: Path, uri: str) -> sqlite3.Connection:
    """A connection whose rows go by the names of their columns. Raises as :func:`told_of` does."""

    with told_of(path):
        db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10.0)
        db.row_factory = sqlite3.Row
    return db


def check(db: sqlite3.Connection, path: Path, *, fresh: bool) -> None:
    """Refuse what is no record of a search; an empty file is one that was just made, where ``fresh`` allows it."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION and (application or version or tables or not fresh):
        raise StoreError(f"{path} is no record of a search", hint="Move it away.", path=str(path))
    if version > VERSION:
        raise StoreError(
            f"the record {path} is of version {version}; this program knows up to {VERSION}",
            hint="Use the newer program that wrote it.",
            path=str(path),
        )
    (sound,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if sound != "ok":
        raise _damaged(path, sound)


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """What SQLite says against the file, as one clear error."""
    try:
        yield
    except sqlite3.Error as wrong:
        if getattr(wrong, "sqlite_errorname", "") == "SQLITE_FULL":
            raise DiskFull(
                f"no room is left for the record of the search in {path.parent}",
                hint="Make room, then resume the job: what was committed is kept.",
                path=str(path),
            ) from wrong
        raise _damaged(path, str(wrong)) from wrong
    except UnicodeDecodeError as wrong:
        raise _damaged(path, "it holds text that is no UTF-8") from wrong


@contextmanager
def making_sense(path: Path) -> Iterator[None]:
    """What a row holds that nobody here wrote, as one clear error."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as wrong:
        raise _damaged(path, f"a row makes no sense ({wrong})") from wrong


def _damaged(path: Path, what: str) -> StoreError:
    return StoreError(
        f"the record of the search {path} is damaged or cannot be used: {what}",
        hint="Look for room on its disk, and at its rights; if it is damaged, search anew.",
        path=str(path),
    )


def locked(path: Path, patience: float) -> int:
    """The descriptor of the file ``path``, locked; raises JobError where another holds it for ``patience`` seconds."""

    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(handle)
                raise JobError(
                    f"another process writes the record of the search in {path.parent}",
                    hint="Wait for it to end, then try again.",
                    path=str(path),
                ) from None
            time.sleep(0.05)


def quoted(path: Path) -> str:
    """``path`` as a URI has it."""

    from urllib.parse import quote

    return quote(os.fsencode(path.absolute()))
