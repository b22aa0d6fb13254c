"""Folds the scales of a path into weights, so that a scaled path is a plain checkpoint.

Let the stream be multiplied by s_j before hop j, and let S_j be the product of s_1 to s_j. With x = S_j y at hop j the
scales between hops vanish, and x' = x + f(norm(x)) becomes y' = y + f(sign(S_j) norm(y)) / S_j, since a norm forgets
how long its input is but not its sign (exactly so at eps = 0). The gains of the norms that read the stream take the
sign, what a branch adds is divided by S_j (the signed one: the branch gave f of the flipped input, and its result
counts in units of S_j), and the final norm takes the sign of the last S.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from ..architecture import Fold

LEAST: Final = 0.05
"""The least magnitude of a scale: what a branch adds is divided by the product of all before it."""
MOST: Final = 1e6
"""The most that scales may multiply to, and the inverse of the least: 16-bit weights cannot hold more."""


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of each tensor W whose name contains ``piece``: factor * W + offset."""

    piece: str
    factor: float
    offset: float = 0.0


def changes_of(fold: Fold, total: float, *, last: bool) -> tuple[Change, ...]:
    """What becomes of the tensors of a hop that sees the stream ``total`` times as large, and of the final norm."""
    if total == 1.0:
        return ()
    changes = [Change(piece, 1.0 / total) for piece in fold.adds]
    changes += [_gain(fold, piece, 1.0 / total) for piece in fold.post_norms]
    changes += [Change(piece, total) for piece in fold.reads]
    if total < 0:
        changes += [_gain(fold, piece, -1.0) for piece in (*fold.norms, *((fold.final,) if last else ()))]
    return tuple(changes)


def _gain(fold: Fold, piece: str, factor: float) -> Change:
    """``factor`` times a gain of which c is not stored: factor * (c + w) - c = factor * w + c * (factor - 1)."""
    return Change(piece, factor, fold.gain_offset * (factor - 1.0))


def change_of(name: str, changes: Iterable[Change]) -> Change | None:
    """The change of the tensor ``name``, if there is one."""
    return next((each for each in changes if each.piece in name), None)


def is_whole(fold: Fold, rests: Iterable[str]) -> bool:
    """Whether the names in a layer are those that the fold knows: two branches that add, and what reads for them."""
    names = tuple(rests)

    def found(pieces: Iterable[str]) -> int:
        return sum(any(piece in name for name in names) for piece in pieces)

    return found(fold.adds + fold.post_norms) >= 2 and found(fold.norms + fold.reads) >= 1


def totals(scales: Iterable[float]) -> tuple[float, ...]:
    """S_j for each hop; a product that rounding leaves a hair off 1 is 1, so that nothing is changed for it."""
    found: list[float] = []
    total = 1.0
    for scale in scales:
        total *= scale
        for unit in (1.0, -1.0):
            if math.isclose(total, unit, rel_tol=1e-12):
                total = unit
        found.append(total)
    return tuple(found)


def as_settings(changes: Iterable[Change], names: Iterable[str]) -> dict[str, Any]:
    """``changes`` as parameters of ``passthrough``, without those that concern none of ``names``."""
    listed = tuple(names)
    scale: list[dict[str, Any]] = []
    offset: list[dict[str, Any]] = []
    for each in changes:
        if any(each.piece in name for name in listed):
            scale.append({"filter": each.piece, "value": each.factor})
            if each.offset:
                offset.append({"filter": each.piece, "value": each.offset})
    return {key: values for key, values in (("scale", scale), ("offset", offset)) if values}
