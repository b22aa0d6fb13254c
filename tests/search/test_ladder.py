"""The ladder alone: who is behind when candidates race side by side."""

from __future__ import annotations

import gc
import weakref

import pytest

import search_driver
from alloyd.search_schema import Objective, Rung
from alloyd_daemon.evaluator import ItemScore
from alloyd_daemon.search.ladder import Ladder
from alloyd_daemon.search.objective import Scores, goal_of

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
    one.take(1, (-0.1,), lambda _: scores(one, 6))
    assert not one.drops(one.top, members[5], seen, 1, alone=False), "it is no worse than the best so far"
    assert one.behind(one.top, members, seen, 1) == {5}
    assert one.behind(one.top, {5: members[5]}, seen, 1) == set()


@pytest.mark.parametrize("metrics", [("greedy",), ("greedy", "logprob")], ids=["one", "several"])
def test_of_many_trials_the_scores_of_the_leaders_alone_are_held(metrics: tuple[str, ...]) -> None:
    one = ladder(metrics)
    read: list[int] = []
    held: list[weakref.ref[object]] = []
    for trial in range(1, 200):
        losses = tuple(-((trial * 37) % 101) / 101 for _ in metrics)

        def given(_: int, trial: int = trial) -> Scores:
            read.append(trial)
            return scores(one, 30)

        one.take(trial, losses, given)
        held.append(weakref.ref(given))
        del given
    best = [trial for trial in range(1, 200) if (trial * 37) % 101 == 100]
    assert one.best == best[0]
    one.drops(one.top, scores(one, 8), one.order(one.top)[:40], 1)
    assert read == (best[:1] if len(metrics) == 1 else best), "no other was worth reading"
    gc.collect()
    assert sum(each() is not None for each in held) <= len(best)


def test_a_loss_that_is_no_number_leads_nowhere() -> None:
    one = ladder()
    one.take(1, (float("nan"),), lambda _: scores(one, 6))
    assert one.best is None
    one.take(2, (-0.1,), lambda _: scores(one, 6))
    one.take(3, (float("nan"),), lambda _: scores(one, 6))
    assert one.best == 2


def test_several_objectives_have_no_one_ahead() -> None:
    one = ladder(("greedy", "logprob"))
    one.take(1, (-0.1, 1.0), lambda _: scores(one, 6))
    members = {trial: scores(one, right) for trial, right in ((5, 8), (6, 32))}
    assert one.behind(one.top, members, one.order(one.top)[:40], 1) == set()
