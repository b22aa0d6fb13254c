"""Opens the file of a store: whose it is, whether it is sound, and what its version lacks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from alloyd.errors import StoreError
from alloyd.file_systems import network_file_system

from ..faults import reach
from ..transaction import transaction
from .store_schema import statements

APPLICATION: Final = 0x616C6C6F  # "allo"
INCREMENTAL: Final = 2
"""SQLite's number for a file that gives back what is free in it when it is asked to."""
CACHE_KIB: Final = 256
"""Pages of it in memory. The usual 2 MiB would fill with the jobs of a day; the system's own cache has them all."""
UNUSABLE: Final = "Check its disk and rights; if it is damaged, move it away (finished merges are not in it)."


def open_store(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """The store at ``path``, made where there is none, brought to the last of ``migrations``.

    Before it is migrated it is copied to ``<name>.v<version>``; a migration that fails changes nothing.

    Raises
    ------
    StoreError
        The file is newer than this program, damaged, of another program, or on a network file system.
    """
    refuse_network(path.parent)
    try:
        db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
    except sqlite3.Error as wrong:
        text = f"the job store {path} cannot be opened: {wrong}"
        raise StoreError(text, hint=UNUSABLE, path=str(path)) from wrong
    try:
        os.chmod(path, 0o600)
        db.row_factory = sqlite3.Row
        version = _check(db, path, len(migrations))
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        if version < len(migrations):
            if version:
                _back_up(db, path.with_name(f"{path.name}.v{version}"))
            _migrate(db, version, migrations)
            _let_shrink(db)
    except sqlite3.Error as wrong:
        db.close()
        raise _damaged(path, str(wrong)) from wrong
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection, path: Path, newest: int) -> int:
    """The version of a sound store of ours."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION and (application or version or tables):
        raise StoreError(
            f"{path} is a database of another program",
            hint="Choose another home with --home or ALLOYD_HOME.",
            path=str(path),
        )
    if version > newest:
        raise StoreError(
            f"the job store {path} is of version {version}; this program knows up to {newest}",
            hint="Use the newer program that wrote it, or another home.",
            path=str(path),
        )
    (sound,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if sound != "ok":
        raise _damaged(path, sound)
    return version


def _migrate(db: sqlite3.Connection, version: int, migrations: Sequence[str]) -> None:
    """Run what comes after ``version``, all of it or nothing."""
    with transaction(db):
        for script in migrations[version:]:
            for statement in statements(script):
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {len(migrations)}")
    reach("store-migrate")


def _let_shrink(db: sqlite3.Connection) -> None:
    """Have a store of an older version give room back piece by piece; where there is no room to write it anew, not."""
    if db.execute("PRAGMA auto_vacuum").fetchone()[0] != INCREMENTAL:
        with contextlib.suppress(sqlite3.OperationalError):
            db.execute("VACUUM")


def _back_up(db: sqlite3.Connection, final: Path) -> None:
    """Copy the store to ``final``, whole or not at all."""
    beside = final.with_name(final.name + ".new")
    beside.unlink(missing_ok=True)
    copy = sqlite3.connect(beside)
    try:
        db.backup(copy)
    finally:
        copy.close()
    os.chmod(beside, 0o600)
    handle = os.open(beside, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(beside, final)


def _damaged(path: Path, what: str) -> StoreError:
    return StoreError(
        f"the job store {path} is damaged or cannot be read: {what}",
        hint="Look for room on its disk; if it is damaged, move it away or restore a backup beside it.",
        path=str(path),
    )


def refuse_network(folder: Path) -> None:
    """Raise StoreError when ``folder`` lies on a network file system."""
    name = network_file_system(folder)
    if name:
        raise StoreError(
            f"the home {folder} lies on a network file system ({name}), where a job store is not safe",
            hint="Choose a local folder with --home or ALLOYD_HOME.",
            path=str(folder),
        )
