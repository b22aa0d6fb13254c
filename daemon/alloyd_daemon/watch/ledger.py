"""What is known of watched folders, in SQLite: the folders, and what was claimed. SQL is here and in ledger_prune.py.

The daemon writes folders, the watcher everything else; each may be killed at any moment. A claim is on disk before the
file that it is about is touched, and a job is asked for under a token that follows from the claim, so that whoever
comes next repeats the same step and nothing happens twice.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal, Self
from uuid import uuid4

import msgspec
from msgspec import Struct

from alloyd.errors import StoreError
from alloyd.watch_schema import RunningSoup, Watch, WatchSettings

from ..faults import reach
from ..transaction import transaction
from .ledger_prune import prune

FILE: Final = "watch.sqlite"
CACHE_KIB: Final = 256
"""Pages of it in memory, so that what was taken long ago takes none."""
FIRST: Final = (
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
MODELS: Final = (
    "ALTER TABLE folders ADD COLUMN added TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE claims ADD COLUMN rule TEXT NOT NULL DEFAULT ''",  # of a model; '' for a dropped file
    "ALTER TABLE claims ADD COLUMN path TEXT NOT NULL DEFAULT ''",  # of a model
    "ALTER TABLE claims ADD COLUMN soup TEXT NOT NULL DEFAULT ''",  # that it is merged with and compared to
    "ALTER TABLE claims ADD COLUMN judge TEXT NOT NULL DEFAULT ''",  # the job that compares them
    # Whatever is killed when: a model is claimed under a rule once.
    "CREATE UNIQUE INDEX claims_of_models ON claims (folder, rule, digest) WHERE rule != ''",
    """
    CREATE TABLE present (  -- models that were there when a rule was added
        folder    TEXT NOT NULL,
        rule      TEXT NOT NULL,
        signature TEXT NOT NULL,
        PRIMARY KEY (folder, rule, signature)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE identities (signature TEXT PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE soups (
        folder  TEXT NOT NULL,
        rule    TEXT NOT NULL,
        current TEXT NOT NULL,
        PRIMARY KEY (folder, rule)
    ) WITHOUT ROWID
    """,
)
VERSIONS: Final = (FIRST, MODELS)
"""What leads from each version of the file to the next."""

State = Literal[
    "claiming", "claimed", "submitted", "scoring", "ending", "done", "failed", "duplicate", "known"
]
KEPT: Final = "kept"
"""The plan of a claim whose candidate became the soup; that of the others is ``rejected``."""
OPEN: Final = ("claiming", "claimed", "submitted", "scoring", "ending")

FOLDERS: Final = "SELECT * FROM folders ORDER BY path"
FOLDER: Final = "SELECT * FROM folders WHERE path = ?"
PUT_FOLDER: Final = """
    INSERT INTO folders (id, path, settings, device, inode, added) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (path) DO UPDATE SET
        settings = excluded.settings, device = excluded.device, inode = excluded.inode, marked = 0,
        removed = 0, added = excluded.added
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
    SELECT * FROM claims
    WHERE folder = ? AND state IN ('claiming', 'claimed', 'submitted', 'scoring', 'ending') ORDER BY number
"""
SAME_CONTENT: Final = """
    SELECT * FROM claims WHERE folder = ? AND digest = ? AND id != ? AND rule = '' ORDER BY number
"""
OUT_TAKEN: Final = "SELECT 1 FROM claims WHERE folder = ? AND out = ? AND id != ? AND digest != ? LIMIT 1"
OPEN_JOBS: Final = """
    SELECT job, judge FROM claims WHERE state IN ('claiming', 'claimed', 'submitted', 'scoring', 'ending')
"""
COUNTS: Final = "SELECT state, COUNT(*) FROM claims WHERE folder = ? GROUP BY state"
FORGET: Final = "DELETE FROM claims WHERE id = ?"
CLAIM_MODEL: Final = """
    INSERT OR IGNORE INTO claims (id, folder, kind, name, digest, state, created, ended, rule, path)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
MODEL_CLAIM: Final = "SELECT 1 FROM claims WHERE folder = ? AND rule = ? AND digest = ?"
OURS: Final = "SELECT 1 FROM claims WHERE folder = ? AND out = ? LIMIT 1"
PUT_PRESENT: Final = "INSERT OR IGNORE INTO present VALUES (?, ?, ?)"
PRESENT: Final = "SELECT 1 FROM present WHERE folder = ? AND rule = ? AND signature = ?"
NO_MORE_PRESENT: Final = "DELETE FROM present WHERE folder = ?"
RELEASE: Final = "DELETE FROM claims WHERE folder = ? AND rule != '' AND state IN ('known', 'failed')"
PUT_IDENTITY: Final = "INSERT OR REPLACE INTO identities VALUES (?, ?)"
SOUP: Final = "SELECT current FROM soups WHERE folder = ? AND rule = ?"
BEGIN_SOUP: Final = "INSERT OR IGNORE INTO soups VALUES (?, ?, ?)"
SET_SOUP: Final = "UPDATE soups SET current = ? WHERE folder = ? AND rule = ?"
DECIDE: Final = "UPDATE claims SET state = 'ending', plan = ?, target = ? WHERE id = ?"
TRIED: Final = "SELECT COUNT(*) FROM claims WHERE folder = ? AND rule = ? AND soup != ''"
SOUPS: Final = """
    SELECT soups.rule, current, COALESCE(SUM(plan = 'kept'), 0), COALESCE(SUM(plan = 'rejected'), 0)
    FROM soups LEFT JOIN claims ON claims.folder = soups.folder AND claims.rule = soups.rule AND state = 'done'
    WHERE soups.folder = ? GROUP BY soups.rule ORDER BY soups.rule
"""
IDENTITY: Final = "SELECT identity FROM identities WHERE signature = ?"


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
    added: str


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
    rule: str
    path: str
    soup: str
    judge: str


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
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        with self._writing():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > len(VERSIONS):
                raise self._unusable(
                    f"it is of version {version}, and this program knows up to {len(VERSIONS)}"
                )
            for statements in VERSIONS[version:]:
                for statement in statements:
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {len(VERSIONS)}")

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

    def add(
        self,
        path: str,
        settings: WatchSettings,
        device: int,
        inode: int,
        *,
        present: Sequence[str] = (),
        existing: bool = False,
    ) -> Folder:
        """Watch ``path``, or watch it otherwise; what was claimed there before stays known.

        Rules that it did not have take models of the signatures ``present`` for known. With ``existing`` none are,
        and models that a rule failed with are new again.
        """
        text = msgspec.json.encode(settings).decode()
        # The same id each time, so that a folder that is added again knows what was done in it.
        name = blake2b(os.fsencode(f"{self.path}\0{path}"), digest_size=6).hexdigest()
        before = [_folder(row) for row in self._rows(FOLDER, path)]
        known = {each.name for folder in before for each in folder.settings.rules}
        fresh = () if existing else [each.name for each in settings.rules if each.name not in known]
        with self._writing():
            self._db.execute(PUT_FOLDER, (name, path, text, device, inode, self._now().isoformat()))
            if existing:
                self._db.execute(NO_MORE_PRESENT, (name,))
                self._db.execute(RELEASE, (name,))
            self._db.executemany(
                PUT_PRESENT, [(name, rule, signature) for rule in fresh for signature in present]
            )
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
            fields["soups"] = msgspec.to_builtins(self.soups(folder.id))
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

    def claim_model(
        self, folder: str, rule: str, kind: str, *, name: str, path: str, digest: str, known: bool = False
    ) -> Claim | None:
        """Begin a claim of a model under a rule; ``None`` if it has one. A ``known`` model is claimed and no more."""
        own, now = uuid4().hex[:12], self._now().isoformat()
        state, ended = ("known", now) if known else ("claimed", None)
        values = (own, folder, kind, name, digest, state, now, ended, rule, path)
        return self.get(own) if self._write(CLAIM_MODEL, values) else None

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

    def open_count(self, folder: str) -> int:
        """How many claims of a folder have not ended."""
        counts = self.counts(folder)
        return sum(counts.get(state, 0) for state in OPEN)

    def open_jobs(self) -> set[str]:
        """The jobs of all claims that have not ended."""
        return {str(job) for row in self._rows(OPEN_JOBS) for job in row if job}

    def same_content(self, claim: Claim) -> list[Claim]:
        """The other claims of files with the content of ``claim`` in its folder, oldest first."""
        rows = self._rows(SAME_CONTENT, claim.folder, claim.digest, claim.id)
        return [_claim(row) for row in rows]

    def out_taken(self, claim: Claim, out: str) -> bool:
        """Whether other content has been given the place ``out``."""
        return bool(self._rows(OUT_TAKEN, claim.folder, out, claim.id, claim.digest))

    def has_model(self, folder: str, rule: str, digest: str) -> bool:
        """Whether a model of this content has been claimed under a rule, or was known to it."""
        return bool(self._rows(MODEL_CLAIM, folder, rule, digest))

    def was_present(self, folder: str, rule: str, signature: str) -> bool:
        """Whether a model was there, as it is now, when a rule was added."""
        return bool(self._rows(PRESENT, folder, rule, signature))

    def is_ours(self, folder: str, path: str) -> bool:
        """Whether ``path`` is the output of a claim of this folder."""
        return bool(self._rows(OURS, folder, path))

    def soup(self, folder: str, rule: str) -> str:
        """The model that a running soup is now; empty if it has not begun."""
        return next((str(row[0]) for row in self._rows(SOUP, folder, rule)), "")

    def begin_soup(self, folder: str, rule: str, start: str) -> str:
        """Begin a soup that has not begun; the model that it is now."""
        self._write(BEGIN_SOUP, (folder, rule, start))
        return self.soup(folder, rule)

    def tried(self, folder: str, rule: str) -> int:
        """How many candidates of a soup there have been, one that begins now included."""
        return 1 + int(self._rows(TRIED, folder, rule)[0][0])

    def weigh(self, claim: Claim, *, kept: bool, target: str) -> Claim:
        """Decide of a claim's candidate: it becomes the soup, or does not, in the moment in which that is known."""
        with self._writing():
            if kept:
                self._db.execute(SET_SOUP, (claim.out, claim.folder, claim.rule))
            self._db.execute(DECIDE, (KEPT if kept else "rejected", target, claim.id))
        return self.get(claim.id)

    def soups(self, folder: str) -> list[RunningSoup]:
        """The running soups of a folder, as people see them."""
        return [RunningSoup(*row) for row in self._rows(SOUPS, folder)]

    def identity(self, signature: str) -> str:
        """The content of files that were looked at before; empty if they were not."""
        return next((str(row[0]) for row in self._rows(IDENTITY, signature)), "")

    def keep_identities(self, identities: Mapping[str, str]) -> None:
        """Remember the content of files by their signatures."""
        if identities:
            with self._writing():
                self._db.executemany(PUT_IDENTITY, list(identities.items()))

    def prune(self, before: datetime, *, dry_run: bool = False) -> Iterator[int]:
        """Forget what is not needed of claims that ended before ``before``, piece by piece; the number in each.

        ``dry_run`` only counts.
        """
        try:
            for count in prune(self._db, before, dry_run=dry_run):
                reach("watch-pruned")
                yield count
        except sqlite3.Error as wrong:
            raise self._unusable(str(wrong)) from wrong

    def counts(self, folder: str) -> dict[str, int]:
        """The number of a folder's claims by state."""
        return {row[0]: row[1] for row in self._rows(COUNTS, folder)}


def _folder(row: sqlite3.Row) -> Folder:
    settings = msgspec.json.decode(row["settings"], type=WatchSettings)
    fields = {**dict(row), "settings": settings}
    return msgspec.convert(fields, type=Folder, strict=False)


def _claim(row: sqlite3.Row) -> Claim:
    return msgspec.convert(dict(row), type=Claim)
