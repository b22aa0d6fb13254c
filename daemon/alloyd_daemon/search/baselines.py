"""What a search is held against: each source, the plain soup, untuned methods, what an earlier search found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from alloyd.recipe import ModelRef

from .genome import Point
from .naming import reference
from .space import PlainRecipe

GRID: Final = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Weights of all task vectors in the grid of task arithmetic."""
DENSITY: Final = 0.5
"""Density of untuned `ties` and `dare_ties`, as in the examples of mergekit."""
SOUP: Final = "uniform soup"
UNTUNED: Final = ("ties", "dare_ties")
NAMES: Final = frozenset({SOUP, *UNTUNED, *(f"task_arithmetic {weight:g}" for weight in GRID)})
"""What merges are called here; a model whose folder is called so needs another name."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A recipe by its name; ``point`` where genes of the search's own space say it, so that its optimiser may learn."""

    name: str
    recipe: PlainRecipe
    point: Point | None = None
    previous: bool = False


def baselines(
    models: Mapping[str, ModelRef], base: tuple[str, ModelRef] | None, common: Mapping[str, Any]
) -> tuple[tuple[Baseline, ...], tuple[str, ...]]:
    """The baselines over ``models`` (by name, the base left out), and why some of them cannot be.

    ``common``: what stands in each recipe beside models and method, such as ``dtype``.
    """
    found = [
        Baseline(name, {"merge_method": "passthrough", "models": [{"model": reference(ref)}], **common})
        for name, ref in [*models.items(), *([base] if base is not None else [])]
    ]
    notes = []
    refs = list(models.values())
    if len(refs) > 1:
        found.append(Baseline(SOUP, {"merge_method": "linear", "models": _weighted(refs, 1.0), **common}))
    else:
        notes.append(f"there is one model beside the base, so there is no baseline '{SOUP}'")
    if base is None:
        notes.append(
            "the recipe has no base_model, so there are no baselines by task_arithmetic, ties and dare_ties"
        )
    else:
        found += _of_task_vectors(refs, {"base_model": reference(base[1]), **common})
    return tuple(found), tuple(notes)


def _of_task_vectors(refs: Sequence[ModelRef], common: Mapping[str, Any]) -> Iterator[Baseline]:
    for weight in GRID:
        recipe = {"merge_method": "task_arithmetic", "models": _weighted(refs, weight), **common}
        yield Baseline(f"task_arithmetic {weight:g}", recipe)
    for method in UNTUNED:
        recipe = {"merge_method": method, "models": _weighted(refs, 1.0, density=DENSITY), **common}
        yield Baseline(method, recipe)


def _weighted(refs: Sequence[ModelRef], weight: float, **more: float) -> list[dict[str, Any]]:
    return [{"model": reference(ref), "parameters": {"weight": weight, **more}} for ref in refs]
