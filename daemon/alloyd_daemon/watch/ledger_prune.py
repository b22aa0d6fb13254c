"""What the ledger of watched folders forgets: stories, and never what keeps the same content from being run again."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ..transaction import transaction

CLAIMS_AT_ONCE: Final = 2000
PAGES_AT_ONCE: Final = 500
MOST_IDENTITIES: Final = 10_000
"""Contents of models that are remembered; beyond it all are forgotten, and models that are there are read once more."""

COUNT_CLAIMS: Final = "SELECT COUNT(*) FROM claims"
LAST_CLAIM: Final = "SELECT COALESCE(MAX(number), 0) FROM claims"
# Of dropped files with the same content the newest done and the newest failed one say all that the others do:
# that it was done, how often it was tried, and which output is its own.
NEEDLESS: Final = """
    number > ?1 AND number <= ?2 AND ended < ?3 AND rule = ''
    AND state IN ('done', 'failed', 'duplicate') AND (digest = '' OR EXISTS (
        SELECT 1 FROM claims AS other
        WHERE other.folder = claims.folder AND other.digest = claims.digest AND other.rule = ''
            AND claims.out IN ('', other.out)
            AND CASE claims.state
                WHEN 'duplicate' THEN other.state = 'done'
                WHEN 'done' THEN other.state = 'done'
                    AND other.number > claims.number AND other.attempt >= claims.attempt
                ELSE other.state IN ('done', 'failed')
                    AND other.number > claims.number AND other.attempt >= claims.attempt
            END
    ))
"""
WORDY: Final = """
    number > ?1 AND number <= ?2 AND ended < ?3
    AND state IN ('done', 'failed', 'duplicate', 'known')
    AND (name != '' OR path != '' OR target != '' OR plan NOT IN ('', 'kept', 'rejected', 'duplicate'))
"""
COUNT_PRUNED: Final = f"SELECT COUNT(*) FROM claims WHERE ({NEEDLESS}) OR ({WORDY})"
DROP_NEEDLESS: Final = f"DELETE FROM claims WHERE {NEEDLESS}"
CUT_DOWN: Final = f"""
    UPDATE claims SET name = '', path = '', target = '',
        plan = CASE WHEN plan IN ('kept', 'rejected', 'duplicate') THEN plan ELSE '' END
    WHERE {WORDY}
"""
# A row keeps a rule from a model that was there before it. The model's claim does that too, once it has one; without
# the rule, or its folder, nothing is to be kept from it: whoever adds it again is told anew what is there.
PRESENT_BY_RULE: Final = "SELECT DISTINCT folder, rule FROM present"
DROP_PRESENT: Final = """
    DELETE FROM present WHERE folder = ?1 AND rule = ?2 AND (
        NOT EXISTS (
            SELECT 1 FROM folders, json_each(folders.settings, '$.rules') AS one
            WHERE folders.id = ?1 AND json_extract(one.value, '$.name') = ?2
        )
        OR EXISTS (
            SELECT 1 FROM identities JOIN claims ON claims.digest = identities.identity
            WHERE identities.signature = present.signature AND claims.folder = ?1 AND claims.rule = ?2
        )
    )
"""
FREE: Final = "PRAGMA freelist_count"
COUNT_IDENTITIES: Final = "SELECT COUNT(*) FROM identities"
DROP_IDENTITIES: Final = "DELETE FROM identities"


def prune(db: sqlite3.Connection, before: datetime, *, dry_run: bool) -> Iterator[int]:
    """Drop claims that ended before ``before`` and that nobody needs, and cut the others down to what keeps the same
    content from being run again; piece by piece, the number in each. ``dry_run`` only counts.

    What was there before a rule, and contents of models, go where they keep nothing from being run, however young.

    Raises sqlite3.Error.
    """
    (last,) = db.execute(LAST_CLAIM).fetchone()
    for after in range(0, last, CLAIMS_AT_ONCE):
        bounds = (after, after + CLAIMS_AT_ONCE, before.isoformat())
        if dry_run:
            yield int(db.execute(COUNT_PRUNED, bounds).fetchone()[0])
            continue
        with transaction(db):
            dropped = db.execute(DROP_NEEDLESS, bounds).rowcount
            cut = db.execute(CUT_DOWN, bounds).rowcount
        yield dropped + cut
    if dry_run:
        return
    for pair in [tuple(row) for row in db.execute(PRESENT_BY_RULE)]:
        with transaction(db):
            db.execute(DROP_PRESENT, pair)
        yield 0
    if db.execute(COUNT_IDENTITIES).fetchone()[0] > MOST_IDENTITIES:
        with transaction(db):
            db.execute(DROP_IDENTITIES)
    while _shrink(db):
        yield 0


def _shrink(db: sqlite3.Connection) -> bool:
    """Give a piece of what is free in the file back to the disk; whether there is more."""
    (free,) = db.execute(FREE).fetchone()
    with contextlib.suppress(sqlite3.OperationalError):  # the watcher writes at this moment
        # As a script: executed as a statement it gives back one page.
        db.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")
    (left,) = db.execute(FREE).fetchone()
    return bool(0 < left < free)


def count_claims(path: Path) -> int:
    """How many claims are in the file at ``path``, which is only read; none where it is not there."""
    if not path.exists():
        return 0
    try:
        db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=10.0)
        try:
            return int(db.execute(COUNT_CLAIMS).fetchone()[0])
        finally:
            db.close()
    except sqlite3.Error:
        return 0
