"""What a trial is: one point of a search, where it came from, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from alloyd.errors import AlloydError

from .genome import Point
from .space import PlainRecipe

Origin = Literal["baseline", "previous", "optimiser"]
State = Literal["asked", "scored", "dropped", "failed", "duplicate"]

VALIDATION: Final = -1
"""The rung that finalists are scored at: the validation split, at full precision."""
TEST: Final = -2
"""The rung of the locked test split, at full precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One point of a search.

    ``number`` counts from 1 in the order of asking. ``batch`` is the ask that it belongs to, from 1 (0: a baseline),
    ``phase`` the phase of the search, from 0. ``point`` is ``None`` where the recipe comes from no genes; ``recipe``
    and ``identity`` (what its weights follow from, as a digest) are empty where the point stands for none that can be
    merged. ``parents`` are numbers of trials, ``how`` says in a word what the optimiser did.

    ``losses``, one an objective, are exact for a ``scored`` trial, an estimate for a ``dropped`` one, those of trial
    number ``of`` for a ``duplicate``, and ``None`` for a ``failed`` one. ``items`` counts the items that it was asked,
    by rung; ``seconds`` is the time that it took in all.
    """

    number: int
    batch: int
    origin: Origin
    name: str
    phase: int = 0
    point: Point | None = None
    recipe: PlainRecipe = field(default_factory=dict)
    identity: str = ""
    parents: tuple[int, ...] = ()
    how: str = ""
    state: State = "asked"
    losses: tuple[float, ...] | None = None
    of: int | None = None
    error: AlloydError | None = None
    seconds: float = 0.0
    items: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opening:
    """The one time that the locked test was opened: when (ISO 8601, UTC), by which job, and what came out.

    ``figures`` is empty until all of it is scored.
    """

    at: str
    job: str
    figures: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """Something else that is on record: plain ``data`` of a ``kind`` (``note``, ``rung``, ``phase``, ``winner``)."""

    kind: str
    key: str
    at: str
    data: Mapping[str, object]
