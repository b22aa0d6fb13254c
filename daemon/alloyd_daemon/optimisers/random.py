"""Random search: every point drawn by itself, what came before forgotten but for twins."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..optimiser import OPTIMISERS, OptimiserKind, Problem, Proposal, Told
from ..search.genome import Genome, of_units
from ..search.known import Known


class RandomSearch:
    """Points drawn uniformly over the ranges of the genes; a finite space is gone through once."""

    def __init__(self, problem: Problem) -> None:
        self._genome = problem.genome
        self._batch = max(1, problem.batch)
        self._dice = random.Random(problem.seed)
        self._known: Known[None] = Known(problem.genome)

    @property
    def batch(self) -> int:
        """As many as are scored at a time."""
        return self._batch

    def ask(self, count: int) -> list[Proposal]:
        """``count`` new points, fewer where the space ends."""
        proposals: list[Proposal] = []
        while len(proposals) < count and not self._known.used_up:
            point = self._known.fresh(
                lambda: of_units(self._genome, [self._dice.random() for _ in self._genome])
            )
            self._known.propose(point, None)
            proposals.append(Proposal(point, how="random"))
        return proposals

    def tell(self, told: Sequence[Told]) -> None:
        """What was told is not proposed again."""
        for each in told:
            self._known.settle(each.point)


def _suits(genome: Genome, objectives: int) -> float:
    return 0.0 if any(gene.kind == "text" for gene in genome) else 0.1


OPTIMISERS.register(
    "random",
    OptimiserKind(
        name="random",
        summary="points drawn uniformly: what every other optimiser has to beat",
        reference="https://jmlr.org/papers/v13/bergstra12a.html",
        make=RandomSearch,
        why="nothing else knows this space",
        suits=_suits,
        several=True,
    ),
)
