"""slerp: spherical interpolation between two sources (Shoemake 1985; https://en.wikipedia.org/wiki/Slerp)."""

from __future__ import annotations

import math

from ..engine.blends import Blend, WeightedSum
from ..merge_method import METHODS, MergeMethod, Operands, Parameter
from ..stages import Steps
from ..stages.gram import gram_bytes, inner_products

NEARLY_PARALLEL = 0.9995
TINY_NORM = 1e-8


def interpolate(operands: Operands) -> Steps[Blend]:
    """sin((1-t) a)/sin(a) W_0 + sin(t a)/sin(a) W_1 with a the angle between the whole tensors; t = 0 is the base.

    Nearly parallel or antiparallel tensors are interpolated linearly, as mergekit does.
    """
    base = 0 if operands.base is None else operands.base
    (other,) = (each for each in range(operands.count) if each != base)
    t = float(operands.shared["t"])  # type: ignore[arg-type]
    gram = yield from inner_products((base, other))
    left, right = math.sqrt(gram[0, 0]), math.sqrt(gram[1, 1])
    cosine = gram[0, 1] / ((left if left > TINY_NORM else 1.0) * (right if right > TINY_NORM else 1.0))
    cosine = min(max(float(cosine), -1.0), 1.0)
    if not abs(cosine) <= NEARLY_PARALLEL:
        return WeightedSum((base, other), (1.0 - t, t))
    angle = math.acos(cosine)
    return WeightedSum(
        (base, other), (math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle))
    )


METHODS.register(
    "slerp",
    MergeMethod(
        name="slerp",
        summary="spherical interpolation between two sources",
        reference="https://en.wikipedia.org/wiki/Slerp",
        parameters=(
            Parameter(name="t", kind=float, scope="shared", about="0 is the base, 1 the other source"),
        ),
        base="required",
        program=interpolate,
        passes=lambda operands: 2,
        state_bytes=gram_bytes,
        least=1,
        most=1,
        singleton=True,
    ),
)
