"""passthrough: one source as it is, or scaled and shifted; the method of frankenmerges and of folded paths."""

from __future__ import annotations

from ..engine.blends import Blend, Copy, WeightedSum
from ..merge_method import METHODS, MergeMethod, Operands, Parameter
from ..stages import Steps


def carry(operands: Operands) -> Steps[Blend]:
    """W, or scale * W + offset, rounded once."""
    scale, offset = operands.inputs[0].get("scale"), operands.inputs[0].get("offset")
    if scale is None and offset is None:
        return Copy(0)
    return WeightedSum((0,), (1.0 if scale is None else float(scale),), offset=float(offset or 0.0))
    yield


METHODS.register(
    "passthrough",
    MergeMethod(
        name="passthrough",
        summary="one source, unchanged, or scaled and shifted",
        reference="https://github.com/arcee-ai/mergekit",
        parameters=(
            Parameter(
                name="scale",
                kind=float,
                scope="input",
                default=None,
                about="factor on the tensor; absent copies it",
            ),
            Parameter(
                name="offset",
                kind=float,
                scope="input",
                default=None,
                about="number added to every element, after the factor; mergekit has no such parameter",
            ),
        ),
        base="ignored",
        program=carry,
        passes=lambda operands: 1,
        least=1,
        most=1,
        singleton=True,
    ),
)
