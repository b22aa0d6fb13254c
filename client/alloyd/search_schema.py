"""The structs of a search spec: a recipe with knobs, tasks in three splits, an optimiser, a budget, rungs."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .recipe_schema import Scalar

Number = int | float


class Knob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in a recipe in the place of a value that the search is to find.

    Either ``low`` and ``high`` (``log``: steps are ratios; ``sign``: they bound the magnitude, either sign is allowed;
    ``integer``: whole numbers), or ``choices``. ``start`` is where the search begins. ``layers`` parts the layers into
    so many groups of neighbours, and ``components`` names parts of a model (attention, mlp, norms, embeddings, or any
    piece of tensor names): each group, part and pair of both gets a gene of its own. Knobs of one ``name`` are one.
    """

    low: Number | None = None
    high: Number | None = None
    log: bool = False
    sign: bool = False
    integer: bool = False
    choices: tuple[Scalar, ...] = ()
    start: Scalar | None = None
    layers: int | None = None
    components: tuple[str, ...] = ()
    name: str | None = None


class DataFlow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Paths over the layers of several models (arXiv 2403.13187, section 3.2).

    All layers of ``models`` (paths or names; default: those of the recipe, the base left out) stand in a row that is
    repeated ``repeat`` times; an indicator for each says whether the path takes it. The first model gives what is
    outside the layers, and its ``first`` first and ``last`` last layers are always taken. ``scale`` bounds the factor
    on what enters a hop (none: 1), on its magnitude where ``sign`` allows both signs. ``longest``: hops that a path may
    have. ``after``: the path is searched after the recipe, whose winner joins ``models``, with the ``share`` of the
    budget that is left; else both at once.
    """

    models: tuple[str, ...] = ()
    repeat: int = 1
    first: int = 1
    last: int = 1
    scale: tuple[Number, Number] | None = None
    sign: bool = False
    longest: int | None = None
    after: bool = False
    share: float = 0.5


class Splits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tasks, split by split: equally many in each, in one order. ``test`` stays locked until it is asked for."""

    search: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...] = ()


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to become better: ``metric`` (the task's first, if ``None``) of task number ``task``, from 1.

    With one goal the objectives are added, each by its ``weight``, metrics that are better when lower subtracted.
    """

    task: int = 1
    metric: str | None = None
    weight: float = 1.0


class Rung(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One level of the ladder on the search split.

    ``items`` of each task (all, if ``None``). A rung either has every candidate answer them, and lets through what is
    not surely worse than the incumbent; or, with ``race``, asks ``block`` items at a time, in one random order, and
    drops a candidate as soon as its paired interval against the incumbent is decided. ``quantise`` names the type that
    weights are quantised to first.
    """

    items: int | None = None
    quantise: str | None = None
    race: bool = False
    block: int = 25


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a search ends: after so many candidates, scored items, or seconds, whichever comes first; one is needed."""

    candidates: int | None = None
    items: int | None = None
    seconds: float | None = None


class Screen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a candidate must be before it is asked anything.

    ``norm_ratio``: how many times as far from the base as the farthest source it may lie.
    """

    norm_ratio: float = 10.0


class OptimiserChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The optimiser by its name (``auto``: by the shape of the space), its options, and candidates at a time."""

    name: str = "auto"
    options: dict[str, Scalar] = {}
    batch: int | None = None


class SearchFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A search spec, read. ``recipe`` is a recipe as plain data with a :class:`Knob` wherever a value is searched.

    ``goal``: one figure, or the ``pareto`` front of all objectives. ``baselines``: whether sources, soups and untuned
    methods are scored first. ``previous``: jobs or result files whose best is scored with them. ``finalists`` are
    scored again at full precision on validation. ``confidence`` is that of every interval that drops a candidate.
    ``screen`` refuses candidates before they are scored (``None``, in a spec ``false``: it is off); ``timeout`` is how
    many seconds one may take on the search split.
    ``mode``: ``deterministic`` repeats itself after any kill; ``async`` has no generations. ``options`` are those of
    evaluators and runners. ``most_failed``: failed candidates in a row after which something must be wrong.
    ``warnings`` are what the reader has to say of it.
    """

    tasks: Splits
    budget: Budget
    recipe: dict[str, Any] | None = None
    path: DataFlow | None = None
    name: str = ""
    objectives: tuple[Objective, ...] = (Objective(),)
    goal: Literal["one", "pareto"] = "one"
    optimiser: OptimiserChoice = OptimiserChoice()
    screen: Screen | None = Screen()
    rungs: tuple[Rung, ...] = (Rung(race=True),)
    timeout: float | None = None
    baselines: bool = True
    previous: tuple[str, ...] = ()
    finalists: int = 4
    confidence: float = 0.95
    mode: Literal["deterministic", "async"] = "deterministic"
    seed: int = 0
    runner: str = "auto"
    batch_size: int | None = None
    options: dict[str, str] = {}
    most_failed: int = 20
    warnings: tuple[str, ...] = ()
