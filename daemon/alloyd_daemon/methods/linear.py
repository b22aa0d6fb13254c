"""linear: weighted average of all sources (model soups, arXiv:2203.05482)."""

from __future__ import annotations

import numpy as np

from ..engine.blends import Blend, WeightedSum
from ..merge_method import METHODS, MergeMethod, Operands, Parameter
from ..stages import Steps


def average(operands: Operands) -> Steps[Blend]:
    """sum_i w_i W_i / sum_i w_i + offset, or without the division when ``normalize`` is false."""
    weights = [float(each["weight"]) for each in operands.inputs]  # type: ignore[arg-type]
    divisor = np.float32(1.0)
    if operands.shared["normalize"]:
        divisor = np.float32(sum((np.float32(each) for each in weights), np.float32(0.0)))
    offset = float(operands.shared.get("offset") or 0.0)
    return WeightedSum(range(operands.count), weights, float(divisor), offset)
    yield


METHODS.register(
    "linear",
    MergeMethod(
        name="linear",
        summary="weighted average of all sources",
        reference="arXiv:2203.05482",
        parameters=(
            Parameter(name="weight", kind=float, scope="input", about="share of this source"),
            Parameter(
                name="normalize",
                kind=bool,
                scope="shared",
                default=True,
                about="divide by the sum of weights",
            ),
            Parameter(
                name="offset",
                kind=float,
                scope="shared",
                default=0.0,
                about="number added to every element at last; mergekit has no such parameter",
            ),
        ),
        base="ignored",
        program=average,
        passes=lambda operands: 1,
    ),
)
