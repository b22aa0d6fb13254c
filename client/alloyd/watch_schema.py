"""The structs of watched folders: how one is to be watched, and what ``alloy watch list`` tells of it."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Literal

import msgspec

from .errors import UsageError
from .priority import LARGEST_PRIORITY


class WatchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a folder is watched; paths are absolute.

    ``out``: where outputs go, ``<folder>/out`` when empty. ``roots``: folders that recipes dropped here may name beside
    the folder itself, ``models.roots`` and the Hugging Face cache. ``priority``: that of its jobs. ``settle``: seconds
    without a change before a file counts as whole (``None``: 2, or 10 where the folder is polled). ``rescan``: seconds
    between two looks when nothing rings. ``mode``: how changes are noticed; ``auto`` polls network file systems.
    ``in_flight``: how many of its jobs may wait or run at a time. ``duplicates``: what becomes of a file whose content
    has been done before.
    """

    out: str = ""
    roots: tuple[str, ...] = ()
    priority: int = 0
    settle: float | None = None
    rescan: float = 60.0
    mode: Literal["auto", "inotify", "polling"] = "auto"
    in_flight: int = 16
    duplicates: Literal["skip", "run"] = "skip"


class Waiting(msgspec.Struct, frozen=True):
    """Something in a watched folder that is not taken yet, and why."""

    name: str
    why: str


class Watch(msgspec.Struct, frozen=True):
    """A watched folder as the daemon knows it.

    ``mode`` is ``inotify`` or ``polling`` (empty until the first look); ``state`` is ``new``, ``ok``, ``leaving``, or
    ``unknown`` (the folder cannot be seen, or is not the one that was added: nothing is concluded from what is not
    there). ``message`` says what is worth knowing, ``scanned`` when it was last looked at. ``claims`` counts what was
    taken, by state; ``waiting`` is what is not taken yet, at most 50 of ``waits``.
    """

    path: str
    settings: WatchSettings
    mode: str = ""
    state: str = "new"
    message: str = ""
    scanned: datetime | None = None
    claims: dict[str, int] = {}
    waits: int = 0
    waiting: tuple[Waiting, ...] = ()


def check(path: str, settings: WatchSettings) -> None:
    """Refuse what cannot be watched.

    Raises
    ------
    UsageError
        A path that is not absolute, or a number out of its range.
    """
    for name, each in (
        ("the folder", path),
        ("out", settings.out),
        *(("a root", root) for root in settings.roots),
    ):
        if each and not os.path.isabs(each):
            raise UsageError(f"{name} must be an absolute path, not '{each}'", path=each)
    for name, low, high in (
        ("priority", -LARGEST_PRIORITY, LARGEST_PRIORITY),
        ("settle", 0, 3600),
        ("rescan", 1, 86400),
        ("in_flight", 1, 256),
    ):
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"{name} must be from {low} to {high}, not {value:g}", key=name)
