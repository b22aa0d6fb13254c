"""Which files of the home belong to which job, and which are backups of the store, by their names alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from alloyd.jobs import SPECS

NAMES: Final[tuple[tuple[str, str, str], ...]] = (
    ("logs", "logs", "{}.log"),
    ("logs", "logs", "{}.log.1"),
    ("samples", "resources", "{}.jsonl"),
    ("samples", "resources", ".{}.jsonl"),
    ("scores", "scores", "{}.journal"),
    ("scores", "scores", "{}.jsonl"),
    ("scores", "scores", "{}.jsonl.new"),
    ("scores", "scores", "{}.scratch"),
    ("searches", "searches", "{}"),
)
"""What a job leaves: its class, the folder of the home, and the name with the job's id in it."""
GONE: Final = ".{}.pruned"
"""What a folder is called while it is being removed, so that nobody takes what is left of it for the whole."""
LOGS: Final = ("logs", "samples")
"""The classes that tell how a job went; the others are what it found."""

BACKUP: Final = re.compile(r"jobs\.sqlite\.v[1-9][0-9]{0,5}(\.new)?(-journal|-wal|-shm)?")
"""A copy of the store that was made before it was migrated, or what a daemon that died left of one."""

_JOB: Final = re.compile(rf"({'|'.join(SPECS)})-([1-9][0-9]{{0,14}})")


def number_of(job: str) -> int | None:
    """The number in a job's id; ``None`` if it is none."""
    found = _JOB.fullmatch(job)
    return None if found is None else int(found[2])


def names_of(job: str, classes: tuple[str, ...] = ()) -> Iterator[tuple[str, str, str]]:
    """Class, folder and name of each thing that ``job`` may have left in the home, of ``classes`` only where given."""
    for kind, folder, name in NAMES:
        if not classes or kind in classes:
            yield kind, folder, name.format(job)


def owner_of(folder: str, name: str) -> tuple[str, str] | None:
    """The class and the job of the thing ``name`` in a folder of the home; ``None`` where it is no job's."""
    for kind, place, pattern in NAMES:
        if place != folder:
            continue
        for each in (pattern, GONE.format(pattern)):
            before, _, after = each.partition("{}")
            job = name[len(before) : len(name) - len(after)]
            if name == each.format(job) and number_of(job) is not None:
                return kind, job
    return None
