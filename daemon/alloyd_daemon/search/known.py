"""Which points of a genome an optimiser has met: twins are seen, and so is a space that is used up."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from .genome import Gene, Genome, Point, Value

T = TypeVar("T")

Key = tuple[str, ...]

TRIES = 20


def varying(genome: Sequence[Gene]) -> Genome:
    """The genes that can have more than one value, without texts: those that have a place in a unit cube."""
    return tuple(gene for gene in genome if gene.size > 1 and gene.kind != "text")


def key_of(genome: Sequence[Gene], point: Point) -> Key:
    """What is equal for equal points, whatever type a number came back with from a store."""
    numbers = {"real": float, "integer": int}
    return tuple(repr(numbers.get(gene.kind, _same)(point[gene.name])) for gene in genome)


class Known(Generic[T]):
    """The points that were proposed, each with what its optimiser wants to remember of it, and those that were told."""

    def __init__(self, genome: Genome) -> None:
        self.genome = genome
        self.size = math.prod(gene.size for gene in genome)
        self._met: set[Key] = set()
        self._waiting: dict[Key, deque[T]] = {}

    def __contains__(self, point: Point) -> bool:
        return key_of(self.genome, point) in self._met

    def __len__(self) -> int:
        """How many different points were met."""
        return len(self._met)

    @property
    def used_up(self) -> bool:
        """Whether every point of the space was met."""
        return len(self._met) >= self.size

    @property
    def waiting(self) -> list[T]:
        """What is remembered of the points that were proposed and not yet told."""
        return [each for queue in self._waiting.values() for each in queue]

    def propose(self, point: Point, memory: T) -> None:
        """Remember ``memory`` until ``point`` is told; of twins the one that was proposed first is told first."""
        key = key_of(self.genome, point)
        self._met.add(key)
        self._waiting.setdefault(key, deque()).append(memory)

    def settle(self, point: Point) -> T | None:
        """What was remembered of ``point``, now told; ``None`` for one that was never proposed."""
        key = key_of(self.genome, point)
        self._met.add(key)
        queue = self._waiting.get(key)
        if not queue:
            return None
        memory = queue.popleft()
        if not queue:
            del self._waiting[key]
        return memory

    def fresh(self, draw: Callable[[], dict[str, Value]]) -> dict[str, Value]:
        """A point from ``draw`` that was not met, if there is one.

        Where drawing again and again meets known points only, the next one of the space after the last drawn is taken,
        counting through the values of the genes; a space that cannot be counted gives what was drawn.
        """
        point = draw()
        for _ in range(TRIES):
            if point not in self:
                return point
            point = draw()
        if self.used_up or math.isinf(self.size):
            return point
        places = [_place(gene, point[gene.name]) for gene in self.genome]
        while point in self:
            for number in reversed(range(len(places))):
                places[number] = (places[number] + 1) % int(self.genome[number].size)
                if places[number]:
                    break
            point = {gene.name: _value(gene, at) for gene, at in zip(self.genome, places, strict=True)}
        return point


def _same(value: Value) -> Value:
    return value


def _place(gene: Gene, value: Value) -> int:
    return gene.choices.index(value) if gene.kind == "category" else int(float(value) - gene.low)


def _value(gene: Gene, place: int) -> Value:
    return gene.choices[place] if gene.kind == "category" else int(gene.low) + place
