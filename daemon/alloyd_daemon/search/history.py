"""The record of one search in SQLite: every ask, item score and tell; all SQL of it stands at the top of this file.

Asks and tells are on disk before anybody acts on them; item scores are committed at least every half second while they
come in, and whenever a score ends. A killed search repeats itself from here (see :mod:`alloyd_daemon.search.run`).
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from alloyd.errors import AlloydError, JobError, StoreError

from ..evaluator import ItemScore
from ..faults import reach
from ..transaction import transaction
from .history_file import APPLICATION, VERSION, check, connect, locked, making_sense, quoted, told_of
from .objective import Place
from .trial import Entry, Opening, Trial

COMMIT_EVERY: Final = 0.5
"""Seconds for which item scores may wait for their commit."""
PATIENCE: Final = 15.0
"""Seconds to wait for a process that still writes; an orphan ends in ten."""

SCHEMA: Final = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE trials (
        number   INTEGER PRIMARY KEY,
        batch    INTEGER NOT NULL,
        phase    INTEGER NOT NULL,
        origin   TEXT NOT NULL,
        name     TEXT NOT NULL,
        point    TEXT NOT NULL,
        recipe   TEXT NOT NULL,
        identity TEXT NOT NULL,
        parents  TEXT NOT NULL,
        how      TEXT NOT NULL,
        deaths   INTEGER NOT NULL DEFAULT 0, -- processes that died over it before it had another item
        told     INTEGER UNIQUE,             -- the order of outcomes
        state    TEXT NOT NULL DEFAULT 'asked',
        losses   TEXT NOT NULL DEFAULT 'null',
        of       INTEGER REFERENCES trials (number),
        error    TEXT NOT NULL DEFAULT 'null',
        seconds  REAL NOT NULL DEFAULT 0,
        items    TEXT NOT NULL DEFAULT '{}'
    )
    """,
    """
    CREATE TABLE scores (
        trial  INTEGER NOT NULL REFERENCES trials (number),
        rung   INTEGER NOT NULL,
        task   INTEGER NOT NULL,
        item   TEXT NOT NULL,
        vals   TEXT NOT NULL,
        output TEXT NOT NULL,
        PRIMARY KEY (trial, rung, task, item)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE lost (
        trial INTEGER NOT NULL REFERENCES trials (number),
        rung  INTEGER NOT NULL,
        error TEXT NOT NULL,
        PRIMARY KEY (trial, rung)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE entries (
        number INTEGER PRIMARY KEY,
        kind   TEXT NOT NULL,
        key    TEXT NOT NULL,
        at     TEXT NOT NULL,
        data   TEXT NOT NULL,
        UNIQUE (kind, key)
    )
    """,
    "CREATE TABLE opening (one INTEGER PRIMARY KEY CHECK (one = 1), at TEXT NOT NULL, job TEXT NOT NULL, "
    "figures TEXT NOT NULL)",
)
FACT = "SELECT value FROM facts WHERE name = ?"
SET_FACT = "INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)"
TRIALS = "SELECT * FROM trials ORDER BY number"
INSERT_TRIAL = """
    INSERT INTO trials (number, batch, phase, origin, name, point, recipe, identity, parents, how)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
TELL = """
    UPDATE trials SET recipe = ?, identity = ?, state = ?, losses = ?, of = ?, error = ?, seconds = ?, items = ?,
        told = (SELECT COALESCE(MAX(told), 0) + 1 FROM trials)
    WHERE number = ?
"""
COUNT = "UPDATE trials SET items = json_set(items, ?, ?) WHERE number = ?"
TOLD = "SELECT number FROM trials WHERE told IS NOT NULL ORDER BY told"
BEGIN = "UPDATE trials SET deaths = deaths + 1 WHERE number = ?"
LIVES = "UPDATE trials SET deaths = 0 WHERE number = ?"
DEATHS = "SELECT deaths FROM trials WHERE number = ?"
MOST_DEATHS = "SELECT COALESCE(MAX(deaths), 0) FROM trials WHERE told IS NULL"
KEEP = "INSERT OR REPLACE INTO scores (trial, rung, task, item, vals, output) VALUES (?, ?, ?, ?, ?, ?)"
CARRY = """
    INSERT OR IGNORE INTO scores (trial, rung, task, item, vals, output)
    SELECT trial, ?, task, item, vals, output FROM scores WHERE trial = ? AND rung = ? AND task = ?
    AND item IN (SELECT value FROM json_each(?))
