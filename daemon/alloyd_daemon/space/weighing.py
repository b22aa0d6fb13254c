"""What jobs left, in the home and outside of it: how much room it takes, and what is to be done to be rid of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from alloyd.paths import Home
from alloyd.space_schema import Place, Room

from ..service.store_prune import Removal, Weights
from ..settings import Settings
from .job_files import BACKUP, number_of
from .look import MOST_TOLD, largest, staging, text, things
from .orders import Weigh, Weighed
from .published import Sources, Stays, weights_of
from .rows import Row, Rows, reading
from .weigh import Scale


def weigh(order: Weigh, home: Home, settings: Settings) -> Weighed:
    """Look at what the jobs of ``order`` left."""
    scale = Scale()
    parts: dict[str, Room] = {}
    kept: list[Place] = []

    def add(kind: str, room: Room) -> None:
        if room != Room():
            parts[kind] = parts.get(kind, Room()).plus(room)

    with reading(home) as rows:
        numbers = set(order.numbers)
        going = {row.number: row for row in rows.all() if row.number in numbers}
        staged = _staged(order, rows, scale, going, kept)
        outputs = list(_outputs(order, rows, scale, going, kept, home, settings)) if order.outputs else []
        known = rows.ids()
    left: dict[str, list[tuple[str, Room, float]]] = {}
    backups: list[str] = []
    jobs = {row.id for row in going.values()}
    for path, kind, job in things(home):
        if job in jobs:
            add(kind, scale.weigh(path))
        elif job and job not in known:
            left.setdefault(job, []).append((path, scale.weigh(path), scale.newest))
        elif kind == "backups" and order.backups is not None and BACKUP.fullmatch(os.path.basename(path)):
            room = scale.weigh(path)
            if scale.newest < order.backups:
                add(kind, room)
                backups.append(os.path.basename(path))
            elif scale.newest < order.doubted:
                kept.append(Place(text(path), room, "", order.doubt))
    finals: dict[int, list[str]] = {}
    for owner, final, place in staged:
        add("staged", place.room)
        finals.setdefault(owner, []).append(str(final))
    weights: dict[int, tuple[Weights, ...]] = {}
    for owner, some, place in outputs:
        add("outputs", place.room)
        weights[owner] = (*weights.get(owner, ()), some)
    removals = [
        Removal(row.id, out=row.out, staged=tuple(finals.get(number, ())), weights=weights.get(number, ()))
        for number, row in sorted(going.items())
    ]
    orphans = [] if order.orphans is None else list(_orphans(order.orphans, left))
    for place in orphans:
        add("orphans", place.room)
    doubted = _orphans(order.doubted, left) if order.orphans is not None else ()
    kept += [msgspec.structs.replace(place, note=order.doubt) for place in doubted if place not in orphans]
    strays = sorted({each.job for each in orphans}, key=lambda job: number_of(job) or 0)
    return Weighed(
        removals=tuple(removals),
        parts=parts,
        staged=largest([place for _, _, place in staged]),
        outputs=largest([place for _, _, place in outputs]),
        orphans=largest(orphans),
        orphan_removals=tuple(Removal(job) for job in strays),
        backups=tuple(backups),
        kept=tuple(kept[:MOST_TOLD]),
    )


def _staged(
    order: Weigh, rows: Rows, scale: Scale, going: dict[int, Row], kept: list[Place]
) -> list[tuple[int, Path, Place]]:
    """What only jobs that go can have staged: the number of one, the output's place, and it."""
    stay = {
        os.path.realpath(final)
        for row in rows.merges()
        if row.state != "done" and row.number not in going
        for final in row.finals()
    }
    found = []
    for row, final, place in staging(rows, scale):
        if row.number not in going:
            continue
        if os.path.realpath(final) in stay:
            kept.append(Place(place.path, place.room, row.id, "another job may go on with it"))
        elif not _allowed(final, order, row):
            kept.append(Place(place.path, place.room, row.id, "it lies outside of the folders that are open"))
        else:
            found.append((row.number, final, place))
    return found


def _outputs(
    order: Weigh,
    rows: Rows,
    scale: Scale,
    going: dict[int, Row],
    kept: list[Place],
    home: Home,
    settings: Settings,
) -> Iterator[tuple[int, Weights, Place]]:
    """The weights that may go: the job that made them, they, and the room that they take."""
    sources = Sources.of(rows.all(), home, settings)
    others: dict[str, str] = {}
    for row in rows.merges():
        if row.number not in going:
            others |= {os.path.realpath(final): row.id for final in row.finals()}
    seen: set[str] = set()
    for row in rows.merges():
        if row.number not in going or row.state != "done":
            continue
        for final in row.finals():
            real = os.path.realpath(final)
            if real in seen or not os.path.isdir(real):
                continue
            seen.add(real)
            try:
                if real in others:
                    raise Stays(f"it is that of {others[real]} too")
                if not _allowed(final, order, row):
                    raise Stays("it lies outside of the folders that are open")
                weights = weights_of(final, row, sources, order.shielded, settings)
            except (Stays, OSError) as why:
                kept.append(Place(text(real), Room(), row.id, str(why)))
                continue
            room = Room()
            for name, *_ in weights.files:
                room = room.plus(scale.weigh(os.path.join(real, name)))
            base = str(row.spec.get("base_dir", ""))
            yield row.number, weights, Place(text(real), room, row.id, base)


def _orphans(before: float, left: dict[str, list[tuple[str, Room, float]]]) -> Iterator[Place]:
    """What bears the name of a job that is not there, where all of it is old."""
    for job, each in left.items():
        if all(newest < before for _, _, newest in each):
            yield from (Place(text(path), room, job) for path, room, _ in each)


def _allowed(final: Path, order: Weigh, row: Row) -> bool:
    """Whether an output's place, links resolved, lies in the folders of whoever prunes and of the job itself."""
    real = os.path.realpath(final)
    bounds = [each for each in (order.roots, tuple(row.spec.get("roots", ())) or None) if each is not None]
    return all(
        any(real.startswith(os.path.realpath(root).rstrip("/") + "/") for root in roots) for roots in bounds
    )
