"""What a search is, made ready: its phases, baselines, goal, tasks, rungs and budget; nothing of it is unchecked."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

from alloyd.jobs import Note, Progress
from alloyd.search_schema import Budget, Rung

from ..candidate import Candidate
from ..optimiser import OptimiserKind, Sources
from ..runner import RunOptions
from ..scoring.run import Posed
from .baselines import Baseline
from .genome import Value
from .objective import Goal
from .screen import Screen
from .space import PlainRecipe, Space
from .trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One space and the optimiser that searches it, until the part ``until`` of the whole budget is spent."""

    space: Space
    kind: OptimiserKind
    options: Mapping[str, Value]
    until: float = 1.0
    sources: Sources | None = None


Said = Generator[Progress | Note, None, None]
MakePhase = Callable[[Trial | None], Generator[Progress | Note, None, Phase]]
"""Makes a phase, when its turn has come, from the best trial so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTask:
    """A search, made ready.

    ``plan`` makes a candidate of a recipe, by name; ``check_sources`` raises SourceChanged where a source is not what
    it was when the search began. ``timeout``: seconds that a candidate may take on the search split.
    """

    phases: Sequence[MakePhase]
    baselines: Sequence[Baseline]
    goal: Goal
    search: tuple[Posed, ...]
    validation: tuple[Posed, ...]
    rungs: tuple[Rung, ...]
    budget: Budget
    plan: Callable[[PlainRecipe, str], Candidate]
    options: RunOptions
    check_sources: Callable[[], None] = lambda: None
    runner: str = "auto"
    finalists: int = 4
    confidence: float = 0.95
    one_at_a_time: bool = False
    batch: int | None = None
    seed: int = 0
    most_failed: int = 20
    screen: Screen | None = None
    timeout: float | None = None
