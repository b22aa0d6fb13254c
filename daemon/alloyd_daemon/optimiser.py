"""What an optimiser is (ask for points, tell what they were worth) and the door it registers at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from alloyd.recipe import ModelRef

from .plugins import Door
from .search.genome import Genome, Point, Value
from .search.space import Space


@dataclass(frozen=True, slots=True)
class Proposal:
    """A point to be scored. ``parents`` are numbers of told trials that it was made of; ``how`` says so in a word."""

    point: Point
    parents: tuple[int, ...] = ()
    how: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a point: trial number, and one loss an objective (lower is better), ``None`` if it failed."""

    trial: int
    point: Point
    losses: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Sources:
    """The models of a search, for optimisers that know models and not only numbers.

    ``models``: where they lie, the base left out. ``base``: where that lies, if there is one.
    ``gram``: inner products of the models' task vectors over all weights, [models, models] in float64, measured in one
    streamed pass when it is first called (raises AlloydError where there is no base). ``common``: what stands in every
    recipe beside models and method, such as ``dtype``.
    """

    models: tuple[ModelRef, ...]
    base: ModelRef | None
    gram: Callable[[], Sequence[Sequence[float]]]
    common: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What an optimiser is given. ``batch``: points that will be asked at a time, ``budget``: points in all (both are
    hints); ``asked``: asks before this one, of a run that is gone on with; ``options`` are the kind's own, checked and
    complete.
    """

    genome: Genome
    objectives: int = 1
    seed: int = 0
    batch: int = 1
    budget: int = 100
    asked: int = 0
    options: Mapping[str, Value] = field(default_factory=dict)
    sources: Sources | None = None


class Optimiser(Protocol):
    """One run of an optimiser: a function of its problem, and of what it was asked and told in which order.

    It may be asked for more before all that it gave was told, in any number at a time, and is told points that it
    never gave (baselines, those of an earlier run). Nothing it does depends on the clock or on global random state.
    """

    @property
    def batch(self) -> int:
        """How many points it likes to be asked for at a time: a generation."""

    def ask(self, count: int) -> list[Proposal]:
        """``count`` points or fewer; none means that it is done or, while some are not told, that it waits."""

    def tell(self, told: Sequence[Told]) -> None:
        """What became of points; failed ones count as worse than all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of an optimiser: its default (whose type it has), its range or choices, and what it is for."""

    default: Value
    about: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserKind:
    """One optimiser, registered under its name.

    ``replay``: how its state is rebuilt after a stop. ``history``: a new one is made at each ask from the problem,
    in which stands the number of asks so far, and everything told; ``steps``: ask and tell are repeated in their order.
    ``space``: makes the space that it searches from the models of the recipe, where it does not vary numbers of the
    recipe that it is given. ``suits``: how well it suits a genome and a number of objectives, in [0, 1], for the
    default; ``why`` is the reason, as people will read it.
    """

    name: str
    summary: str
    reference: str
    make: Callable[[Problem], Optimiser]
    why: str
    suits: Callable[[Genome, int], float]
    several: bool = False
    replay: Literal["steps", "history"] = "steps"
    options: Mapping[str, Option] = field(default_factory=dict)
    space: Callable[[Sources], Space] | None = None


OPTIMISERS: Final[Door[OptimiserKind]] = Door("optimiser", "alloyd_daemon.optimisers")
