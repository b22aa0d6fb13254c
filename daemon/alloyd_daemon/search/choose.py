"""The optimiser of a search: the one that was named, if it fits, or the one that suits the space best, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from alloyd.errors import UsageError

from ..optimiser import OPTIMISERS, OptimiserKind
from .genome import Genome
from .known import varying


@dataclass(frozen=True, slots=True)
class Choice:
    """An optimiser, and the sentence that says why it was taken."""

    kind: OptimiserKind
    why: str


def choose(name: str, genome: Genome, *, objectives: int = 1, budget: int | None = None) -> Choice:
    """The optimiser ``name``; if that is ``auto``, the one that suits ``genome`` best.

    ``objectives``: those that are not added up. ``budget``: candidates, where it is known: an optimiser that has
    learnt nothing yet when so few are spent is not chosen.

    Raises
    ------
    RecipeError
        There is no optimiser of this name.
    UsageError
        It cannot search this space or for several objectives; nothing in the genome varies.
    """
    if name != "auto":
        kind = OPTIMISERS.get(name)
        _fits(kind, genome, objectives)
        return Choice(kind, f"{kind.name}, as asked: {kind.summary}")
    _varies(genome)
    ranked = sorted(
        (
            (kind.suits(genome, objectives), kind)
            for _, kind in OPTIMISERS.items()
            if kind.space is None and (kind.several or objectives == 1)
        ),
        key=lambda each: (-each[0], each[1].name),
    )
    suiting = [kind for suits, kind in ranked if suits > 0]
    if not suiting:
        raise UsageError("no optimiser can search this space", hint="Name one: optimiser: {name: ...}.")
    kind = next((each for each in suiting if budget is None or each.least(genome) <= budget), suiting[-1])
    budgeted = "" if kind is suiting[0] else f" and {budget} candidates"
    return Choice(kind, f"{kind.name} for {_shape(genome, objectives)}{budgeted}: {kind.why}")


def _fits(kind: OptimiserKind, genome: Genome, objectives: int) -> None:
    if objectives > 1 and not kind.several:
        able = [each.name for _, each in OPTIMISERS.items() if each.several]
        raise UsageError(
            f"the optimiser '{kind.name}' searches for one objective, not for a front of {objectives}",
            hint=f"Take one of {', '.join(able)}, or goal: one, which adds them up.",
            optimiser=kind.name,
        )
    if kind.space is not None:
        return
    _varies(genome)
    if any(gene.kind == "text" for gene in genome):
        raise UsageError(
            f"the optimiser '{kind.name}' varies numbers and choices, and this space has genes that are texts",
            optimiser=kind.name,
        )


def _varies(genome: Genome) -> None:
    if not varying(genome) and not any(gene.kind == "text" for gene in genome):
        raise UsageError(
            "nothing varies in this search",
            hint="Put a knob where a value is wanted, such as weight: {low: 0, high: 1.5}.",
        )


def _shape(genome: Genome, objectives: int) -> str:
    """The space in words: its genes by their kinds."""
    free = varying(genome)
    counts: Counter[str] = Counter(gene.kind for gene in free)
    words = [
        f"{counts[kind]} {one if counts[kind] == 1 else many}"
        for kind, one, many in (
            ("real", "real number", "real numbers"),
            ("integer", "whole number", "whole numbers"),
            ("category", "choice", "choices"),
        )
        if counts[kind]
    ]
    shape = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 2 else words)
    return shape + (f" and {objectives} objectives" if objectives > 1 else "")
