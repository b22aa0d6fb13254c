"""The structs of watched folders: how one is to be watched, and what ``alloy watch list`` tells of it."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Final, Literal

import msgspec

from .errors import UsageError
from .priority import LARGEST_PRIORITY

Kind = Literal["recipe", "search"]
Keep = Literal["better", "not_worse"]
KEEP: Final[tuple[Keep, ...]] = ("better", "not_worse")


class Soup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A running soup: it begins as the model ``start``; a candidate takes its place if ``score``, some tasks, says so.

    ``keep``: when it is kept: ``better``, where the paired comparison of a task says so and that of none says worse;
    ``not_worse``, where that of none says worse.
    """

    start: str
    score: tuple[str, ...]
    keep: Literal["better", "not_worse"] = "better"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done with each new model whose name one of the globs ``match`` matches.

    ``base``: only with fine-tunes of that model, and with its adapters. ``template``: the text of a recipe or of a
    search spec (``kind``), in which ``{model}`` stands for the new model, ``{base}`` for the base, and ``{soup}`` for
    the running soup. Relative paths start at the watched folder. A model is used once under a rule of one ``name``.
    """

    name: str
    match: tuple[str, ...]
    kind: Literal["recipe", "search"]
    template: str
    base: str = ""
    soup: Soup | None = None


class WatchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a folder is watched; paths are absolute.

    ``out``: where outputs go, ``<folder>/out`` when empty. ``roots``: folders that recipes dropped here may name beside
    the folder itself, ``models.roots`` and the Hugging Face cache. ``priority``: that of its jobs. ``settle``: seconds
    without a change before a file counts as whole (``None``: 2, or 10 where the folder is polled). ``rescan``: seconds
    between two looks when nothing rings. ``mode``: how changes are noticed; ``auto`` polls network file systems.
    ``in_flight``: how many of its jobs may wait or run at a time. ``duplicates``: what becomes of a file whose content
    has been done before. ``rules``: what is done with new models.
    """

    out: str = ""
    roots: tuple[str, ...] = ()
    priority: int = 0
    settle: float | None = None
    rescan: float = 60.0
    mode: Literal["auto", "inotify", "polling"] = "auto"
    in_flight: int = 16
    duplicates: Literal["skip", "run"] = "skip"
    rules: tuple[Rule, ...] = ()


class Waiting(msgspec.Struct, frozen=True):
    """Something in a watched folder that is not taken yet, and why."""

    name: str
    why: str


class RunningSoup(msgspec.Struct, frozen=True):
    """A soup as it is: the model that it is now, and how many candidates it took in and turned down."""

    rule: str
    current: str
    kept: int = 0
    rejected: int = 0


class Watch(msgspec.Struct, frozen=True):
    """A watched folder as the daemon knows it.

    ``mode`` is ``inotify`` or ``polling`` (empty until the first look); ``state`` is ``new``, ``ok``, ``leaving``, or
    ``unknown`` (the folder cannot be seen, or is not the one that was added: nothing is concluded from what is not
    there). ``message`` says what is worth knowing, ``scanned`` when it was last looked at. ``claims`` counts what was
    taken, by state; ``waiting`` is what is not taken yet, at most 50 of ``waits``. ``soups`` are those of its rules
    that have begun.
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
    soups: tuple[RunningSoup, ...] = ()


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
            raise UsageError(
                f"{name} must be an absolute path, not '{each}'", hint="Begin it with /.", path=each
            )
    for name, low, high in (
        ("priority", -LARGEST_PRIORITY, LARGEST_PRIORITY),
        ("settle", 0, 3600),
        ("rescan", 1, 86400),
        ("in_flight", 1, 256),
    ):
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            found = f"{value:g}" if abs(value) < 1e15 else "a number far beyond"
            raise UsageError(
                f"{name} must be from {low} to {high}, not {found}",
                hint="docs/watch-folders.md says what it is for.",
                key=name,
            )
