"""Top-k greedy merging (arXiv:2410.12613, Model Kinship): averages of the best in pairs, and with a stranger."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt

from alloyd.errors import RecipeError, UsageError

from ..optimiser import OPTIMISERS, OptimiserKind, Option, Problem, Proposal, Told
from ..search.losses import loss_of
from ..search.spaces.soups import Shares, SoupSpace, point_of, shares_of


@dataclass(frozen=True, slots=True)
class Member:
    """A soup that was told: what each source has of it, its loss, its trial."""

    shares: Shares
    loss: float
    trial: int

    @property
    def order(self) -> tuple[float, int]:
        """Sorts the best first, the older of equals first."""
        return self.loss, self.trial


class KinshipGreedy:
    """Every source by itself, then generation after generation of averages of two.

    A generation averages each pair of the ``top`` best members and, with ``explore``, the best with the member that is
    least akin to it, of those it was not averaged with. The kinship of two members is the cosine of their task vectors,
    which follows from those of the sources. It is done when the kinship among the best, on average, is over
    ``saturation``, or when there is nothing left to average.
    """

    def __init__(self, problem: Problem) -> None:
        if problem.sources is None:
            raise UsageError("the optimiser 'kinship' searches whole models, and was given none")
        self._sources = problem.sources
        self._genome = problem.genome
        self._top = int(problem.options["top"])
        self._explore = bool(problem.options["explore"])
        self._saturation = float(problem.options["saturation"])
        count = len(self._genome)
        alone = [tuple(float(each == model) for each in range(count)) for model in range(count)]
        self._queue = deque[tuple[Shares, tuple[int, ...], str]]((each, (), "by itself") for each in alone)
        self._asked: set[Shares] = set(alone)
        self._members: dict[Shares, Member] = {}

    @property
    def batch(self) -> int:
        """A generation: the sources, then the pairs of the best and one more."""
        if self._queue:
            return len(self._queue)
        return self._top * (self._top - 1) // 2 + self._explore

    def ask(self, count: int) -> list[Proposal]:
        """The rest of the generation, or the next one; none when it is saturated."""
        self._queue = deque(each for each in self._queue if _key(each[0]) not in self._members)
        if not self._queue and len(self._members) > 1:
            self._next_generation()
        chosen = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
        return [Proposal(point_of(self._genome, shares), parents, how) for shares, parents, how in chosen]

    def tell(self, told: Sequence[Told]) -> None:
        """Every soup joins the members, whoever proposed it; failed ones do not."""
        for each in told:
            loss = loss_of(each)
            try:
                shares = shares_of(self._genome, each.point)
            except RecipeError:
                continue
            self._asked.add(_key(shares))
            if loss is not None and _key(shares) not in self._members:
                self._members[_key(shares)] = Member(shares, loss, each.trial)

    def _next_generation(self) -> None:
        ranked = sorted(self._members.values(), key=lambda each: each.order)
        best = ranked[: self._top]
        pairs = list(combinations(best, 2))
        if math.fsum(self._kinship(*pair) for pair in pairs) / len(pairs) > self._saturation:
            return
        for one, other in pairs:
            self._propose(one, other, f"pair, kinship {self._kinship(one, other):.2f}")
        if self._explore:
            strangers = sorted(ranked[1:], key=lambda each: (self._kinship(best[0], each), each.order))
            for each in strangers:
                if self._propose(best[0], each, f"exploration, kinship {self._kinship(best[0], each):.2f}"):
                    break

    def _propose(self, one: Member, other: Member, how: str) -> bool:
        shares = tuple((a + b) / 2 for a, b in zip(one.shares, other.shares, strict=True))
        if _key(shares) in self._asked:
            return False
        self._asked.add(_key(shares))
        self._queue.append((shares, tuple(sorted((one.trial, other.trial))), how))
        return True

    @cached_property
    def _gram(self) -> npt.NDArray[np.float64]:
        return np.array(self._sources.gram(), dtype=np.float64)

    def _kinship(self, one: Member, other: Member) -> float:
        """The cosine of two members' task vectors; 0 where one equals the base and has no direction."""
        a, b = np.array(one.shares), np.array(other.shares)
        size = math.sqrt(max(0.0, float(a @ self._gram @ a)) * max(0.0, float(b @ self._gram @ b)))
        return float(a @ self._gram @ b) / size if size > 0.0 else 0.0


def _key(shares: Shares) -> Shares:
    """Shares that are equal but for the last digits of their division are one soup."""
    return tuple(round(each, 12) for each in shares)


OPTIMISERS.register(
    "kinship",
    OptimiserKind(
        name="kinship",
        summary="average the best models in pairs, and the best with the one least akin to it",
        reference="arXiv:2410.12613",
        make=KinshipGreedy,
        why="there are many models of one base",
        suits=lambda genome, objectives: 0.0,
        options={
            "top": Option(default=3, low=2, high=64, about="members of which each pair is averaged"),
            "explore": Option(default=True, about="whether the best is averaged with its least kin too"),
            "saturation": Option(
                default=0.9, low=-1.0, high=1.0, about="mean kinship among the best above which it is done"
            ),
        },
        space=lambda sources: SoupSpace(sources.models, sources.common),
    ),
)
