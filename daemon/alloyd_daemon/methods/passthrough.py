"""passthrough: one source as it is, or scaled; the method of frankenmerges."""

from __future__ import annotations

from ..engine.blends import Blend, Copy, WeightedSum
from ..merge_method import METHODS, MergeMethod, Operands, Parameter
from ..stages import Steps


def carry(operands: Operands) -> Steps[Blend]:
    """W, or scale * W."""
    scale = operands.inputs[0].get("scale")
    return Copy(0) if scale is None else WeightedSum((0,), (float(scale),))
    yield


METHODS.register(
    "passthrough",
    MergeMethod(
        name="passthrough",
        summary="one source, unchanged or scaled",
        reference="https://github.com/arcee-ai/mergekit",
        parameters=(
            Parameter(
                name="scale",
                kind=float,
                scope="input",
                default=None,
                about="factor on the tensor; absent copies it",
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
