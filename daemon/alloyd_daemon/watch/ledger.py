"""What is known of watched folders, in SQLite: the folders, what was claimed, running soups. All of the SQL is here.

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
        kind    TEXT NOT NULL,             -- 'recipe', 'search' or 'model'; '' until it was read
        name    TEXT NOT NULL,             -- the file, or the model as seen from the folder
        digest  TEXT NOT NULL,
        rule    TEXT NOT NULL DEFAULT '',
        attempt INTEGER NOT NULL DEFAULT 0,
        state   TEXT NOT NULL,
        trials  INTEGER NOT NULL DEFAULT 0,  -- times it was taken up without getting further
        out     TEXT NOT NULL DEFAULT '',
        score   TEXT NOT NULL DEFAULT '',
        job     TEXT NOT NULL DEFAULT '',
        plan    TEXT NOT NULL DEFAULT '',    -- what was decided before the first job: the same after a kill
        target  TEXT NOT NULL DEFAULT '',
        created TEXT NOT NULL,
        ended   TEXT
    )
    """,
    "CREATE INDEX claims_by_state ON claims (folder, state)",
    "CREATE INDEX claims_by_digest ON claims (folder, digest)",
    "CREATE UNIQUE INDEX one_trigger ON claims (folder, rule, digest) WHERE kind = 'model'",
    "CREATE TABLE rules (folder TEXT NOT NULL, rule TEXT NOT NULL, PRIMARY KEY (folder, rule))",
    """
    CREATE TABLE soups (
        folder     TEXT NOT NULL,
        rule       TEXT NOT NULL,
        generation INTEGER NOT NULL,
        path       TEXT NOT NULL,
        model      TEXT NOT NULL,
        count      INTEGER NOT NULL,  -- models in it
        claim      TEXT NOT NULL,
        at         TEXT NOT NULL,
        PRIMARY KEY (folder, rule, generation)
    )
    """,
)

