"""The store as the process that looks at the disk reads it: beside the daemon, and without writing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from alloyd.paths import Home

from ..engine.finals import finals
from ..engine.rebuilding import read_manifest
from ..service.store_prune import REMOVALS, Removal

MERGING: Final = ("merge", "rebuild")
"""Kinds that stage an output outside of the home."""

COUNTS: Final = "SELECT (SELECT COUNT(*) FROM jobs), (SELECT COUNT(*) FROM events)"
IDS: Final = "SELECT kind || '-' || number FROM jobs"
MERGES: Final = """
    SELECT number, kind, state, out, spec, result FROM jobs WHERE kind IN ('merge', 'rebuild') AND out != ''
    ORDER BY number DESC
"""
ALL: Final = "SELECT number, kind, state, out, spec, result FROM jobs"
UNDONE_AT: Final = (
    "SELECT 1 FROM jobs WHERE kind IN ('merge', 'rebuild') AND state != 'done' AND out = ? LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Row:
    """A job, as far as it matters for what it has on the disk."""

    number: int
    kind: str
    state: str
    out: str
    spec: dict[str, Any]
    result: dict[str, Any]

    @property
    def id(self) -> str:
        """Its id."""
        return f"{self.kind}-{self.number}"

    @property
    def living(self) -> bool:
        """Whether something more happens by itself, or may at a word."""
        return self.state in ("queued", "running", "paused")

    def finals(self) -> list[Path]:
        """The places of all that it makes outside of the home."""
        out = Path(self.out)
        if self.kind == "merge":
            return finals(out, str(self.spec.get("recipe", "")), lenient=True)
        try:
            return finals(out, read_manifest(Path(str(self.spec.get("path")))).recipe, lenient=True)
        except Exception:
            return [out]


class Rows:
    """The store, to be read only."""

    def __init__(self, home: Home) -> None:
        self._db = sqlite3.connect(f"file:{quote(str(home.store))}?mode=ro", uri=True, timeout=10.0)
        self._db.row_factory = sqlite3.Row

    def close(self) -> None:
        """Let go of it."""
        self._db.close()

    def counts(self) -> tuple[int, int]:
        """How many jobs and events there are."""
        jobs, events = self._db.execute(COUNTS).fetchone()
        return jobs, events

    def ids(self) -> set[str]:
        """The ids of all jobs."""
        return {job for (job,) in self._db.execute(IDS)}

    def merges(self) -> Iterator[Row]:
        """The jobs that have or had something outside of the home, newest first."""
        return map(_row, self._db.execute(MERGES))

    def all(self) -> Iterator[Row]:
        """Every job."""
        return map(_row, self._db.execute(ALL))

    def undone_at(self, out: str) -> bool:
        """Whether a job that is not done has its output at ``out``."""
        return self._db.execute(UNDONE_AT, (out,)).fetchone() is not None

    def removals(self) -> Iterator[tuple[int, Removal]]:
        """What is to be removed, oldest first."""
        for number, what in self._db.execute(REMOVALS).fetchall():
            yield number, msgspec.json.decode(what, type=Removal)


@contextmanager
def reading(home: Home) -> Iterator[Rows]:
    """The store for as long as the block lasts."""
    rows = Rows(home)
    try:
        yield rows
    finally:
        rows.close()


def _row(row: sqlite3.Row) -> Row:
    result = None if row["result"] is None else msgspec.json.decode(row["result"])
    return Row(
        row["number"],
        row["kind"],
        row["state"],
        row["out"],
        msgspec.json.decode(row["spec"]),
        result if isinstance(result, dict) else {},
    )
