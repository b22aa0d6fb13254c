"""Genes: what a search may vary, each with its range; a point gives every gene a value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Value = bool | int | float | str
Point = Mapping[str, Value]
"""A value for every gene of a genome, by the gene's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gene:
    """One thing that varies.

    ``real`` and ``integer`` genes lie in [low, high], both included; ``category`` genes are one of ``choices``; a
    ``text`` is written by an optimiser that knows what it means, and has no place in a unit cube.
    ``log``: steps are ratios. ``sign``: ``low`` and ``high`` bound the magnitude, either sign is allowed (and with
    ``log`` values nearer to 0 than ``low`` do not exist). ``start`` is where a search begins: the middle, if ``None``.

    Raises
    ------
    ValueError
        Bounds in the wrong order or not finite, ``log`` or ``sign`` with bounds that they cannot have, no choices.
    """

    name: str
    kind: Literal["real", "integer", "category", "text"] = "real"
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    sign: bool = False
    choices: tuple[Value, ...] = ()
    start: Value | None = None

    def __post_init__(self) -> None:
        if self.kind == "text":
            return
        if self.kind == "category":
            if len(set(map(repr, self.choices))) != len(self.choices) or not self.choices:
                raise ValueError(f"{self.name}: a category needs choices, each once")
            if self.start is not None and self.start not in self.choices:
                raise ValueError(f"{self.name}: the start {self.start!r} is none of the choices")
            return
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{self.name}: low must be below high, and both finite")
        if (self.log and self.low <= 0) or (self.sign and self.low < 0):
            raise ValueError(f"{self.name}: with log the bounds are above 0, with sign at least 0")
        if self.kind == "integer" and (self.log or self.sign or self.low % 1 or self.high % 1):
            raise ValueError(f"{self.name}: an integer has whole bounds, no log and no sign")
        if self.start is not None and not self.holds(self.start):
            raise ValueError(f"{self.name}: the start {self.start!r} is outside its range")

    @property
    def size(self) -> float:
        """How many values there are: a float, so that the product of many genes' is infinite and not too large."""
        if self.kind == "category":
            return float(len(self.choices))
        return float(self.high - self.low + 1) if self.kind == "integer" else math.inf

    @property
    def first(self) -> Value:
        """Where a search begins."""
        if self.start is not None:
            return self.start
        if self.kind == "text":
            return ""
        return self.choices[0] if self.kind == "category" else self.of_unit(0.75 if self.sign else 0.5)

    def holds(self, value: object) -> bool:
        """Whether ``value`` is one that the gene can have."""
        if self.kind == "text":
            return isinstance(value, str)
        if self.kind == "category":
            return any(value == each and type(value) is type(each) for each in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if self.kind == "integer" and value % 1:
            return False
        return self.low <= (abs(value) if self.sign else value) <= self.high

    def of_unit(self, unit: float) -> Value:
        """The value at ``unit`` of the way through the gene's range; what lies outside [0, 1] is at its end."""
        unit = min(1.0, max(0.0, unit))
        if self.kind == "category":
            return self.choices[min(int(unit * len(self.choices)), len(self.choices) - 1)]
        if self.kind == "integer":
            return int(min(self.low + math.floor(unit * (self.high - self.low + 1)), self.high))
        if not self.sign:
            return self._between(unit)
        return -self._between(1 - 2 * unit) if unit < 0.5 else self._between(2 * unit - 1)

    def unit_of(self, value: Value) -> float:
        """The inverse of :meth:`of_unit`: the middle of what leads to ``value``."""
        if self.kind == "category":
            return (self.choices.index(value) + 0.5) / len(self.choices)
        number = float(value)
        if self.kind == "integer":
            return (number - self.low + 0.5) / (self.high - self.low + 1)
        if not self.sign:
            return self._part(number)
        return 0.5 - 0.5 * self._part(-number) if number < 0 else 0.5 + 0.5 * self._part(number)

    def _between(self, part: float) -> float:
        if self.log:
            value = math.exp(math.log(self.low) + part * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + part * (self.high - self.low)
        return min(self.high, max(self.low, value))

    def _part(self, magnitude: float) -> float:
        if self.log:
            return (math.log(magnitude) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (magnitude - self.low) / (self.high - self.low)


Genome = tuple[Gene, ...]


def first_point(genome: Sequence[Gene]) -> dict[str, Value]:
    """The point where a search begins."""
    return {gene.name: gene.first for gene in genome}


def of_units(genome: Sequence[Gene], units: Sequence[float]) -> dict[str, Value]:
    """The point at ``units`` in the unit cube, one a gene in their order."""
    return {gene.name: gene.of_unit(float(unit)) for gene, unit in zip(genome, units, strict=True)}


def units_of(genome: Sequence[Gene], point: Point) -> list[float]:
    """Where ``point`` is in the unit cube."""
    return [gene.unit_of(point[gene.name]) for gene in genome]


def check(genome: Sequence[Gene], point: Point) -> None:
    """Raise ValueError unless ``point`` gives every gene, and nothing else, a value that it can have."""
    if set(point) != {gene.name for gene in genome}:
        raise ValueError(
            f"a point of {sorted(point)} does not fit the genes {[each.name for each in genome]}"
        )
    for gene in genome:
        if not gene.holds(point[gene.name]):
            raise ValueError(f"{gene.name} cannot be {point[gene.name]!r}")
