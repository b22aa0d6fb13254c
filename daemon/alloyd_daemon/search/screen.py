"""The lowest rung, which reads no item: a candidate that lies too far from its base fails before anything is scored.

Of a merge that adds weighted task vectors the distance from the base follows from its weights and the Gram matrices of
the sources. Of any other merge (ties, slerp, a path over layers, weights of `linear` that do not add up to 1, an
offset) the screen says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping

import numpy as np
import numpy.typing as npt

from alloyd.errors import AlloydError, RecipeError, SourceChanged
from alloyd.jobs import Note, Progress

from ..candidate import Candidate
from ..kinship.gram import TensorGram
from ..recipes.outline import Outline, Place
from .weighted_form import sum_of

Weights = Mapping[str, Mapping[tuple[Place, str], float]]
"""By output tensor, the weight of the task vector of each (model, tensor's name there)."""
Measuring = Generator[Progress, None, Mapping[str, TensorGram]]

AFFINE: float = 1e-6
"""How far weights of whole models may be from adding up to 1 and still count as those of task vectors."""


class Screen:
    """Says of a candidate whether it is more than ``limit`` times as far from ``base`` as the farthest source is.

    ``measure`` makes the Gram matrices; it is called at most once, when the weights of a candidate first leave room for
    doubt.
    """

    def __init__(self, limit: float, base: Place, measure: Callable[[], Measuring]) -> None:
        self.limit = limit
        self.base = base
        self._measure = measure
        self._grams: Mapping[str, TensorGram] | None = None

    def refuses(self, candidate: Candidate) -> Generator[Progress | Note, None, RecipeError | None]:
        """What is wrong with the candidate, if the screen can say.

        Raises SourceChanged where a source was written to while it was measured.
        """
        found = task_vector_weights(candidate.prepared.plan.outline)
        if found is None or reach(found, self.base) <= self.limit:
            return None
        if self._grams is None:
            yield Progress(0, 1, "items", "measuring how far the sources are from their base")
            self._grams = yield from self._measured()
        ratio = distance(found, self._grams)
        if ratio is None or ratio <= self.limit:
            return None
        return RecipeError(
            f"{candidate.name} lies {ratio:.4g} times as far from its base as the farthest source; "
            f"the screen lets through what lies at most {self.limit:g} times as far",
            hint="Narrow the bounds of the weights, or raise screen: {norm_ratio: ...} in the spec.",
            norm_ratio=ratio,
            limit=self.limit,
        )

    def _measured(self) -> Generator[Progress | Note, None, Mapping[str, TensorGram]]:
        running = self._measure()
        try:
            while True:
                said = next(running)
                yield Progress(0, 1, "items", f"measuring the sources, {said.done / max(1, said.total):.0%}")
        except StopIteration as end:
            grams: Mapping[str, TensorGram] = end.value
        except SourceChanged:
            raise
        except AlloydError as error:
            yield Note("warning", f"no candidate is screened by its distance from the base: {error}")
            return {}
        finally:
            running.close()
        yield Note(
            "info",
            f"a candidate's weights go beyond {self.limit:g}, so the distance of all sources from their base was "
            "measured in one pass over them, to screen candidates with",
        )
        return grams


def task_vector_weights(outline: Outline) -> Weights | None:
    """The weights of a merge whose every tensor adds weighted task vectors; ``None`` where one does not.

    Those of a tensor add up to 1, for the base's is among them.
    """
    found: dict[str, dict[tuple[Place, str], float]] = {}
    for each in outline.assignments:
        if len({one.model for one in each.inputs}) < len(each.inputs):
            return None
        try:
            whole = sum_of(each)
        except RecipeError:
            return None
        if whole is None or whole.offset:
            return None
        size = math.fsum(map(abs, whole.weights.values()))
        if not abs(math.fsum(whole.weights.values()) - 1.0) <= AFFINE * max(1.0, size):
            return None
        found[each.name] = {
            (outline.models[one.model].place, one.tensor): whole.weights[one.model] for one in each.inputs
        }
    return found


def reach(weights: Weights, base: Place) -> float:
    """The most that :func:`distance` can be, whatever the sources are: the triangle inequality."""
    largest: dict[Place, float] = {}
    for tensor in weights.values():
        for (model, _), weight in tensor.items():
            if model != base:
                largest[model] = max(largest.get(model, 0.0), abs(weight))
    return math.fsum(largest.values())


def distance(weights: Weights, grams: Mapping[str, TensorGram]) -> float | None:
    """|merged - base| over the largest |source - base|, over the tensors of ``grams``.

    ``None`` where the merge takes a tensor from a place that was not measured, such as another layer, or nothing was.
    """
    parts: list[float] = []
    for name, tensor in weights.items():
        gram = grams.get(name)
        if gram is None:
            continue
        row: npt.NDArray[np.float64] = np.zeros(len(gram.products))
        for source, weight in tensor.items():
            if source not in gram.sources:
                return None
            place = gram.sources[source]
            if place is not None:
                row[place] += weight
        parts.append(float(row @ gram.products @ row))
    if not parts:
        return None
    squares = zip(*(each.products.diagonal() for each in grams.values()), strict=True)
    largest = max(math.fsum(map(float, each)) for each in squares)
    return math.sqrt(max(0.0, math.fsum(parts)) / largest) if largest > 0.0 else 0.0
