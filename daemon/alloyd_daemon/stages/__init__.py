"""Stages: what a merge method can measure over a tensor's sources before it blends.

A stage is a frozen value that says exactly what the result depends on. ``begin`` makes a sweep: every block
of the tensor is passed once to ``measure`` by whichever worker is free, then ``resolve`` gives the result,
which does not depend on the order, the size or the worker of the blocks.
"""

from __future__ import annotations

from typing import Any, Protocol

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
