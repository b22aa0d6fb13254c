"""Data-flow space: a point is a path over the layers of several models, and its recipe a folded `passthrough`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alloyd.search_schema import DataFlow

from ...checkpoints.checkpoint import Checkpoint
from ..folding import as_settings, changes_of
from ..genome import Genome, Point
from ..naming import placed
from ..pool import open_pool
from ..row import Hop, Row
from ..slices import Step, StepSource, as_slices
from ..space import PlainRecipe


class DataFlowSpace:
    """Paths over the layers of ``models``, in that order; the first gives what is outside the layers.

    Raises
    ------
    RecipeError
        A path that the numbers in ``flow`` do not allow.
    PlanError, ShapeMismatch, Problems
        Models whose layers do not fit each other, or into which scales cannot be folded.
    """

    def __init__(self, flow: DataFlow, models: Sequence[Checkpoint]) -> None:
        self._pool = open_pool(models, scaled=flow.scale is not None)
        members = self._pool.members
        self._row = Row(flow, [each.stack.count for each in members], [each.label for each in members])

    @property
    def genome(self) -> Genome:
        return self._row.genome

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the models' configs say differently of their layers."""
        return self._pool.warnings

    def path(self, point: Point) -> tuple[Hop, ...]:
        """The hops of ``point``. Raises RecipeError as :meth:`Row.path` does."""
        return self._row.path(point)

    def recipe(self, point: Point) -> PlainRecipe:
        hops = self.path(point)
        steps = [self._step(hop, last=place == len(hops) - 1) for place, hop in enumerate(hops)]
        return {"merge_method": "passthrough", "slices": as_slices(steps)}

    def _step(self, hop: Hop, *, last: bool) -> Step:
        member, fold = self._pool.members[hop.model], self._pool.fold
        settings: dict[str, Any] = {}
        if fold is not None:
            names = (*member.stack.layers[hop.layer], *((fold.final,) if last else ()))
            settings = as_settings(changes_of(fold, hop.total, last=last), names)
        return Step((StepSource(placed(member.checkpoint), hop.layer, hop.layer, settings),))
