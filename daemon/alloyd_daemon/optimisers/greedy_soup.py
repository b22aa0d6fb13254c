"""Greedy soup: models join an average one by one, the best first, each kept if the score does not drop."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from alloyd.errors import RecipeError

from ..optimiser import OPTIMISERS, OptimiserKind, Option, Problem, Proposal, Told
from ..search.losses import loss_of
from ..search.spaces.soups import SoupSpace, point_of, shares_of

Soup = frozenset[int]

LOOK_AHEAD: Final = 256
"""Ways in which soups that are not told yet may turn out, as far as they are thought through."""


class GreedySoup:
    """Recipe 2 of arXiv:2203.05482, as a walk over what is known: every model alone, then one soup after the other.

    Asked again before a soup is told, it proposes what would follow if that soup were kept, and if not; ``ahead`` soups
    are always proposed so.
    """

    def __init__(self, problem: Problem) -> None:
        self._genome = problem.genome
        self._ahead = int(problem.options["ahead"])
        self._losses: dict[Soup, float] = {}
        self._trials: dict[Soup, int] = {}
        self._asked: set[Soup] = set()

    @property
    def batch(self) -> int:
        """All models at first, then as many soups as are thought ahead."""
        return max(self._ahead, self._singles)

    def ask(self, count: int) -> list[Proposal]:
        """The next soups; none once every model was tried."""
        if not self._singles and self._asked <= self._losses.keys():
            count = min(count, self._ahead)
        proposals: list[Proposal] = []
        for soup, parents in self._wanted():
            if len(proposals) == count:
                break
            if soup not in self._asked:
                self._asked.add(soup)
                shares = [float(model in soup) for model in range(len(self._genome))]
                told = tuple(sorted(self._trials[each] for each in parents if each in self._trials))
                how = "by itself" if len(soup) == 1 else f"soup of {len(soup)}"
                proposals.append(Proposal(point_of(self._genome, shares), parents=told, how=how))
        return proposals

    def tell(self, told: Sequence[Told]) -> None:
        """Soups of equal weights are taken in, whoever proposed them."""
        for each in told:
            try:
                shares = shares_of(self._genome, each.point)
            except RecipeError:
                continue
            soup = frozenset(model for model, share in enumerate(shares) if share)
            if any(not math.isclose(shares[model], 1 / len(soup)) for model in soup):
                continue
            loss = loss_of(each)
            if soup not in self._losses or loss is not None:
                self._losses[soup] = math.inf if loss is None else loss
                self._trials[soup] = each.trial

    @property
    def _singles(self) -> int:
        """Models that were not told yet."""
        return sum(frozenset({model}) not in self._losses for model in range(len(self._genome)))

    def _wanted(self) -> Iterator[tuple[Soup, tuple[Soup, ...]]]:
        """Soups whose loss decides how it goes on, with what each is made of; those that surely count come first."""
        singles = [frozenset({model}) for model in range(len(self._genome))]
        unknown = [each for each in singles if each not in self._losses]
        if unknown:
            yield from ((each, ()) for each in unknown)
            return
        order = sorted(
            (each for each in singles if math.isfinite(self._losses[each])),
            key=lambda each: (self._losses[each], min(each)),
        )
        if not order:
            return
        ways = deque([(order[0], 1)])
        for _ in range(LOOK_AHEAD):
            if not ways:
                return
            soup, place = ways.popleft()
            if place == len(order):
                continue
            larger = soup | order[place]
            if larger not in self._losses:
                yield larger, (soup, order[place])
            if larger in self._losses and soup in self._losses:
                kept = self._losses[larger] <= self._losses[soup]
                ways.append((larger if kept else soup, place + 1))
            else:
                ways += [(soup, place + 1), (larger, place + 1)]


OPTIMISERS.register(
    "greedy-soup",
    OptimiserKind(
        name="greedy-soup",
        summary="average the best model with the next best ones, as long as the score does not drop",
        reference="arXiv:2203.05482",
        make=GreedySoup,
        why="there are many models and few candidates to spend",
        suits=lambda genome, objectives: 0.0,
        options={
            "ahead": Option(
                default=1, low=1, high=64, about="soups scored at a time; more than 1 scores some in vain"
            )
        },
        space=lambda sources: SoupSpace(sources.models, sources.common),
    ),
)
