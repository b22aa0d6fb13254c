"""What the daemon asks of the process that looks at its disk, and what that answers."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from alloyd.space_schema import Place, Room, Space

from ..service.store_prune import Removal
from ..settings import Settings


class Look(Struct, frozen=True, tag=True):
    """Say what takes room, in the home and beside it."""


class Weigh(Struct, frozen=True, tag=True):
    """Say what the jobs of these ``numbers`` left. What lies outside of the home and of ``roots`` is left alone.

    ``outputs``: also whose weights may go; ``shielded`` are folders in which none may. ``orphans``: also what belongs
    to no job and was last changed before that time. ``backups``: also copies of the store that are as old. What is not,
    but was changed before ``doubted``, is told to be kept, with the reason ``doubt``.
    """

    numbers: tuple[int, ...]
    outputs: bool = False
    shielded: tuple[str, ...] = ()
    roots: tuple[str, ...] | None = None
    orphans: float | None = None
    backups: float | None = None
    doubted: float = 0.0
    doubt: str = ""


class Clear(Struct, frozen=True, tag=True):
    """Remove what the store says is to be removed, the logs and samples of the jobs ``quiet``, all of the jobs
    ``whole`` that is in the home, and the ``backups`` of these names."""

    quiet: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    backups: tuple[str, ...] = ()


class Weighed(Struct, frozen=True, tag=True):
    """What jobs left, class by class; ``removals`` is what to do about each, ``kept`` is left alone, and why."""

    removals: tuple[Removal, ...]
    parts: dict[str, Room]
    staged: tuple[Place, ...]
    outputs: tuple[Place, ...]
    orphans: tuple[Place, ...]
    orphan_removals: tuple[Removal, ...]
    backups: tuple[str, ...]
    kept: tuple[Place, ...]


class Cleared(Struct, frozen=True, tag=True):
    """The numbers of the removals that are done, the room that they gave, and what could not be removed, and why."""

    numbers: tuple[int, ...]
    parts: dict[str, Room]
    left: tuple[Place, ...]


class Seen(Struct, frozen=True, tag=True):
    """What takes room."""

    space: Space


class Failed(Struct, frozen=True, tag=True):
    """It could not be done."""

    error: dict[str, Any]


class Orders(Struct, frozen=True):
    """An order, and where it is to be carried out."""

    home: str
    settings: Settings
    order: Look | Weigh | Clear


Answer = Seen | Weighed | Cleared | Failed
