"""Stages: what a merge method can measure over a tensor's sources before it blends.

A stage is a frozen value that says exactly what the result depends on. ``begin`` makes a sweep: every block
of the tensor is passed once to ``measure`` by whichever worker is free, then ``resolve`` gives the result,
which does not depend on the order, the size or the worker of the blocks.

Results that are small and may be wanted again are asked for by a ``Recall``: the engine answers from what earlier
merges found, and has only the rest measured.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ..engine.block import Block, Scratch


class Sweep(Protocol):
    """One pass over all blocks of a tensor."""

    def measure(self, block: Block, worker: int, scratch: Scratch) -> None:
        """Add one block; called from several threads at once, each with its own ``worker`` number and scratch."""

    def resolve(self) -> Any:
        """The result, once every block was measured."""


class Stage(Protocol):
    """A measurement: its parameters, and how to begin a sweep."""

    def begin(self, elements: int, workers: int) -> Sweep:
        """A sweep over a tensor of ``elements`` elements by up to ``workers`` threads."""


Numbers = tuple[int | float, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """A few numbers about a tensor's sources, named by all that they depend on.

    ``sources`` are places in the recipe, in the order in which they are used; a place itself must not matter, only
    the tensor that is there. ``size`` is how many numbers there are.
    """

    kind: str
    sources: tuple[int, ...]
    parameters: Numbers
    size: int


@dataclass(frozen=True, slots=True)
class Recall:
    """Findings that are wanted; resolves to the numbers of each.

    ``measure`` is given the places in ``findings`` of those that are not known, and finds their numbers by stages.
    """

    findings: tuple[Finding, ...]
    measure: Callable[[tuple[int, ...]], Generator[Stage, Any, Sequence[Numbers]]]


T = TypeVar("T")
Steps = Generator[Stage | Recall, Any, T]
"""Yields what is to be measured, is sent the result of each, returns a ``T``."""
