"""Steps of one layer each, written as the slices of a recipe; neighbours that continue each other become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from alloyd.recipe import ModelRef

from .naming import reference

Plain = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StepSource:
    """Layers ``first`` to ``last`` of a model, with the parameters written beside it."""

    model: ModelRef
    first: int
    last: int
    parameters: Plain = field(default_factory=dict)

    def continues(self, before: StepSource) -> bool:
        """Whether this is what comes next in the same model, under the same parameters."""
        return (self.model, self.first, self.parameters) == (before.model, before.last + 1, before.parameters)

    def plain(self) -> dict[str, Any]:
        source: dict[str, Any] = {"model": reference(self.model), "layer_range": [self.first, self.last + 1]}
        return source | ({"parameters": dict(self.parameters)} if self.parameters else {})


@dataclass(frozen=True, slots=True)
class Step:
    """Output layers that are merged from equally many of each source."""

    sources: tuple[StepSource, ...]
    parameters: Plain = field(default_factory=dict)

    def continues(self, before: Step) -> bool:
        """Whether this step and the one ``before`` it are one slice."""
        return (
            self.parameters == before.parameters
            and len(self.sources) == len(before.sources)
            and all(mine.continues(its) for mine, its in zip(self.sources, before.sources, strict=True))
        )

    def plain(self) -> dict[str, Any]:
        found: dict[str, Any] = {"sources": [each.plain() for each in self.sources]}
        return found | ({"parameters": dict(self.parameters)} if self.parameters else {})


def as_slices(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """The slices of a recipe, as plain data."""
    found: list[Step] = []
    for step in steps:
        if found and step.continues(found[-1]):
            before = found.pop()
            pairs = zip(before.sources, step.sources, strict=True)
            step = replace(step, sources=tuple(replace(old, last=new.last) for old, new in pairs))
        found.append(step)
    return [each.plain() for each in found]
