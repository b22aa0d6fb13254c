"""What takes room in the home, and beside it: staged and published outputs, and the cache that all homes share."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from alloyd.paths import Home
from alloyd.space_schema import Disk, Place, Room, Space

from ..checkpoints.manifest import MANIFEST
from ..checkpoints.place import Place as OutputPlace
from ..watch.ledger import FILE as LEDGER
from ..watch.ledger_prune import count_claims
from .job_files import owner_of
from .rows import Row, Rows, reading
from .weigh import Scale

PARTS: Final = ("store", "backups", "logs", "samples", "scores", "searches", "cache", "orphans", "other")
"""The classes of what lies in the home, in the order in which they are told."""
MOST_TOLD: Final = 1000
"""So many places of a kind are told one by one, the largest; an answer has to end somewhere."""
_TOP: Final = {"cache": "cache", "logs": "logs"}
_STORES: Final = ("jobs.sqlite", "watch.sqlite")


def look(home: Home) -> Space:
    """Look at everything once."""
    scale = Scale()
    with reading(home) as rows:
        known = rows.ids()
        parts: dict[str, Room] = dict.fromkeys(PARTS, Room())
        orphans: list[Place] = []
        for path, kind, job in things(home):
            room = scale.weigh(path)
            if job and job not in known:
                orphans.append(Place(text(path), room, job))
                kind = "orphans"
            parts[kind] = parts[kind].plus(room)
        staged = [each for _, _, each in staging(rows, scale)]
        outputs = list(_published(rows, scale))
        jobs, events = rows.counts()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "alloyd")
    shared = Place(text(cache), scale.weigh(cache), note="compiled kernels; of all homes")
    published = Room()
    for each in outputs:
        published = published.plus(each.room)
    places = [home.root, cache, *(Path(each.path) for each in (*staged, *outputs))]
    return Space(
        home=text(home.root),
        parts=parts,
        shared=shared,
        staged=largest(staged),
        outputs=largest(outputs),
        output_count=len(outputs),
        published=published,
        orphans=largest(orphans),
        disks=tuple(_disks(places, scale)),
        jobs=jobs,
        events=events,
        claims=count_claims(home.root / LEDGER),
    )


def things(home: Home) -> Iterator[tuple[str, str, str]]:
    """Everything in the home, not deeper than needed: its path, its class, and the job whose name it bears, if any."""
    for entry in _entries(home.root):
        if entry.name.startswith(_STORES):
            yield entry.path, "backups" if entry.name.startswith("jobs.sqlite.") else "store", ""
        elif entry.name in ("logs", "resources", "scores", "searches") and entry.is_dir(
            follow_symlinks=False
        ):
            for each in _entries(entry.path):
                kind, job = owner_of(entry.name, each.name) or (_TOP.get(entry.name, "other"), "")
                yield each.path, kind, job
        else:
            yield entry.path, _TOP.get(entry.name, "other"), ""


def staging(rows: Rows, scale: Scale) -> Iterator[tuple[Row, Path, Place]]:
    """What unfinished outputs left outside of the home: the newest job it can be of, the output's place, and it."""
    seen: set[Path] = set()
    for row in rows.merges():
        if row.state == "done":
            continue
        for final in row.finals():
            try:
                place = OutputPlace.of(final)
                left = [each for each in (place.staging, place.replaced) if os.path.lexists(each)]
            except Exception:
                continue
            for each in left:
                if each not in seen:
                    seen.add(each)
                    yield row, final, Place(text(each), scale.weigh(each), row.id, row.state)


def largest(places: list[Place]) -> tuple[Place, ...]:
    """The largest of ``places``, as many as are told."""
    return tuple(sorted(places, key=lambda each: each.room.real, reverse=True)[:MOST_TOLD])


def text(path: str | Path) -> str:
    """A path as it can be told: with escapes for what is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _published(rows: Rows, scale: Scale) -> Iterator[Place]:
    seen: set[str] = set()
    for row in rows.merges():
        for final in row.finals() if row.state == "done" else ():
            real = os.path.realpath(final)
            if real not in seen and os.path.isfile(os.path.join(real, MANIFEST)):
                seen.add(real)
                yield Place(text(real), scale.weigh(real), row.id)


def _disks(paths: list[Path], scale: Scale) -> Iterator[Disk]:
    """The file systems that ``paths`` lie on, each by the shortest of them."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in paths:
        while not path.exists() and path != path.parent:
            path = path.parent
        try:
            found[os.stat(path).st_dev].append(str(path))
        except OSError:
            continue
    for device, places in found.items():
        place = min(places, key=len)
        try:
            room = os.statvfs(place)
        except OSError:
            continue
        size, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
        yield Disk(text(place), size, free, scale.held[device])


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda each: each.name)
    except OSError:
        return []