State = Literal[
    "claiming", "claimed", "submitted", "ending", "done", "kept", "failed", "duplicate", "lost", "seen"
]
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
    INSERT INTO claims (id, folder, kind, name, digest, rule, state, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING
"""
CLAIM: Final = "SELECT * FROM claims WHERE id = ?"
OPEN_CLAIMS: Final = """
    SELECT * FROM claims WHERE folder = ? AND state IN ('claiming', 'claimed', 'submitted', 'ending') ORDER BY number
"""
SAME_CONTENT: Final = """
    SELECT * FROM claims WHERE folder = ? AND digest = ? AND kind != 'model' AND id != ? ORDER BY number
"""
TRIGGERED: Final = "SELECT state FROM claims WHERE folder = ? AND rule = ? AND digest = ? AND kind = 'model'"
OUT_TAKEN: Final = "SELECT 1 FROM claims WHERE folder = ? AND out = ? AND id != ? AND digest != ? LIMIT 1"
COUNTS: Final = "SELECT state, COUNT(*) FROM claims WHERE folder = ? GROUP BY state"
FORGET: Final = "DELETE FROM claims WHERE id = ?"
KNOWN_RULES: Final = "SELECT rule FROM rules WHERE folder = ?"
ADD_RULE: Final = "INSERT INTO rules (folder, rule) VALUES (?, ?) ON CONFLICT DO NOTHING"
SOUP: Final = "SELECT * FROM soups WHERE folder = ? AND rule = ? ORDER BY generation DESC LIMIT 1"
SOUPS: Final = "SELECT * FROM soups WHERE folder = ? AND rule = ? ORDER BY generation"
ADD_SOUP: Final = "INSERT INTO soups VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"


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
    rule: str
    attempt: int
    state: State
    trials: int
    out: str
    score: str
    job: str
    plan: str
    target: str
    created: str
    ended: str | None


class Soup(Struct, frozen=True):
    """One generation of a running soup: its folder, the model that made it, and how many models are in it."""

    folder: str
    rule: str
    generation: int
    path: str
    model: str
    count: int
    claim: str
    at: str


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
            self._db.row_factory = sqlite3.Row
            os.chmod(path, 0o600)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            with self._writing():
                (version,) = self._db.execute("PRAGMA user_version").fetchone()
                if not version:
                    for statement in SCHEMA:
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {VERSION}")
        except sqlite3.Error as wrong:
            raise self._unusable(str(wrong)) from wrong
        if version > VERSION:
            self._db.close()
            raise self._unusable(f"it is of version {version}, and this program knows up to {VERSION}")

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
            hint="Check its disk and rights; moved away, folders must be added again and models count as seen.",
            path=str(self.path),
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, on disk when the block is left."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as wrong:
            raise self._unusable(str(wrong)) from wrong
        reach("watch-ledger")

    def _write(self, statement: str, values: Sequence[object]) -> int:
        with self._writing():
            return self._db.execute(statement, values).rowcount

    # Folders

    def folders(self) -> list[Folder]:
        """All watched folders, by path."""
        return [_folder(row) for row in self._db.execute(FOLDERS)]

    def add(self, path: str, settings: WatchSettings, device: int, inode: int) -> Folder:
        """Watch ``path``, or watch it otherwise; what was claimed there before stays known."""
        text = msgspec.json.encode(settings).decode()
        # The same id each time, so that a folder that is added again knows what was done in it.
        name = blake2b(os.fsencode(f"{self.path}\0{path}"), digest_size=6).hexdigest()
        self._write(PUT_FOLDER, (name, path, text, device, inode))
        return _folder(self._db.execute(FOLDER, (path,)).fetchone())

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

    def claim(
        self, folder: str, name: str, digest: str, *, kind: str = "", rule: str = "", state: State
    ) -> Claim | None:
        """Begin a claim; ``None`` for a model that a rule was triggered by before."""
        name_of = uuid4().hex[:12]
        at = self._now().isoformat()
        if not self._write(INSERT_CLAIM, (name_of, folder, kind, name, digest, rule, state, at)):
            return None
        return self.get(name_of)

    def get(self, claim: str) -> Claim:
        """A claim as it is now."""
        return _claim(self._db.execute(CLAIM, (claim,)).fetchone())

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
        return [_claim(row) for row in self._db.execute(OPEN_CLAIMS, (folder,))]

    def same_content(self, claim: Claim) -> list[Claim]:
        """The other claims of files with the content of ``claim`` in its folder, oldest first."""
        rows = self._db.execute(SAME_CONTENT, (claim.folder, claim.digest, claim.id))
        return [_claim(row) for row in rows]

    def out_taken(self, claim: Claim, out: str) -> bool:
        """Whether other content has been given the place ``out``."""
        values = (claim.folder, out, claim.id, claim.digest)
        return self._db.execute(OUT_TAKEN, values).fetchone() is not None

    def counts(self, folder: str) -> dict[str, int]:
        """The number of a folder's claims by state."""
        return dict(self._db.execute(COUNTS, (folder,)).fetchall())

    # Rules

    def known_rules(self, folder: str) -> set[str]:
        """The rules whose first look at the folder is over."""
        return {row["rule"] for row in self._db.execute(KNOWN_RULES, (folder,))}

    def begin_rule(self, folder: str, rule: str, seen: Sequence[tuple[str, str]]) -> None:
        """A rule is new: the models (name, digest) that are there already count as seen, all in one step."""
        at = self._now().isoformat()
        with self._writing():
            for name, digest in seen:
                values = (uuid4().hex[:12], folder, "model", name, digest, rule, "seen", at)
                self._db.execute(INSERT_CLAIM, values)
            self._db.execute(ADD_RULE, (folder, rule))

    def triggered(self, folder: str, rule: str, digest: str) -> bool:
        """Whether a rule has dealt with this model, deals with it, or saw it when the rule was new."""
        return self._db.execute(TRIGGERED, (folder, rule, digest)).fetchone() is not None

    def soup(self, folder: str, rule: str) -> Soup | None:
        """The running soup of a rule."""
        row = self._db.execute(SOUP, (folder, rule)).fetchone()
        return None if row is None else msgspec.convert(dict(row), type=Soup)

    def soups(self, folder: str, rule: str) -> list[Soup]:
        """Every generation of a rule's running soup, oldest first."""
        return [msgspec.convert(dict(row), type=Soup) for row in self._db.execute(SOUPS, (folder, rule))]

    def keep_soup(self, claim: Claim, generation: int, path: str, count: int) -> None:
        """Make ``path`` the running soup and end ``claim``, in one step; a repetition changes nothing."""
        at = self._now().isoformat()
        with self._writing():
            values = (claim.folder, claim.rule, generation, path, claim.name, count, claim.id, at)
            self._db.execute(ADD_SOUP, values)
            self._db.execute("UPDATE claims SET state = 'kept', ended = ? WHERE id = ?", (at, claim.id))


def _folder(row: sqlite3.Row) -> Folder:
    settings = msgspec.json.decode(row["settings"], type=WatchSettings)
    fields = {**dict(row), "settings": settings}
    return msgspec.convert(fields, type=Folder, strict=False)


def _claim(row: sqlite3.Row) -> Claim:
    return msgspec.convert(dict(row), type=Claim)
