"""The row of layers that a path is cut from: a place for each layer of each model, repeated; genes; a point's path."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alloyd.errors import RecipeError
from alloyd.search_schema import DataFlow

from .folding import LEAST, MOST, totals
from .genome import Gene, Genome, Point


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a path: a layer of a model, and the product of all scales up to it."""

    model: int
    layer: int
    total: float = 1.0


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in the row; ``take`` names its indicator (``None``: always taken), ``scale`` its factor, if any."""

    model: int
    layer: int
    take: str | None
    scale: str | None


class Row:
    """Every layer of every model in order, ``repeat`` times (arXiv:2403.13187, section 3.2).

    The first model's ``first`` first layers stand at the head and are always taken, its ``last`` last ones at the end.
    Between them each place has an indicator, 0 or 1; a search begins with the first repetition of the first model, so
    with that model itself, or as much of it as ``longest`` allows.

    Parameters
    ----------
    flow:
        What the spec says.
    depths, labels:
        For each model the number of its layers, and its name in genes.

    Raises
    ------
    RecipeError
        Numbers that no path can have.
    """

    def __init__(self, flow: DataFlow, depths: Sequence[int], labels: Sequence[str]) -> None:
        _check(flow, depths)
        self.longest = flow.longest
        own = min(depths[0], flow.longest or depths[0]) - flow.first - flow.last
        self._places = tuple(_places(flow, depths, labels))
        self.genome: Genome = tuple(_genes(flow, self._places, own=own))

    def path(self, point: Point) -> tuple[Hop, ...]:
        """The hops that ``point`` takes, in order.

        Raises
        ------
        RecipeError
            There are more of them than may be, or their scales multiply to what weights cannot hold.
        """
        taken = [each for each in self._places if each.take is None or point[each.take]]
        if self.longest is not None and len(taken) > self.longest:
            raise RecipeError(
                f"the path has {len(taken)} hops, and path.longest is {self.longest}", key="path.longest"
            )
        products = totals(1.0 if each.scale is None else float(point[each.scale]) for each in taken)
        worst = max(products, key=lambda total: abs(math.log(abs(total))))
        if not 1 / MOST <= abs(worst) <= MOST:
            raise RecipeError(
                f"the scales of the path multiply to {worst:.3g}; at most {MOST:g} and at least its inverse is kept",
                hint="Take path.scale nearer to 1, or give path.longest.",
                key="path.scale",
            )
        return tuple(Hop(each.model, each.layer, total) for each, total in zip(taken, products, strict=True))


def _check(flow: DataFlow, depths: Sequence[int]) -> None:
    problem = ""
    if flow.first < 1 or flow.last < 1:
        problem = (
            "path.first and path.last must be at least 1: the first model gives what is outside the layers"
        )
    elif flow.first + flow.last > depths[0]:
        problem = f"path.first and path.last are {flow.first + flow.last} layers, and the first model has {depths[0]}"
    elif flow.repeat < 1:
        problem = f"path.repeat is {flow.repeat}, and must be at least 1"
    elif flow.longest is not None and flow.longest < flow.first + flow.last:
        problem = f"path.longest is {flow.longest}, and {flow.first + flow.last} layers are always taken"
    elif flow.scale is not None and not LEAST <= flow.scale[0] < flow.scale[1] < float("inf"):
        problem = f"path.scale must be two magnitudes in order, the least at least {LEAST}"
    elif flow.sign and flow.scale is None:
        problem = "path.sign needs path.scale"
    if problem:
        raise RecipeError(problem, key="path")


def _places(flow: DataFlow, depths: Sequence[int], labels: Sequence[str]) -> Iterator[_Place]:
    depth = depths[0]
    end = depth - flow.last

    def place(repetition: int, model: int, layer: int, *, fixed: bool = False) -> _Place:
        name = f"{labels[model]}.{layer}" + (f".r{repetition}" if flow.repeat > 1 else "")
        return _Place(
            model, layer, None if fixed else f"take.{name}", f"scale.{name}" if flow.scale else None
        )

    for layer in range(flow.first):
        yield place(1, 0, layer, fixed=True)
    for repetition in range(1, flow.repeat + 1):
        for model, count in enumerate(depths):
            mine = range(flow.first, end) if (repetition, model) == (1, 0) else range(count)
            for layer in mine:
                yield place(repetition, model, layer)
    for layer in range(end, depth):
        yield place(1, 0, layer, fixed=True)


def _genes(flow: DataFlow, places: Sequence[_Place], *, own: int) -> Iterator[Gene]:
    """Indicators, then scales; the first ``own`` indicators are those of the first model's own layers."""
    takes = [each.take for each in places if each.take is not None]
    for number, name in enumerate(takes):
        yield Gene(name=name, kind="integer", low=0, high=1, start=int(number < own))
    if flow.scale is not None:
        low, high = map(float, flow.scale)
        for each in places:
            assert each.scale is not None
            start = 1.0 if low <= 1.0 <= high else None
            yield Gene(name=each.scale, low=low, high=high, log=True, sign=flow.sign, start=start)
