"""evolver: the descendant of several models, by crossing weights over step by step (arXiv:2406.12208)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alloyd_kernels.descent.cpu import descend_tiles

from ..engine.blends import Blend, Copy
from ..engine.block import Block, Scratch
from ..engine.sparsifier import Sparsifier, SparsifierArrays
from ..merge_method import METHODS, MergeMethod, Operands, Parameter
from ..recipes.descent import Descent, Member, read
from ..stages import Steps

COMMON_ROWS = 4
"""Rows of scratch that every blend has beside one for each source."""


class Descended:
    """Writes what the last step of a descent makes of the sources; masks are drawn by (seed, tensor name)."""

    copies: int | None = None

    def __init__(self, descent: Descent, tensor: str) -> None:
        self.pick: npt.NDArray[np.intp] = np.array(descent.models, dtype=np.intp)
        self.steps = np.array(rows_of(descent), dtype=np.int64)
        self.factors = np.array([each.factor for each in descent.steps], dtype=np.float32)
        self.masks = SparsifierArrays.of(
            [Sparsifier.draw(each.rate, seed=each.seed, tensor=tensor, position=0) for each in descent.steps]
        )

    def write(self, block: Block, scratch: Scratch) -> int:
        return int(
            descend_tiles(
                block.addresses[self.pick],
                block.codes[self.pick],
                block.count,
                block.first,
                self.steps,
                self.factors,
                self.masks.kinds,
                self.masks.thresholds,
                self.masks.keys,
                block.out,
                block.out_code,
                scratch.rows,
                scratch.draws,
            )
        )


def rows_of(descent: Descent) -> list[tuple[int, int, int, int, int]]:
    """For each step the rows of parent, start, toward, away and child: a row is used again once nobody needs it."""
    loaded = {number: row for row, number in enumerate(descent.models)}
    last_use = {len(descent.steps) - 1: len(descent.steps)}
    for number, step in enumerate(descent.steps):
        last_use |= {member: number for model, member in step.members if not model}
    held: dict[int, int] = {}
    free: list[int] = []
    rows = len(loaded)
    found: list[tuple[int, int, int, int, int]] = []

    def row(member: Member) -> int:
        model, number = member
        return loaded[number] if model else held[number]

    for number, step in enumerate(descent.steps):
        if free:
            child = free.pop()
        else:
            child, rows = rows, rows + 1
        parent, start, toward, away = map(row, step.members)
        found.append((parent, start, toward, away, child))
        held[number] = child
        free += [held.pop(each) for each in list(held) if last_use[each] == number]
    return found


def descend(operands: Operands) -> Steps[Blend]:
    """The result of the parameter ``descent``."""
    descent = _descent(operands)
    return Descended(descent, operands.name) if descent.steps else Copy(descent.alone)
    yield


def _descent(operands: Operands) -> Descent:
    return read(str(operands.shared["descent"]), operands.count)


def _passes(operands: Operands) -> int:
    _descent(operands)
    return 1


def _rows(operands: Operands) -> int:
    rows = rows_of(_descent(operands))
    most = max((child for *_, child in rows), default=-1) + 1
    return max(0, most - operands.count - COMMON_ROWS)


METHODS.register(
    "evolver",
    MergeMethod(
        name="evolver",
        summary="the descendant of several models by crossing weights over, step by step",
        reference="arXiv:2406.12208",
        parameters=(
            Parameter(
                name="descent",
                kind=str,
                scope="shared",
                about="the steps, such as m1<m2*0.5@0.9#17; an evolver search writes them",
                example="m1<m2*0.5@0.9#17",
            ),
        ),
        base="ignored",
        program=descend,
        passes=_passes,
        rows=_rows,
        complete=True,
    ),
)
