"""Hybrid space: a merge and a path at once; hops take layers of the merge that the same point describes.

Where a merge is a weighted sum of its sources, a path over its layers and those of other models is one `linear` recipe:
no merged model is written, and a point is scored like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alloyd.recipe import ModelRef
from alloyd.search_schema import DataFlow

from ...adapters.opening import open_model
from ...checkpoints.checkpoint import Checkpoint
from ...merge_method import METHODS
from ...settings import Settings
from ..folding import Change, change_of, changes_of
from ..genome import Genome, Point, first_point
from ..naming import placed, reference
from ..pool import open_pool
from ..row import Hop, Row
from ..slices import Step, StepSource, as_slices
from ..space import PlainRecipe, Space
from ..weighted_form import METHODS as SUMS
from ..weighted_form import Sum, WeightedForm, not_a_sum, weighted_form

_KEPT = ("dtype", "out_dtype", "tokenizer", "tokenizer_source", "chat_template", "seed")


class HybridSpace:
    """``parameters`` and paths over the layers of the merge it describes, then those of ``models``.

    The merge comes first in the row: it gives what is outside the layers.

    Raises
    ------
    RecipeError
        A path that the numbers in ``flow`` do not allow, or a merge that is no weighted sum of its sources.
    PlanError, ShapeMismatch, Problems
        Models whose layers do not fit each other, or into which scales cannot be folded.
    """

    def __init__(self, parameters: Space, flow: DataFlow, models: Sequence[Checkpoint]) -> None:
        _check_choices(parameters.genome)
        self._parameters = parameters
        self._opened: dict[ModelRef, Checkpoint] = {}
        form = self._form(first_point(parameters.genome))
        donor = form.sources[form.donor]
        self._pool = open_pool((donor, *models), scaled=flow.scale is not None, labels=("merge",))
        members = self._pool.members
        self._row = Row(flow, [each.stack.count for each in members], [each.label for each in members])

    @property
    def genome(self) -> Genome:
        return (*self._parameters.genome, *self._row.genome)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the models' configs say differently of their layers."""
        return self._pool.warnings

    def path(self, point: Point) -> tuple[Hop, ...]:
        """The hops of ``point``; model 0 is the merge. Raises RecipeError as :meth:`Row.path` does."""
        return self._row.path(point)

    def recipe(self, point: Point) -> PlainRecipe:
        hops = self.path(point)
        form = self._form(point)
        merge = self._merge(point)
        steps = [self._step(form, hop, hops, place) for place, hop in enumerate(hops)]
        kept = {key: merge[key] for key in _KEPT if key in merge}
        return {
            "merge_method": "linear",
            **kept,
            "base_model": reference(placed(form.sources[form.donor])),
            "parameters": {"normalize": False},
            "slices": as_slices(steps),
        }

    def _merge(self, point: Point) -> PlainRecipe:
        return self._parameters.recipe({gene.name: point[gene.name] for gene in self._parameters.genome})

    def _form(self, point: Point) -> WeightedForm:
        return weighted_form(self._merge(point), self._open)

    def _open(self, ref: ModelRef) -> Checkpoint:
        if ref not in self._opened:
            self._opened[ref] = open_model(ref, base_dir=Path("/"), settings=Settings())
        return self._opened[ref]

    def _step(self, form: WeightedForm, hop: Hop, hops: Sequence[Hop], place: int) -> Step:
        member, fold = self._pool.members[hop.model], self._pool.fold
        last = place == len(hops) - 1
        changes = () if fold is None else changes_of(fold, hop.total, last=last)
        layer = f"{member.stack.prefix}.{hop.layer}."
        if hop.model:
            models: tuple[ModelRef, ...] = (placed(member.checkpoint),)
            rests = member.stack.layers[hop.layer]
            sums = {layer + rest: Sum({0: 1.0}) for rest in rests if not self._pool.table.is_buffer(rest)}
        else:
            models = tuple(placed(each) for each in form.sources)
            sums = {name: each for name, each in form.sums.items() if name.startswith(layer)}
        parts = [
            _Part("." + name.removeprefix(layer), each, change_of(name, changes))
            for name, each in sums.items()
        ]
        if place == 0 or last:
            # A path begins and ends in the merge, so that what is outside the layers is the merge's as well.
            parts += [
                _Part(name, each, change_of(name, changes))
                for name, each in form.sums.items()
                if not member.stack.numbers(name) and (place == 0 if name in member.pre else last)
            ]
        return _step_of(models, hop.layer, parts)


def _check_choices(genome: Genome) -> None:
    """Refuse a choice of methods of which one is no weighted sum, before any point is asked for."""
    for gene in genome:
        wrong = [each for each in gene.choices if each in METHODS.names() and each not in SUMS]
        if wrong:
            raise not_a_sum(str(wrong[0]))


@dataclass(frozen=True, slots=True)
class _Part:
    """What one tensor is: a filter that finds it in a layer or outside them, its sum, and what folding does to that."""

    filter: str
    sum: Sum
    change: Change | None

    def weight(self, source: int) -> float | None:
        weight = self.sum.weights.get(source)
        return weight if weight is None or self.change is None else weight * self.change.factor

    @property
    def offset(self) -> float:
        if self.change is None:
            return self.sum.offset
        return self.sum.offset * self.change.factor + self.change.offset


def _step_of(models: Sequence[ModelRef], layer: int, parts: Sequence[_Part]) -> Step:
    """One layer of ``models``, each with its weight for every tensor."""
    sources = []
    for place, model in enumerate(models):
        found = {part.filter: part.weight(place) for part in parts}
        weights = {name: weight for name, weight in found.items() if weight is not None}
        sources.append(StepSource(model, layer, layer, {"weight": _setting(weights)}))
    offsets = {part.filter: part.offset for part in parts}
    return Step(tuple(sources), {"offset": _setting(offsets)} if any(offsets.values()) else {})


def _setting(values: Mapping[str, float]) -> float | list[dict[str, Any]]:
    """A value for each filter, as short as it can be said: the commonest last and without a filter."""
    common = Counter(values.values()).most_common(1)[0][0] if values else 0.0
    # The first filter that fits decides: the longest, for a name may end like another.
    ordered = sorted(values, key=lambda name: (-len(name), name))
    kept = [name for name in ordered if values[name] != common]
    if any(_first_fit(kept, name) is not None for name in ordered if values[name] == common):
        kept = ordered
    if not kept:
        return common
    return [*({"filter": name, "value": values[name]} for name in kept), {"value": common}]


def _first_fit(filters: Iterable[str], name: str) -> str | None:
    return next((each for each in filters if each in name), None)
