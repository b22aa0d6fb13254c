"""The ladder alone: who is behind when candidates race side by side."""

from __future__ import annotations

import search_driver
from alloyd.search_schema import Objective, Rung
from alloyd_daemon.evaluator import ItemScore
from alloyd_daemon.search.ladder import Ladder
from alloyd_daemon.search.objective import goal_of

ITEMS = 60


def ladder(metrics: tuple[str, ...] = ("greedy",)) -> Ladder:
    tasks = [each.task for each in search_driver.posed("search", ITEMS)]
    goal = goal_of([Objective(metric=each) for each in metrics], tasks, several=len(metrics) > 1)
    return Ladder((Rung(race=True, block=20),), tasks, goal, seed=1, confidence=0.95)


def scores(at: Ladder, right: int) -> dict[int, dict[str, ItemScore]]:
    """Those of a candidate that is right on the first ``right`` items that are asked."""
    order = at.order(at.top)
    values = {
        at.top.places[place].item: {"greedy": float(rank < right), "logprob": -1.0, "tokens": 1.0}
        for rank, place in enumerate(order)
    }
    return {0: {item: ItemScore(item, each) for item, each in values.items()}}


def test_who_races_beside_a_better_one_is_behind_before_the_best_is_beaten() -> None:
    one = ladder()
    seen = one.order(one.top)[:40]
    members = {trial: scores(one, right) for trial, right in ((5, 8), (6, 32), (7, 30))}
    assert one.behind(one.top, members, seen, 1) == set(), "nobody has answered everything yet"
    one.take(1, lambda _: scores(one, 6))
    assert not one.drops(one.top, members[5], seen, 1, alone=False), "it is no worse than the best so far"
    assert one.behind(one.top, members, seen, 1) == {5}
    assert one.behind(one.top, {5: members[5]}, seen, 1) == set()


def test_several_objectives_have_no_one_ahead() -> None:
    one = ladder(("greedy", "logprob"))
    one.take(1, lambda _: scores(one, 6))
    members = {trial: scores(one, right) for trial, right in ((5, 8), (6, 32))}
    assert one.behind(one.top, members, one.order(one.top)[:40], 1) == set()
