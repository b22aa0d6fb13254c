"""What takes room, and what was pruned, as text for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from .columns import columns
from .space_schema import Place, Pruned, Room, Space
from .units import format_size

WHAT: Final[Mapping[str, str]] = {
    "backups": "of the store, made before it was brought to a newer version",
    "logs": "of jobs, of the daemon and its helpers",
    "samples": "what jobs used while they ran",
    "scores": "every item of scores",
    "searches": "records and results of searches",
    "cache": "findings about sources; bounded by jobs.cache",
    "orphans": "of jobs that are not known",
    "other": "keys, locks, and what is not alloyd's",
    "staged": "by jobs that did not end",
    "outputs": "weights that can be made again",
}
SHOWN: Final = 10


def space_lines(space: Space) -> list[str]:
    """A table of what takes room, the largest places outside of the home, and the file systems."""
    home = Room()
    rows = [("WHAT", "FILES", "SIZE", "ON DISK", "")]
    for name, room in space.parts.items():
        home = home.plus(room)
        if room.files:
            rows.append(_row(name, room, _what(name, space)))
    rows.append(_row("home", home, space.home))
    staged = Room()
    for each in space.staged:
        staged = staged.plus(each.room)
    rows.append(_row("staged", staged, "beside outputs, by jobs that did not end"))
    rows.append(_row("outputs", space.published, f"{space.output_count} published by jobs that are known"))
    rows.append(_row("shared", space.shared.room, f"{space.shared.path} ({space.shared.note})"))
    lines = columns(rows)
    for name, places in (("staged", space.staged), ("outputs", space.outputs), ("orphans", space.orphans)):
        lines += _largest(name, places)
    lines += ["", *columns([("DISK", "SIZE", "FREE", "ALLOYD'S"), *(
        (each.path, format_size(each.size), format_size(each.free), format_size(each.holds)) for each in space.disks
    )])]  # fmt: skip
    return lines


def pruned_lines(found: Pruned) -> Iterator[str]:
    """What was pruned, or would be."""
    rows = [("WHAT", "FILES", "SIZE", "ON DISK", "")]
    rows += [_row(name, room, WHAT.get(name, "")) for name, room in found.parts.items()]
    if found.parts:
        yield from columns(rows)
        yield ""
    for title, places in (("staged", found.staged), ("orphans", found.orphans)):
        yield from _largest(title, places)
    if found.outputs:
        yield "weights that 'alloy rebuild' makes again:"
        for each in found.outputs:
            yield f"  {each.path}  {format_size(each.room.real)}"
    if found.kept:
        yield "kept all the same:"
        for each in found.kept[:SHOWN]:
            yield f"  {' '.join(filter(None, (each.job, each.path)))}: {each.note}"
        if len(found.kept) > SHOWN:
            yield f"  and {len(found.kept) - SHOWN} more"
    if found.claims:
        yield f"records of watched folders dropped or cut down: {found.claims}"
    count = len(found.jobs)
    jobs = f"{count} job{'' if count == 1 else 's'}"
    room = format_size(found.room.real)
    yield (
        f"{jobs} would be forgotten, {room} given back"
        if found.dry_run
        else f"{jobs} forgotten, {room} given back"
    )


def _row(name: str, room: Room, what: str) -> tuple[str, str, str, str, str]:
    return name, str(room.files), format_size(room.apparent), format_size(room.real), what


def _what(name: str, space: Space) -> str:
    if name == "store":
        taken = (
            f"{space.claims} files and models that watched folders took"
            if space.claims
            else "watched folders"
        )
        return f"{space.jobs} jobs and {space.events} events; {taken}"
    return WHAT.get(name, "")


def _largest(title: str, places: Sequence[Place]) -> list[str]:
    if not places:
        return []
    shown = sorted(places, key=lambda each: each.room.real, reverse=True)[:SHOWN]
    rows = [
        (f"  {each.path}", format_size(each.room.real), f"{each.job} {each.note}".strip()) for each in shown
    ]
    more = [f"  and {len(places) - SHOWN} more"] if len(places) > SHOWN else []
    return ["", f"{title}:", *columns(rows), *more]
