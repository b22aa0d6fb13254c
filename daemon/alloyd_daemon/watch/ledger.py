"""What is known of watched folders, in SQLite: the folders, and what was claimed. All of the SQL is here.

The daemon writes folders, the watcher everything else; each may be killed at any moment. A claim is on disk before the
file that it is about is touched, and a job is asked for under a token that follows from the claim, so that whoever
comes next repeats the same step and nothing happens twice.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal, Self
from uuid import uuid4

import msgspec
from msgspec import Struct

from alloyd.errors import StoreError
from alloyd.watch_schema import Watch, WatchSettings

from ..faults import reach
from ..transaction import transaction

FILE: Final = "watch.sqlite"
VERSION: Final = 1
SCHEMA: Final = (
    """
    CREATE TABLE folders (
        id       TEXT PRIMARY KEY,
        path     TEXT NOT NULL UNIQUE,
        settings TEXT NOT NULL,
        device   INTEGER NOT NULL,  -- st_dev and st_ino of the folder that was added
        inode    INTEGER NOT NULL,
        marked   INTEGER NOT NULL DEFAULT 0,  -- whether a file in it says so too
        removed  INTEGER NOT NULL DEFAULT 0,  -- only what was taken is still brought to its end
        status   TEXT NOT NULL DEFAULT '{}'
    )
    """,
    """
    CREATE TABLE claims (
        number  INTEGER PRIMARY KEY AUTOINCREMENT,
        id      TEXT NOT NULL UNIQUE,
        folder  TEXT NOT NULL,
        kind    TEXT NOT NULL,             -- 'recipe' or 'search'; '' until it was read
        name    TEXT NOT NULL,             -- of the file
        digest  TEXT NOT NULL,
        attempt INTEGER NOT NULL DEFAULT 0,
        state   TEXT NOT NULL,
        trials  INTEGER NOT NULL DEFAULT 0,  -- times it was taken up without getting further
        out     TEXT NOT NULL DEFAULT '',
        job     TEXT NOT NULL DEFAULT '',
        plan    TEXT NOT NULL DEFAULT '',    -- how it ends: the error as JSON, or 'duplicate'
        target  TEXT NOT NULL DEFAULT '',
        created TEXT NOT NULL,
        ended   TEXT
    )
    """,
    "CREATE INDEX claims_by_state ON claims (folder, state)",
    "CREATE INDEX claims_by_digest ON claims (folder, digest)",
)

State = Literal["claiming", "claimed", "submitted", "ending", "done", "failed", "duplicate"]
OPEN: Final = ("claiming", "claimed", "submitted", "ending")

FOLDERS: Final = "SELECT * FROM folders ORDER BY path"
FOLDER: Final = "SELECT * FROM folders WHERE path = ?"
PUT_FOLDER: Final = """
    INSERT INTO folders (id, path, settings, device, inode) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (path) DO UPDATE SET
        settings = excluded.settings, device = excluded.device, inode = excluded.inode, marked = 0,
        removed = 0
"""
REMOVE_FOLDER: Final = "UPDATE folders SET removed = 1 WHERE path = ? AND removed = 0"
DROP_FOLDER: Final = "DELETE FROM folders WHERE id = ? AND removed = 1"
SET_IDENTITY: Final = "UPDATE folders SET device = ?, inode = ?, marked = ? WHERE id = ?"
SET_STATUS: Final = "UPDATE folders SET status = ? WHERE id = ?"
INSERT_CLAIM: Final = """
    INSERT INTO claims (id, folder, kind, name, digest, state, created) VALUES (?, ?, '', ?, ?, 'claiming', ?)
"""
CLAIM: Final = "SELECT * FROM claims WHERE id = ?"
OPEN_CLAIMS: Final = """
    SELECT * FROM claims WHERE folder = ? AND state IN ('claiming', 'claimed', 'submitted', 'ending') ORDER BY number
"""
SAME_CONTENT: Final = """
    SELECT * FROM claims WHERE folder = ? AND digest = ? AND id != ? ORDER BY number