"""
SCORES = "SELECT task, item, vals, output FROM scores WHERE trial = ? AND rung = ? ORDER BY task, item"
LOSE = "INSERT OR REPLACE INTO lost (trial, rung, error) VALUES (?, ?, ?)"
LOST = "SELECT error FROM lost WHERE trial = ? AND rung = ?"
FORGIVE = "DELETE FROM lost WHERE rung = ?"
FORGET_LOST = "DELETE FROM lost WHERE trial = ? AND rung = COALESCE(?, rung)"
FORGET_SCORES = "DELETE FROM scores WHERE trial = ? AND rung = COALESCE(?, rung)"
ENTER = "INSERT OR IGNORE INTO entries (kind, key, at, data) VALUES (?, ?, ?, ?)"
ENTRIES = "SELECT kind, key, at, data FROM entries WHERE kind = ? ORDER BY number"
OPEN = "INSERT INTO opening (one, at, job, figures) VALUES (1, ?, ?, '{}')"
OPENED = "SELECT at, job, figures FROM opening"
FIGURES = "UPDATE opening SET figures = ?"


class History:
    """The record of one search, in the file ``path``, for the one process that writes it.

    Raises
    ------
    StoreError
        The file is damaged, of another program, or newer than this one.
    JobError
        Another process writes it, and did not end in time.
    DiskFull
        There is no room for what was found; what was committed is kept.
    """

    def __init__(self, path: Path, *, patience: float = PATIENCE) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock: int | None = locked(path.with_name(f"{path.name}.lock"), patience)
        try:
            self._db = connect(path, f"file:{quoted(path)}?mode=rwc")
            with told_of(path):
                check(self._db, path, fresh=True)
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._make()
        except BaseException:
            self.close()
            raise
        self._committed = time.monotonic()
        self._alive: set[int] = set()

    @classmethod
    def read(cls, path: Path) -> Self:
        """The record as it stands, for reading only, whoever writes it meanwhile."""
        history = cls.__new__(cls)
        history.path = path
        history._lock = None
        if not path.is_file():
            raise StoreError(
                f"there is no record of a search at {path}", hint="Is it a search?", path=str(path)
            )
        history._db = connect(path, f"file:{quoted(path)}?mode=ro")
        with told_of(path):
            check(history._db, path, fresh=False)
        return history

    def _make(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version:
            return
        self._db.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id = {APPLICATION}")
        self._db.execute(f"PRAGMA user_version = {VERSION}")
        self._db.execute("COMMIT")

    def copy_from(self, path: Path) -> None:
        """Begin with all that another record holds, in one transaction; this one must be new."""
        other = History.read(path)
        try:
            with told_of(path):
                other._db.backup(self._db)
        finally:
            other.close()

    def close(self) -> None:
        """Commit what waits, and let go of the file."""
        db: sqlite3.Connection | None = getattr(self, "_db", None)
        if db is not None:
            with told_of(self.path):
                if db.in_transaction:
                    db.execute("COMMIT")
                db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """One transaction, with what waits, on disk when the block is left; ``history-<what>`` is its fault point."""
        with told_of(self.path), transaction(self._db):
            yield
        self._committed = time.monotonic()
        reach(f"history-{what}")

    def _rows(self, statement: str, *values: object) -> list[sqlite3.Row]:
        with told_of(self.path):
            return self._db.execute(statement, values).fetchall()

    # Facts

    def fact(self, name: str) -> Any:
        """The plain data called ``name``; ``None`` where there is none."""
        rows = self._rows(FACT, name)
        with making_sense(self.path):
            return json.loads(rows[0]["value"]) if rows else None

    def set_fact(self, name: str, value: object) -> None:
        """Keep plain data under ``name``."""
        with self._writing("fact"):
            self._db.execute(SET_FACT, (name, _plain(value)))

    # Trials

    def trials(self) -> tuple[Trial, ...]:
        """Every trial, in the order of their numbers."""
        with making_sense(self.path):
            return tuple(_trial(row) for row in self._rows(TRIALS))

    def ask(self, trials: Sequence[Trial], *, phase: int = 0, batch: int = 0, count: int = 0) -> None:
        """Keep a batch of trials, all of them or none, and that ``count`` of them were asked for (none: it is over)."""
        with self._writing("ask"):
            self._db.execute(ENTER, ("ask", f"{phase}/{batch}", _now(), _plain({"count": count})))
            self._db.executemany(
                INSERT_TRIAL,
                [
                    (
                        each.number,
                        each.batch,
                        each.phase,
                        each.origin,
                        each.name,
                        _plain(None if each.point is None else dict(each.point)),
                        _plain(each.recipe),
                        each.identity,
                        _plain(each.parents),
                        each.how,
                    )
                    for each in trials
                ],
            )

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep what became of trials that were scored together, and their recipes: of all of them, or of none."""
        with self._writing("tell"):
            self._db.executemany(
                TELL,
                [
                    (
                        _plain(each.recipe),
                        each.identity,
                        each.state,
                        _plain(each.losses),
                        each.of,
                        _plain(None if each.error is None else each.error.to_dict()),
                        each.seconds,
                        _plain({str(rung): count for rung, count in each.items.items()}),
                        each.number,
                    )
                    for each in trials
                ],
            )

    def count(self, trial: int, rung: int, items: int) -> None:
        """Keep that a trial was asked ``items`` items at a rung, after it was told."""
        with self._writing("count"):
            self._db.execute(COUNT, (f"$.{_plain(str(rung))}", items, trial))

    def told(self) -> tuple[int, ...]:
        """The numbers of all trials that something became of, in the order in which that was told."""
        return tuple(row["number"] for row in self._rows(TOLD))

    def begin(self, trials: Sequence[int]) -> dict[int, int]:
        """Say that ``trials`` are worked on now; returns how many processes died over each without another item."""
        with self._writing("begin"):
            before = {each: int(self._db.execute(DEATHS, (each,)).fetchone()[0]) for each in trials}
            self._db.executemany(BEGIN, [(each,) for each in trials])
        return before

    def deaths(self, trials: Sequence[int]) -> dict[int, int]:
        """How many processes died over each of ``trials`` without another item."""
        return {each: int(self._rows(DEATHS, each)[0][0]) for each in trials}

    def blame(self, trial: int, others: Sequence[int]) -> None:
        """Say that ``trial`` alone is worked on now, and that ``others``, who came before it, are not to blame."""
        with self._writing("blame"):
            self._db.executemany(LIVES, [(each,) for each in others])
            self._db.execute(BEGIN, (trial,))

    def most_deaths(self) -> int:
        """The most processes that died over one trial before they had another item of it."""
        return int(self._rows(MOST_DEATHS)[0][0])

    def rest(self, trials: Sequence[int]) -> None:
        """Say that nothing is to be blamed on ``trials``: the work on them was stopped in order."""
        with self._writing("rest"):
            self._db.executemany(LIVES, [(each,) for each in trials])

    # Scores

    def scores(self, trial: int, rung: int) -> dict[int, dict[str, ItemScore]]:
        """The item scores of a trial at a rung, by number of task and id of item."""
        found: dict[int, dict[str, ItemScore]] = {}
        with making_sense(self.path):
            for row in self._rows(SCORES, trial, rung):
                values = {str(name): float(value) for name, value in json.loads(row["vals"]).items()}
                found.setdefault(row["task"], {})[row["item"]] = ItemScore(row["item"], values, row["output"])
        return found

    def keep(self, trial: int, rung: int, task: int, score: ItemScore) -> None:
        """Keep the score of one item; it is on disk in half a second, or at :meth:`flush`."""
        with told_of(self.path):
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
                self._alive.clear()
            if trial not in self._alive:
                self._db.execute(LIVES, (trial,))
                self._alive.add(trial)
            values = _plain(dict(score.values))
            self._db.execute(KEEP, (trial, rung, task, score.id, values, _text(score.output)))
        if time.monotonic() - self._committed >= COMMIT_EVERY:
            self.flush()

    def flush(self) -> None:
        """Commit the item scores that wait."""
        if self._db.in_transaction:
            with self._writing("scores"):
                pass

    def carry(self, trial: int, rung: int, to: int, places: Sequence[Place]) -> None:
        """Let what ``trial`` scored on ``places`` at one rung stand at another, too."""
        items: dict[int, list[str]] = {}
        for each in places:
            items.setdefault(each.task, []).append(each.item)
        with self._writing("carry"):
            for task, some in items.items():
                self._db.execute(CARRY, (to, trial, rung, task, _plain(some)))

    def lose(self, trial: int, rung: int, error: AlloydError) -> None:
        """Keep that a trial cannot be scored."""
        with self._writing("lose"):
            self._db.execute(LOSE, (trial, rung, _plain(error.to_dict())))

    def forgive(self, rung: int) -> None:
        """Let whatever was lost at a rung be tried again: what it was lost to may be cured."""
        with self._writing("forgive"):
            self._db.execute(FORGIVE, (rung,))

    def forget(self, trials: Sequence[int], rung: int | None = None) -> None:
        """Drop what ``trials`` scored, and what they were lost to, at a rung (``None``: at all)."""
        with self._writing("forget"):
            for statement in (FORGET_SCORES, FORGET_LOST):
                self._db.executemany(statement, [(each, rung) for each in trials])

    def lost(self, trial: int, rung: int) -> AlloydError | None:
        """What a trial was lost to at a rung, if it was."""
        rows = self._rows(LOST, trial, rung)
        with making_sense(self.path):
            return AlloydError.from_dict(json.loads(rows[0]["error"])) if rows else None

    # What else the record says

    def enter(self, kind: str, key: str, data: Mapping[str, object]) -> bool:
        """Keep an entry, once under its kind and key; returns whether it is new."""
        with self._writing("enter"):
            return self._db.execute(ENTER, (kind, key, _now(), _plain(dict(data)))).rowcount > 0

    def entries(self, kind: str) -> tuple[Entry, ...]:
        """The entries of a kind, oldest first."""
        rows = self._rows(ENTRIES, kind)
        with making_sense(self.path):
            return tuple(Entry(row["kind"], row["key"], row["at"], json.loads(row["data"])) for row in rows)

    def opening(self) -> Opening | None:
        """When the locked test was opened, if it was."""
        rows = self._rows(OPENED)
        with making_sense(self.path):
            return Opening(rows[0]["at"], rows[0]["job"], json.loads(rows[0]["figures"])) if rows else None

    def open_test(self, job: str) -> Opening:
        """Open the locked test for ``job``: on record before an item of it is scored.

        Raises JobError where another job opened it, or it was scored to its end: it opens once.
        """
        opening = self.opening()
        if opening is None:
            with self._writing("open"):
                self._db.execute(OPEN, (_now(), job))
            opening = self.opening()
            assert opening is not None
        elif opening.job != job or opening.figures:
            resume = f"It was not scored to its end: 'alloy resume {opening.job}' goes on with it."
            raise JobError(
                f"the locked test of this search was opened at {opening.at} by {opening.job}; it opens once",
                hint="What came out is in the search's results." if opening.figures else resume,
                opened=opening.at,
                by=opening.job,
            )
        return opening

    def close_test(self, figures: Mapping[str, object]) -> None:
        """Keep what the locked test showed."""
        with self._writing("figures"):
            self._db.execute(FIGURES, (_plain(dict(figures)),))


def _trial(row: sqlite3.Row) -> Trial:
    losses, error = json.loads(row["losses"]), json.loads(row["error"])
    return Trial(
        number=row["number"],
        batch=row["batch"],
        phase=row["phase"],
        origin=row["origin"],
        name=row["name"],
        point=json.loads(row["point"]),
        recipe=json.loads(row["recipe"]),
        identity=row["identity"],
        parents=tuple(json.loads(row["parents"])),
        how=row["how"],
        state=row["state"],
        losses=None if losses is None else tuple(losses),
        of=row["of"],
        error=None if error is None else AlloydError.from_dict(error),
        seconds=row["seconds"],
        items={int(rung): count for rung, count in json.loads(row["items"]).items()},
    )


def _plain(value: object) -> str:
    return _text(json.dumps(value, ensure_ascii=False))


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
