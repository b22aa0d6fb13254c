"""What takes room on the daemon's machine, and what a pruning removed or would remove; all sizes are in bytes."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

MONTH = 30 * 86400.0


class GetSpace(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask what takes room."""


class Prune(Struct, frozen=True, forbid_unknown_fields=True):
    """Forget jobs that ended over ``older_than`` seconds ago, and remove what they left; ``dry_run`` only says what.

    ``before`` is that moment itself, as an earlier answer told it. The newest ``keep`` ended jobs stay. ``outputs``:
    also the weights of what they published, where it can be made again. What the clock says to be older than the
    number of days that the home has lived through stays, unless ``trust_clock``.
    """

    older_than: float = MONTH
    before: datetime | None = None
    keep: int | None = None
    outputs: bool = False
    trust_clock: bool = False
    dry_run: bool = False


class Room(Struct, frozen=True):
    """What ``files`` files hold: ``apparent`` is what they say, ``real`` what their disk gave them."""

    files: int = 0
    apparent: int = 0
    real: int = 0

    def plus(self, other: Room) -> Room:
        """Both together."""
        return Room(self.files + other.files, self.apparent + other.apparent, self.real + other.real)


class Place(Struct, frozen=True):
    """A file or folder, the job that it is of (empty: of none that is known), and a ``note`` about it."""

    path: str
    room: Room
    job: str = ""
    note: str = ""


class Disk(Struct, frozen=True):
    """A file system, by a path on it: its ``size``, what is ``free`` to the daemon, and what alloyd ``holds`` there."""

    path: str
    size: int
    free: int
    holds: int


class Space(Struct, frozen=True):
    """What takes room: ``parts`` of the home by name, and beside it ``staged``, ``outputs`` and the cache ``shared``.

    ``staged`` are the folders that unfinished jobs left, ``outputs`` the published ones, ``output_count`` that together
    hold ``published``, ``orphans`` the things in the home that are of no known job; of each at most the 1,000 largest.
    ``claims`` are the records of what watched folders took.
    """

    home: str
    parts: dict[str, Room]
    shared: Place
    staged: tuple[Place, ...]
    outputs: tuple[Place, ...]
    output_count: int
    published: Room
    orphans: tuple[Place, ...]
    disks: tuple[Disk, ...]
    jobs: int
    events: int
    claims: int = 0


class Pruned(Struct, frozen=True):
    """What was pruned, or with ``dry_run`` would be: ``jobs`` that ended before ``before``, and what they left.

    ``parts`` is the room of it by class, ``staged``, ``outputs`` (whose weights go) and ``orphans`` are told one by
    one. ``claims`` is how many records of watched folders are dropped, or cut down to what keeps the same content from
    being run again. ``kept`` are old enough and stay all the same, each with the reason as its ``note``.
    """

    dry_run: bool
    before: datetime
    jobs: tuple[str, ...] = ()
    parts: dict[str, Room] = {}
    staged: tuple[Place, ...] = ()
    outputs: tuple[Place, ...] = ()
    orphans: tuple[Place, ...] = ()
    claims: int = 0
    kept: tuple[Place, ...] = ()

    @property
    def room(self) -> Room:
        """All of it together."""
        together = Room()
        for each in self.parts.values():
            together = together.plus(each)
        return together
