"""How a search stands, in words: baselines are not candidates, figures are people's, parts add up."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from alloyd.jobs import Note, Progress
from alloyd_daemon.evaluator import ItemScore, Metric
from alloyd_daemon.search.objective import Goal, Target
from alloyd_daemon.search.standing import as_part, best_so_far, standing
from alloyd_daemon.search.trial import Trial
from search.finished_search import TRIALS


@pytest.mark.parametrize(
    ("climbing", "most", "rungs", "words"),
    [
        ({1: {}}, 60, 1, "1 of 1 baselines"),
        ({5: {0: 10}, 6: {0: 10, 1: 5}}, 60, 2, "5 of 60 candidates, rung 2 of 2"),
        ({5: {}}, None, 1, "5 candidates"),
    ],
)
def test_where_a_search_is(
    climbing: dict[int, dict[int, int]], most: int | None, rungs: int, words: str
) -> None:
    assert standing(TRIALS, climbing, most=most, rungs=rungs) == words


def test_the_best_is_told_by_its_figures() -> None:
    goal = Goal((Target(0, Metric("right"), 1.0), Target(1, Metric("bits", better="lower"), 2.0)))
    scores = {
        0: {str(place): ItemScore(str(place), {"right": float(place < 9)}) for place in range(10)},
        1: {"a": ItemScore("a", {"bits": 1.5})},
    }
    trial = Trial(number=3, batch=1, origin="optimiser", name="trial 3")
    assert best_so_far(trial, goal, scores) == "best trial 3: right 0.9 (0.5958 to 0.9821), bits 1.5"


def test_parts_add_up_and_what_they_return_is_kept() -> None:
    def running() -> Generator[Progress | Note, None, int]:
        yield Progress(0, 4, "items", "x")
        yield Note("warning", "said")
        yield Progress(2, 4, "items", "x")
        return 7

    part = as_part(running(), 1, 3, 10, "second")
    assert next(part) == Progress(10, 30, "items", "second")
    assert next(part) == Note("warning", "said")
    assert next(part) == Progress(15, 30, "items", "second")
    with pytest.raises(StopIteration) as ended:
        next(part)
    assert ended.value.value == 7
