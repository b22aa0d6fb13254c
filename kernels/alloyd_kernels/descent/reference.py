"""Descents in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def descend(
    models: Sequence[Numbers], steps: Sequence[tuple[int, int, int, int, float, npt.NDArray[np.bool_]]]
) -> Numbers:
    """What the last of ``steps`` makes; float64 [n] each.

    A step is (parent, start, toward, away, factor, mask [n]): start + factor * (toward - away) where the mask is true,
    the parent elsewhere. Members are numbered through: the models, then what each step made.
    """
    members = list(models)
    for parent, start, toward, away, factor, mask in steps:
        moved = members[start] + factor * (members[toward] - members[away])
        members.append(np.where(mask, moved, members[parent]))
    return members[-1]
