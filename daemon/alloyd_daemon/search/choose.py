"""The optimiser of a search: the one that was named, if it fits, or the one that suits the space best, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from alloyd.errors import RecipeError
from alloyd.search_schema import OptimiserChoice

from ..optimiser import OPTIMISERS, OptimiserKind
from .genome import Genome, Value
from .known import varying
from .options import check_options

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Chosen:
    """An optimiser, its options whole, and the sentence that says why it is this one."""

    kind: OptimiserKind
    options: Mapping[str, Value]
    why: str


def choose(choice: OptimiserChoice, genome: Genome, objectives: int = 1) -> Chosen:
    """The optimiser that ``choice`` names; ``auto``: the one that suits ``genome`` best.

    ``objectives``: those that are not added up. The budget has no say: a search goes on with its optimiser when more is
    given to it.

    Raises
    ------
    RecipeError
        Nothing in the genome varies; there is no optimiser of this name; it cannot search this space or so many
        objectives; an option is wrong (Problems, if there are several).
    """
    if choice.name != AUTO:
        kind = OPTIMISERS.get(choice.name)
        check_objectives(kind, objectives)
        _check_space(kind, genome, objectives)
        return Chosen(kind, check_options(kind, choice.options), "it was asked for")
    _check_varies(genome)
    able = [
        kind
        for _, kind in OPTIMISERS.items()
        if kind.space is None and (kind.several or objectives == 1) and kind.suits(genome, objectives) > 0
    ]
    if not able:
        raise RecipeError("no optimiser can search this space", hint="Name one that can.", key="optimiser")
    kind = max(able, key=lambda each: each.suits(genome, objectives))
    return Chosen(kind, check_options(kind, choice.options), f"for {_shape(genome, objectives)}: {kind.why}")


def check_objectives(kind: OptimiserKind, objectives: int) -> None:
    """Raise RecipeError where ``kind`` searches for one objective and there are several."""
    if objectives > 1 and not kind.several:
        able = ", ".join(name for name, each in OPTIMISERS.items() if each.several)
        raise RecipeError(
            f"the optimiser '{kind.name}' searches for one objective, not for a front of {objectives}",
            hint=f"For a front: {able}. With goal: one the objectives are added up.",
            key="optimiser",
        )


def _check_space(kind: OptimiserKind, genome: Genome, objectives: int) -> None:
    _check_varies(genome)
    if kind.suits(genome, objectives) <= 0:
        raise RecipeError(
            f"the optimiser '{kind.name}' cannot search this space",
            hint="Leave the optimiser out, and one that can is chosen.",
            key="optimiser",
        )


def _check_varies(genome: Genome) -> None:
    if not varying(genome) and not any(gene.kind == "text" for gene in genome):
        raise RecipeError(
            "nothing varies in this search",
            hint="Put a knob where a value is wanted, such as weight: {low: 0, high: 1.5}.",
            key="recipe",
        )


def _shape(genome: Genome, objectives: int) -> str:
    """The space in words: its genes by their kinds."""
    counts: Counter[str] = Counter(gene.kind for gene in varying(genome))
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
