"""Methods that add a combination of task vectors to the base: rows of one table of sparsifier, consensus and defaults.

task_arithmetic (arXiv:2212.04089), ties (arXiv:2306.01708), dare_linear and dare_ties (arXiv:2311.03099).
``rescale`` is mergekit's: what is kept is scaled so that its L1 norm is that of the whole task vector.
"""

from __future__ import annotations

import math
from typing import Literal

from ..engine.blends import Blend, Copy, TaskVectorSum
from ..engine.sparsifier import Sparsifier
from ..merge_method import METHODS, MergeMethod, Operands, Parameter, Program
from ..stages import Steps
from ..stages.delta_norms import l1_norms, norm_bytes
from ..stages.magnitudes import magnitude_bytes, magnitude_cuts, magnitude_passes

Sparsify = Literal["nothing", "magnitude", "random"]

TINY_NORM = 1e-7


def combination(sparsify: Sparsify, *, consensus: bool) -> Program:
    """The program of one row of the table."""

    def combine(operands: Operands) -> Steps[Blend]:
        base = operands.base
        if base is None:
            raise ValueError("a task-vector method needs a base")
        positions = operands.positions
        if not positions:
            return Copy(base)
        densities = [float(each) for each in operands.column("density")]
        kept = yield from _sparsify(operands, base, densities, sparsify)
        scales = [1.0] * len(positions)
        if operands.shared["rescale"] and any(each != Sparsifier.keep() for each in kept):
            norms = yield from l1_norms(base, positions, kept)
            scales = [_ratio(whole, part) for whole, part in norms]
        return TaskVectorSum(
            base,
            positions,
            kept,
            scales=scales,
            weights=[float(each) for each in operands.column("weight")],
            consensus=consensus,
            normalize=bool(operands.shared["normalize"]),
            factor=float(operands.shared["lambda"]),  # type: ignore[arg-type]
        )

    return combine


def _sparsify(
    operands: Operands, base: int, densities: list[float], sparsify: Sparsify
) -> Steps[tuple[Sparsifier, ...]]:
    kept = {position: Sparsifier.keep() for position in operands.positions}
    if sparsify == "nothing":
        return tuple(kept.values())
    elements = math.prod(operands.shape)
    exact: dict[int, int] = {}
    for position, density in zip(operands.positions, densities, strict=True):
        if density >= 1.0:
            continue
        if sparsify == "random":
            kept[position] = Sparsifier.draw(
                density, seed=operands.seed, tensor=operands.name, position=position
            )
        elif density <= 0.0:
            kept[position] = Sparsifier.drop()
        elif max(1, int(density * elements)) < elements:
            exact[position] = max(1, int(density * elements))
    if exact:
        cuts = yield from magnitude_cuts(base, exact, elements)
        for position, cut in cuts.items():
            kept[position] = Sparsifier.cut(cut.threshold, cut.leaf, cut.quota)
    return tuple(kept.values())


def _ratio(whole: float, part: float) -> float:
    return 1.0 if whole < TINY_NORM or part < TINY_NORM else float(whole / part)


def _passes(sparsify: Sparsify, operands: Operands) -> int:
    """Sweeps over the sources: sample and bracket of the cuts, norms for the rescale, the blend."""
    densities = [float(each) for each in operands.column("density")]
    sparse = sparsify != "nothing" and any(each < 1.0 for each in densities)
    cut = sparsify == "magnitude" and any(0.0 < each < 1.0 for each in densities)
    cuts = magnitude_passes(math.prod(operands.shape)) if cut else 0
    return cuts + (1 if sparse and operands.shared["rescale"] else 0) + 1


def _state_bytes(sparsify: Sparsify, sources: int, leaves: int, workers: int) -> int:
    cuts = magnitude_bytes(sources, leaves, workers) if sparsify == "magnitude" else 0
    return max(cuts, norm_bytes(sources, leaves, workers))


def _register(
    name: str,
    sparsify: Sparsify,
    *,
    consensus: bool,
    normalize: bool,
    rescale: bool,
    reference: str,
    summary: str,
) -> None:
    METHODS.register(
        name,
        MergeMethod(
            name=name,
            summary=summary,
            reference=reference,
            parameters=(
                Parameter(name="weight", kind=float, scope="non_base", about="factor on this task vector"),
                Parameter(
                    name="density",
                    kind=float,
                    scope="non_base",
                    default=1.0,
                    low=0.0,
                    high=1.0,
                    about="fraction that is kept",
                    idle=sparsify == "nothing",
                ),
                Parameter(
                    name="normalize",
                    kind=bool,
                    scope="shared",
                    default=normalize,
                    about="divide by the weights that took part",
                ),
                Parameter(
                    name="rescale",
                    kind=bool,
                    scope="shared",
                    default=rescale,
                    about="restore the L1 norm after sparsifying",
                    idle=sparsify == "nothing",
                ),
                Parameter(
                    name="lambda", kind=float, scope="shared", default=1.0, about="factor on the combination"
                ),
                Parameter(
                    name="int8_mask",
                    kind=bool,
                    scope="shared",
                    default=False,
                    about="accepted for mergekit's sake; changes nothing",
                    idle=True,
                ),
            ),
            base="required",
            program=combination(sparsify, consensus=consensus),
            passes=lambda operands: _passes(sparsify, operands),
            state_bytes=lambda *sizes: _state_bytes(sparsify, *sizes),
            least=0,
        ),
    )


_register(
    "task_arithmetic",
    "nothing",
    consensus=False,
    normalize=False,
    rescale=False,
    reference="arXiv:2212.04089",
    summary="base plus weighted task vectors",
)
_register(
    "ties",
    "magnitude",
    consensus=True,
    normalize=True,
    rescale=False,
    reference="arXiv:2306.01708",
    summary="trim to the largest, elect a sign, average those that agree",
)
_register(
    "dare_linear",
    "random",
    consensus=False,
    normalize=False,
    rescale=True,
    reference="arXiv:2311.03099",
    summary="drop at random, rescale, add",
)
_register(
    "dare_ties",
    "random",
    consensus=True,
    normalize=False,
    rescale=True,
    reference="arXiv:2311.03099",
    summary="drop at random, rescale, elect a sign, add those that agree",
)
