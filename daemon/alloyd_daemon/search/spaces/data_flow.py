"""Data-flow space: a point is a path over the layers of several models, and its recipe a folded `passthrough`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from alloyd.search_schema import DataFlow

from ...architecture import Fold
from ...checkpoints.checkpoint import Checkpoint
from ..folding import Change, as_settings, final_changes, layer_changes
from ..genome import Genome, Point
from ..pool import Member, open_pool
from ..row import Hop, Row
from ..space import PlainRecipe


class DataFlowSpace:
    """Paths over the layers of the models at ``checkpoints``, in that order.

    ``warnings`` are for people.

    Raises
    ------
    RecipeError
        A path that the numbers in ``flow`` do not allow.
    PlanError, ShapeMismatch, Problems
        Models whose layers do not fit each other, or into which scales cannot be folded.
    """

    def __init__(self, flow: DataFlow, checkpoints: Sequence[Checkpoint]) -> None:
        self._pool = open_pool(checkpoints, scaled=flow.scale is not None)
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
        """The hops of ``point``. Raises RecipeError for more of them than may be."""
        return self._row.path(point)

    def recipe(self, point: Point) -> PlainRecipe:
        hops = self.path(point)
        runs = list(joined(hops))
        return {
            "merge_method": "passthrough",
            "slices": [{"sources": [self._source(run, last=run is runs[-1])]} for run in runs],
        }

    def _source(self, run: Sequence[Hop], *, last: bool) -> dict[str, Any]:
        member = self._pool.members[run[0].model]
        source: dict[str, Any] = {
            "model": reference(member.checkpoint.path),
            "layer_range": [run[0].layer, run[-1].layer + 1],
        }
        fold = self._pool.fold
        settings = {} if fold is None else _settings(fold, member, run, last=last)
        return source | ({"parameters": settings} if settings else {})


def joined(hops: Sequence[Hop]) -> Iterator[list[Hop]]:
    """Neighbouring hops that are neighbouring layers of one model at one scale, together."""
    run: list[Hop] = []
    for hop in hops:
        if run and (hop.model, hop.layer, hop.total) != (run[-1].model, run[-1].layer + 1, run[-1].total):
            yield run
            run = []
        run.append(hop)
    if run:
        yield run


def reference(path: Path) -> str | dict[str, Any]:
    """A model at ``path`` as a recipe names it."""
    text = str(path)
    return {"model": {"path": text}} if "+" in text or "@" in text else text


def _settings(fold: Fold, member: Member, run: Sequence[Hop], *, last: bool) -> dict[str, Any]:
    """The parameters that fold the scale of ``run`` into its layers, and, at the end, its sign into the final norm."""
    total = run[-1].total
    changes: tuple[Change, ...] = layer_changes(fold, total)
    names = {rest for hop in run for rest in member.stack.layers[hop.layer]}
    if last:
        changes += final_changes(fold, total)
        names.add(fold.final)
    return dict(as_settings(changes, names))
