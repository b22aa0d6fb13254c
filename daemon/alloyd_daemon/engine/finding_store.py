"""Findings on disk: one SQLite file that many jobs share, of bounded size, and that may be lost or damaged at any time.

It is a cache: nothing waits for the disk, an entry that does not prove itself is a miss, and a file that cannot be used
is left alone or thrown away. Nothing here raises because of what is on disk.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from pathlib import Path
from typing import Final

import msgspec
from blake3 import blake3

from ..stages import Numbers

FILE: Final = "findings-1.sqlite"
BATCH: Final = 1024
"""Findings that are written together."""

BATCH_SECONDS: Final = 10.0
"""What a kill may lose."""

STAMP_SECONDS: Final = 3600
"""How exactly the time of the last use is known; a finding used again within it costs no write."""

_CHECK: Final = 8
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

SETUP = (
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = OFF",
    """CREATE TABLE IF NOT EXISTS findings (
        key   BLOB PRIMARY KEY,
        value BLOB NOT NULL,  -- checksum of key and numbers, numbers
        used  INTEGER NOT NULL
    ) WITHOUT ROWID""",
)
FIND = "SELECT value, used FROM findings WHERE key = ?"
KEEP = "INSERT OR REPLACE INTO findings (key, value, used) VALUES (?, ?, ?)"
STAMP = "UPDATE findings SET used = ? WHERE key = ?"
PAGES = """
    SELECT (page_count - freelist_count) * page_size
    FROM pragma_page_count, pragma_freelist_count, pragma_page_size
"""
COUNT = "SELECT COUNT(*) FROM findings"
FORGET = "DELETE FROM findings WHERE key IN (SELECT key FROM findings ORDER BY used LIMIT ?)"
GIVE_BACK = "PRAGMA incremental_vacuum"  # as a script: executed as a statement it gives back one page

log = logging.getLogger("alloyd")
_decoder = msgspec.msgpack.Decoder(tuple[int | float, ...])


class FindingStore:
    """Numbers by key (16 bytes) in ``folder``, in at most ``limit`` bytes; the least recently used go first."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._file = folder / FILE
        self._limit = limit
        self._lock = threading.Lock()
        self._fresh: dict[bytes, bytes] = {}
        self._used: set[bytes] = set()
        self._written = time.monotonic()
        self._connection: sqlite3.Connection | None = None
        with self._lock:
            self._open()

    def recall(self, key: bytes) -> Numbers | None:
        """The numbers under ``key``; ``None`` when there are none that prove themselves."""
        with self._lock:
            if self._connection is None:
                return None
            try:
                row = self._connection.execute(FIND, (key,)).fetchone()
            except sqlite3.Error as wrong:
                self._give_up(wrong)
                return None
            if row is None:
                return None
            value, used = row
            numbers = _unsealed(key, value)
            if numbers is not None and used != _stamp():
                self._used.add(key)
            return numbers

    def remember(self, key: bytes, numbers: Numbers) -> None:
        """Keep ``numbers``; they are on their way to the disk when a batch is full, or by :meth:`close`."""
        with self._lock:
            if self._connection is None:
                return
            self._fresh[key] = _sealed(key, numbers)
            if len(self._fresh) >= BATCH or time.monotonic() - self._written > BATCH_SECONDS:
                self._write()

    def close(self) -> None:
        """Write what is left."""
        with self._lock:
            self._write()
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> None:
        for attempt in range(2):
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._connection = sqlite3.connect(
                    self._file, timeout=1.0, isolation_level=None, check_same_thread=False
                )
                for each in SETUP:
                    self._connection.execute(each)
                return
            except (sqlite3.Error, OSError) as wrong:
                if not self._give_up(wrong) or attempt:
                    return

    def _write(self) -> None:
        if self._connection is None or not (self._fresh or self._used):
            return
        self._written = time.monotonic()
        now = _stamp()
        fresh, used = self._fresh, self._used
        self._fresh, self._used = {}, set()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(KEEP, [(key, value, now) for key, value in fresh.items()])
            self._connection.executemany(STAMP, [(now, key) for key in used])
            self._connection.execute("COMMIT")
            self._shrink()
        except sqlite3.OperationalError as wrong:
            if wrong.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                self._give_up(wrong)
        except sqlite3.Error as wrong:
            self._give_up(wrong)

    def _shrink(self) -> None:
        """Forget quarters of what is there, least recently used first, until the rest fits."""
        assert self._connection is not None
        while self._size() > self._limit:
            (count,) = self._connection.execute(COUNT).fetchone()
            if not count:
                return
            if not self._connection.execute(FORGET, (-(-count // 4),)).rowcount:
                return
            self._connection.executescript(GIVE_BACK)

    def _size(self) -> int:
        assert self._connection is not None
        (size,) = self._connection.execute(PAGES).fetchone()
        return int(size)

    def _give_up(self, wrong: Exception) -> bool:
        """Go on without the disk; a damaged file is removed, so that the next one to open it starts anew."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        damaged = isinstance(wrong, sqlite3.Error) and getattr(wrong, "sqlite_errorcode", 0) & 0xFF in _DAMAGE
        log.warning("findings are not kept in %s: %s", self._file, wrong)
        if damaged:
            try:
                for ending in ("", "-wal", "-shm"):
                    self._file.with_name(self._file.name + ending).unlink(missing_ok=True)
            except OSError:
                return False
        return damaged


def _stamp() -> int:
    return int(time.time()) // STAMP_SECONDS


def _sealed(key: bytes, numbers: Numbers) -> bytes:
    payload = msgspec.msgpack.encode(numbers)
    return blake3(key + payload).digest(_CHECK) + payload


def _unsealed(key: bytes, value: object) -> Numbers | None:
    if not isinstance(value, bytes) or value[:_CHECK] != blake3(key + value[_CHECK:]).digest(_CHECK):
        return None
    try:
        return _decoder.decode(value[_CHECK:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