"""
OUT_TAKEN: Final = "SELECT 1 FROM claims WHERE folder = ? AND out = ? AND id != ? AND digest != ? LIMIT 1"
COUNTS: Final = "SELECT state, COUNT(*) FROM claims WHERE folder = ? GROUP BY state"
FORGET: Final = "DELETE FROM claims WHERE id = ?"


class Folder(Struct, frozen=True):
    """A watched folder: its id, where it is, and which file system and folder that was when it was added."""

    id: str
    path: str
    settings: WatchSettings
    device: int
    inode: int
    marked: bool
    removed: bool
    status: str


class Claim(Struct, frozen=True):
    """Something that was taken, and how far it has got; see the columns above."""

    number: int
    id: str
    folder: str
    kind: str
    name: str
    digest: str
    attempt: int
    state: State
    trials: int
    out: str
    job: str
    plan: str
    target: str
    created: str
    ended: str | None


class Ledger:
    """The file ``watch.sqlite`` of one home; daemon and watcher each have it open.

    Raises
    ------
    StoreError
        It is newer than this program, damaged, or cannot be written.
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path = path
        self._now = now
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        except sqlite3.Error as wrong:
            raise self._unusable(str(wrong)) from wrong
        try:
            os.chmod(path, 0o600)
            self._db.row_factory = sqlite3.Row
            self._open()
        except BaseException as wrong:
            self._db.close()
            if isinstance(wrong, sqlite3.Error):
                raise self._unusable(str(wrong)) from wrong
            raise

    def _open(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        with self._writing():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise self._unusable(f"it is of version {version}, and this program knows up to {VERSION}")
            if not version:
                for statement in SCHEMA:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {VERSION}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _unusable(self, what: str) -> StoreError:
        return StoreError(
            f"the record of watched folders {self.path} cannot be used: {what}",
            hint="Check its disk and rights; moved away, folders must be added again, and what was done counts as new.",
            path=str(self.path),
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, on disk when the block is left."""
        try:
            with transaction(self._db):
                yield
        except sqlite3.Error as wrong:
            raise self._unusable(str(wrong)) from wrong
        reach("watch-ledger")

    def _rows(self, statement: str, *values: object) -> list[sqlite3.Row]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as wrong:
            raise self._unusable(str(wrong)) from wrong

    def _write(self, statement: str, values: Sequence[object]) -> int:
        with self._writing():
            return self._db.execute(statement, values).rowcount

    # Folders

    def folders(self) -> list[Folder]:
        """All watched folders, by path."""
        return [_folder(row) for row in self._rows(FOLDERS)]

    def add(self, path: str, settings: WatchSettings, device: int, inode: int) -> Folder:
        """Watch ``path``, or watch it otherwise; what was claimed there before stays known."""
        text = msgspec.json.encode(settings).decode()
        # The same id each time, so that a folder that is added again knows what was done in it.
        name = blake2b(os.fsencode(f"{self.path}\0{path}"), digest_size=6).hexdigest()
        self._write(PUT_FOLDER, (name, path, text, device, inode))
        return _folder(self._rows(FOLDER, path)[0])

    def remove(self, path: str) -> bool:
        """Take nothing from ``path`` any more; whether it was watched. What was taken is brought to its end."""
        return self._write(REMOVE_FOLDER, (path,)) > 0

    def drop(self, folder: str) -> None:
        """Forget a removed folder of which nothing is left to do; its claims stay known."""
        self._write(DROP_FOLDER, (folder,))

    def recognise(self, folder: str, device: int, inode: int, *, marked: bool) -> None:
        """Remember the file system and folder that a watched path now leads to."""
        self._write(SET_IDENTITY, (device, inode, int(marked), folder))

    def tell(self, folder: str, status: Struct) -> None:
        """Keep how a folder is, for whoever asks."""
        self._write(SET_STATUS, (msgspec.json.encode(status).decode(), folder))

    def watches(self) -> list[Watch]:
        """All watched folders as people see them."""
        found = []
        for folder in self.folders():
            status = msgspec.json.decode(folder.status, type=dict[str, msgspec.Raw])
            fields = {key: msgspec.json.decode(value) for key, value in status.items()}
            fields |= {"path": folder.path, "settings": msgspec.to_builtins(folder.settings)}
            fields["claims"] = self.counts(folder.id)
            if folder.removed:
                fields["state"] = "leaving"
            found.append(msgspec.convert(fields, type=Watch))
        return found

    # Claims

    def claim(self, folder: str, name: str, digest: str) -> Claim:
        """Begin a claim."""
        own = uuid4().hex[:12]
        self._write(INSERT_CLAIM, (own, folder, name, digest, self._now().isoformat()))
        return self.get(own)

    def get(self, claim: str) -> Claim:
        """A claim as it is now."""
        return _claim(self._rows(CLAIM, claim)[0])

    def change(self, claim: str, **fields: object) -> Claim:
        """Change columns of a claim; an end gets its time."""
        if "state" in fields and fields["state"] not in OPEN:
            fields["ended"] = self._now().isoformat()
        columns = ", ".join(f"{name} = :{name}" for name in fields)
        with self._writing():
            self._db.execute(f"UPDATE claims SET {columns} WHERE id = :id", {**fields, "id": claim})
        return self.get(claim)

    def forget(self, claim: str) -> None:
        """Drop a claim that came to nothing: somebody else took the file."""
        self._write(FORGET, (claim,))

    def open_claims(self, folder: str) -> list[Claim]:
        """The claims of a folder that have not ended, oldest first."""
        return [_claim(row) for row in self._rows(OPEN_CLAIMS, folder)]

    def same_content(self, claim: Claim) -> list[Claim]:
        """The other claims of files with the content of ``claim`` in its folder, oldest first."""
        rows = self._rows(SAME_CONTENT, claim.folder, claim.digest, claim.id)
        return [_claim(row) for row in rows]

    def out_taken(self, claim: Claim, out: str) -> bool:
        """Whether other content has been given the place ``out``."""
        return bool(self._rows(OUT_TAKEN, claim.folder, out, claim.id, claim.digest))

    def counts(self, folder: str) -> dict[str, int]:
        """The number of a folder's claims by state."""
        return {row[0]: row[1] for row in self._rows(COUNTS, folder)}


def _folder(row: sqlite3.Row) -> Folder:
    settings = msgspec.json.decode(row["settings"], type=WatchSettings)
    fields = {**dict(row), "settings": settings}
    return msgspec.convert(fields, type=Folder, strict=False)


def _claim(row: sqlite3.Row) -> Claim:
    return msgspec.convert(dict(row), type=Claim)
