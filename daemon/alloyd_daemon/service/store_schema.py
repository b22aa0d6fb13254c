"""The tables of the job store, version after version: a store of any earlier one is brought to the last.

A script is never changed once a daemon may have run it; what is new is a script of its own at the end.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Final

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE jobs (
        number   INTEGER PRIMARY KEY AUTOINCREMENT,
        kind     TEXT NOT NULL,
        state    TEXT NOT NULL,
        wanted   TEXT NOT NULL DEFAULT '',  -- 'pause' or 'cancel' while a running job is asked to stop
        discard  INTEGER NOT NULL DEFAULT 0, -- a cancelled job's staging is still to be removed
        reason   TEXT NOT NULL DEFAULT '',
        token    TEXT NOT NULL UNIQUE,
        spec     TEXT NOT NULL,
        out      TEXT NOT NULL,
        created  TEXT NOT NULL,
        started  TEXT,
        ended    TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        deaths   INTEGER NOT NULL DEFAULT 0, -- children that died one after the other without getting further
        furthest INTEGER NOT NULL DEFAULT -1, -- the most progress that a dead child had reported
        summary  TEXT,
        result   TEXT,
        error    TEXT
    );
    CREATE INDEX jobs_by_state ON jobs (state, number);
    CREATE TABLE events (
        seq  INTEGER PRIMARY KEY AUTOINCREMENT,
        job  INTEGER NOT NULL REFERENCES jobs (number),
        kind TEXT NOT NULL,
        at   TEXT NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX events_by_job ON events (job, seq);
    """,
    """
    ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT 'local';
    ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN rank INTEGER NOT NULL DEFAULT 0; -- among jobs of one priority, the lowest is first
    ALTER TABLE jobs ADD COLUMN after TEXT NOT NULL DEFAULT '[]'; -- ids of the jobs that must be done first
    ALTER TABLE jobs ADD COLUMN quarantined INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN memory INTEGER; -- bytes that its spec asks for
    ALTER TABLE jobs ADD COLUMN lacks TEXT; -- what there was too little of when it gave way, while it waits for more
    UPDATE jobs SET rank = number, memory = json_extract(spec, '$.memory');
    CREATE INDEX jobs_by_place ON jobs (state, priority DESC, rank);
    CREATE INDEX jobs_in_quarantine ON jobs (kind) WHERE quarantined = 1;
    CREATE TABLE events_of_all (
        seq  INTEGER PRIMARY KEY AUTOINCREMENT,
        job  INTEGER REFERENCES jobs (number), -- NULL: of the daemon, or of a watched folder
        kind TEXT NOT NULL,
        at   TEXT NOT NULL,
        body TEXT NOT NULL
    );
    INSERT INTO events_of_all SELECT seq, job, kind, at, body FROM events;
    DROP TABLE events;
    ALTER TABLE events_of_all RENAME TO events;
    CREATE INDEX events_by_job ON events (job, seq);
    """,
    """
    CREATE INDEX jobs_by_end ON jobs (ended, kind, state) WHERE ended IS NOT NULL;
    CREATE TABLE spent (digest BLOB PRIMARY KEY, job TEXT NOT NULL) WITHOUT ROWID; -- callers' keys of pruned jobs
    CREATE TABLE removals ( -- what pruned jobs left and is still to be removed from the disk
        number INTEGER PRIMARY KEY,
        what   TEXT NOT NULL
    );
    CREATE TABLE days ( -- days that the daemon has lived through, each with the newest event at its end
        day INTEGER PRIMARY KEY AUTOINCREMENT,
        at  TEXT NOT NULL,
        seq INTEGER NOT NULL
    );
    """,
)


def statements(script: str) -> Iterator[str]:
    """The statements of ``script`` one by one, because ``executescript`` would commit the open transaction."""
    pending = ""
    for piece in re.split(r"(?<=;)", script):
        pending += piece
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        yield pending
