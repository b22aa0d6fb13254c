"""One transaction of SQLite: on disk, all of it, when the block is left, or nothing of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Begin, or go on with what has begun, and commit at the end; rolled back whatever is raised inside.

    ``db`` commits nothing by itself (``isolation_level=None``). Raises sqlite3.Error.
    """
    if not db.in_transaction:
        db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
