"""The loop of a search, over a runner without a model: what it asks, drops, tells, and how it goes on after a stop."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import search_driver
from alloyd.errors import DiskFull, JobError, RecipeError, TaskError
from alloyd.jobs import Note, Progress
from alloyd.search_schema import Budget, Objective, Rung
from alloyd_daemon.candidate import Subject
from alloyd_daemon.optimiser import OPTIMISERS
from alloyd_daemon.runner import RUNNERS, Outcome, RunOptions
from alloyd_daemon.scoring.requests import Request
from alloyd_daemon.search.genome import Gene, Genome, Point
from alloyd_daemon.search.history import History
from alloyd_daemon.search.objective import goal_of
from alloyd_daemon.search.run import search
from alloyd_daemon.search.search_task import Phase, SearchTask
from alloyd_daemon.search.space import PlainRecipe
from alloyd_daemon.search.trial import VALIDATION, Trial
from search.toy import Toy


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    one = Toy()
    stand(one, monkeypatch)
    return one


def stand(one: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    RUNNERS.open()
    monkeypatch.setitem(RUNNERS._found, "toy", one.runner())


def task(folder: Path, **changes: Any) -> SearchTask:
    return search_driver.task(folder, **{"runner": "toy", **changes})


def go(
    folder: Path, until: Callable[[Progress | Note], bool] = lambda _: False, **changes: Any
) -> tuple[list[Trial], list[Progress | Note]]:
    """Search, or go on with it, to the end or until something is said; returns trials and all that was said."""
    said: list[Progress | Note] = []
    with History(folder / "history.db") as history:
        running = search(task(folder, **changes), history)
        try:
            for each in running:
                said.append(each)
                if until(each):
                    break
        finally:
            running.close()
        return list(history.trials()), said


def still(trials: list[Trial]) -> list[Trial]:
    return [replace(each, seconds=0.0) for each in trials]


def test_a_search_beats_what_it_is_held_against(tmp_path: Path, toy: Toy) -> None:
    trials, said = go(tmp_path, budget=Budget(candidates=24))
    names = [each.name for each in trials if each.origin == "baseline"]
    assert names[:4] == ["math", "lang", "base", "uniform soup"]
    assert names[4:9] == [f"task_arithmetic {each}" for each in ("0.2", "0.4", "0.6", "0.8", "1")]
    assert names[9:] == ["ties", "dare_ties"]
    assert sum(each.origin == "optimiser" for each in trials) == 24
    history = History.read(tmp_path / "history.db")
    finals = history.fact("finals")
    losses = {int(trial): each[0] for trial, each in finals["losses"].items()}
    assert losses[finals["winner"]] == min(losses.values())
    assert set(losses) >= {each.number for each in trials if each.origin == "baseline"}
    assert all(len(history.scores(each, VALIDATION)[0]) == 40 for each in losses)
    dropped = [each for each in trials if each.state == "dropped"]
    assert dropped
    assert all(each.items[0] < 60 for each in dropped)
    progress = [each.done for each in said if isinstance(each, Progress) and "validation" not in each.what]
    assert progress[-1] <= max(each.total for each in said if isinstance(each, Progress))


@pytest.mark.parametrize("optimiser", ["cma-es", "random", "de", "bayes"])
@pytest.mark.parametrize("stops", [(30,), (200, 15, 90)])
def test_a_stopped_search_goes_on_as_if_it_had_not_been_stopped(
    tmp_path: Path, toy: Toy, optimiser: str, stops: tuple[int, ...]
) -> None:
    rungs = (Rung(items=20, quantise="coarse"), Rung(race=True, block=15))
    given = {"optimiser": optimiser, "rungs": rungs, "budget": Budget(candidates=12)}
    whole, _ = go(tmp_path / "whole", **given)
    for stop in stops:
        count = iter(range(stop))
        go(tmp_path / "parts", until=lambda _, count=count: next(count, None) is None, **given)
    parts, _ = go(tmp_path / "parts", **given)
    assert still(parts) == still(whole)
    one, other = (History.read(tmp_path / each / "history.db") for each in ("whole", "parts"))
    for each in whole:
        for rung in (0, 1, VALIDATION):
            assert one.scores(each.number, rung) == other.scores(each.number, rung)
    assert one.fact("finals") == other.fact("finals")
    assert [each.data for each in one.entries("rung")] == [each.data for each in other.entries("rung")]


def test_a_finished_search_asks_nothing_again(tmp_path: Path, toy: Toy) -> None:
    trials, _ = go(tmp_path)
    toy.asked.clear()
    assert still(go(tmp_path)[0]) == still(trials)
    assert toy.asked == []


def test_a_search_goes_on_with_a_larger_budget(tmp_path: Path, toy: Toy) -> None:
    first, _ = go(tmp_path, budget=Budget(candidates=6))
    more, _ = go(tmp_path, budget=Budget(candidates=12))
    assert still(more[: len(first)]) == still(
        [replace(each, items=more[place].items) for place, each in enumerate(first)]
    )
    assert sum(each.origin == "optimiser" for each in more) == 12


def test_a_budget_of_items_ends_a_search_after_the_batch_that_spends_it(tmp_path: Path, toy: Toy) -> None:
    trials, _ = go(tmp_path, budget=Budget(items=1500))
    spent = 0
    for each in trials:
        last = spent
        spent += each.items.get(0, 0)
    assert spent >= 1500
    assert last - 1500 < 6 * 60
    assert len(toy.asked) == sum(sum(each.items.values()) for each in trials)


def test_a_budget_of_time_ends_a_search(tmp_path: Path, toy: Toy) -> None:
    trials, _ = go(tmp_path, baselines=(), budget=Budget(seconds=0.2))
    assert 0 < sum(each.seconds for each in trials[:-6]) < 0.2 or len(trials) <= 6


def test_one_at_a_time_has_no_generations(tmp_path: Path, toy: Toy) -> None:
    trials, _ = go(tmp_path, one_at_a_time=True)
    batches = [each.batch for each in trials if each.origin == "optimiser"]
    assert batches == list(range(1, 11))


def test_what_fails_is_a_trial_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand(Toy(breaks=lambda name: name in ("lang", "trial 13")), monkeypatch)
    trials, _ = go(tmp_path)
    failed = {each.name: each for each in trials if each.state == "failed"}
    assert set(failed) == {"lang", "trial 13"}
    assert failed["lang"].losses is None
    assert "lang is broken" in str(failed["lang"].error)
    assert len(trials) == 21


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("refusal", [None, MemoryError(), RuntimeError("shapes"), TaskError("too long")])
def test_what_a_runner_raises_over_one_candidate_costs_that_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool, refusal: Exception | None
) -> None:
    stand(Toy(at_once=at_once, refuses=lambda name: name == "trial 13", refusal=refusal), monkeypatch)
    trials, _ = go(tmp_path)
    assert [each.name for each in trials if each.state == "failed"] == ["trial 13"]
    assert len(trials) == 21


def test_a_full_disk_ends_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand(Toy(refuses=lambda name: name == "trial 13", refusal=DiskFull("no room")), monkeypatch)
    with pytest.raises(DiskFull):
        go(tmp_path)


def test_when_all_fail_something_must_be_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand(Toy(breaks=lambda name: name.startswith("trial")), monkeypatch)
    with pytest.raises(
        JobError, match=r"5 candidates failed one after the other; the last, trial 16: .* broken"
    ):
        go(tmp_path, most_failed=5)


class Choices:
    """Three points, one of which is no recipe, and two of which are the same merge."""

    @property
    def genome(self) -> Genome:
        return (Gene(name="which", kind="category", choices=("none", "one", "other")),)

    def recipe(self, point: Point) -> PlainRecipe:
        if point["which"] == "none":
            raise RecipeError("a path without a layer")
        weights = {"math": 1.0, "lang": 0.5}
        return search_driver.Weights().recipe(weights) | ({"name": "x"} if point["which"] == "one" else {})


def test_the_same_merge_is_scored_once_and_no_recipe_is_a_failure(tmp_path: Path, toy: Toy) -> None:
    def phase(_: Trial | None) -> Any:
        yield from ()
        return Phase(space=Choices(), kind=OPTIMISERS.get("random"), options={})

    trials, said = go(tmp_path, phases=[phase], baselines=(), budget=Budget(candidates=9))
    by = {each.state: each for each in trials}
    assert sorted(each.state for each in trials) == ["duplicate", "failed", "scored"]
    assert by["duplicate"].of == by["scored"].number
    assert by["duplicate"].losses == by["scored"].losses
    assert by["duplicate"].items == {}
    assert "a path without a layer" in str(by["failed"].error)
    assert any(isinstance(each, Note) and "nothing more to ask" in each.text for each in said)


def test_a_rung_that_says_nothing_is_switched_off_and_one_that_predicts_is_kept(
    tmp_path: Path, toy: Toy
) -> None:
    for type_, kept in (("noise", False), ("coarse", True)):
        rungs = (Rung(items=30, quantise=type_), Rung(race=True, block=20))
        trials, said = go(tmp_path / type_, rungs=rungs, budget=Budget(candidates=16))
        (entry,) = History.read(tmp_path / type_ / "history.db").entries("rung")
        assert entry.data["kept"] is kept
        assert entry.data["n"] == 12
        assert any(isinstance(each, Note) and "Kendall's tau" in each.text for each in said)
        assert (0 in trials[-1].items) is kept


def test_a_rung_of_the_same_type_is_not_asked_what_the_rung_below_was(tmp_path: Path, toy: Toy) -> None:
    rungs = (Rung(items=20), Rung(items=50), Rung(race=True, block=20))
    trials, _ = go(tmp_path, rungs=rungs, budget=Budget(candidates=3))
    assert all(each.items[0] == 20 for each in trials)
    whole = [each for each in trials if each.state == "scored"]
    assert all((each.items[1], each.items[2]) == (30, 10) for each in whole)
    assert len(toy.asked) == sum(sum(each.items.values()) for each in trials)


def test_a_population_is_run_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Toy(at_once=True)
    stand(one, monkeypatch)
    given = {"rungs": (Rung(race=True, block=20),), "budget": Budget(candidates=12)}
    whole, _ = go(tmp_path / "whole", **given)
    runs = one.runs
    # Eleven baselines and two generations, three blocks each at most, and the finalists one by one.
    assert runs <= 3 * 3 + len([each for each in whole if each.items.get(VALIDATION)])
    count = iter(range(500))
    go(tmp_path / "parts", until=lambda _: next(count, None) is None, **given)
    assert still(go(tmp_path / "parts", **given)[0]) == still(whole)


def test_several_objectives_make_a_front(tmp_path: Path, toy: Toy) -> None:
    asked = search_driver.posed("search", 60)
    goal = goal_of(
        [Objective(metric="greedy"), Objective(metric="logprob")], [each.task for each in asked], several=True
    )
    trials, _ = go(tmp_path, goal=goal, optimiser="random", budget=Budget(candidates=8))
    assert all(len(each.losses or ()) == 2 for each in trials if each.state == "scored")
    finals = History.read(tmp_path / "history.db").fact("finals")
    assert all(len(each) == 2 for each in finals["losses"].values())


def test_the_optimiser_of_a_front_learns_from_baselines_that_are_points(tmp_path: Path, toy: Toy) -> None:
    asked = search_driver.posed("search", 60)
    goal = goal_of(
        [Objective(metric="greedy"), Objective(metric="logprob")], [each.task for each in asked], several=True
    )
    plain = search_driver.task(tmp_path).baselines
    points = {"math": (1.0, 0.0), "lang": (0.0, 1.0), "base": (0.0, 0.0)}
    points |= {f"task_arithmetic {each:g}": (each, each) for each in (0.2, 0.4, 0.6, 0.8, 1.0)}
    held = [
        replace(each, point=dict(zip(("math", "lang"), points[each.name], strict=True)))
        if each.name in points
        else each
        for each in (*plain, *plain, *plain)
    ]
    whole = [replace(each, name=f"{each.name}, {at}") for at, each in enumerate(held)]
    given: dict[str, Any] = {"goal": goal, "optimiser": "nsga2", "budget": Budget(candidates=5)}
    count = iter(range(100))
    go(tmp_path / "parts", until=lambda _: next(count, None) is None, baselines=whole, **given)
    trials, _ = go(tmp_path / "parts", baselines=whole, **given)
    again, _ = go(tmp_path / "whole", baselines=whole, **given)
    own = [each for each in trials if each.origin == "optimiser"]
    # There are more of them than a population, one is where the search begins: no first population is asked for.
    turns = ["model, hypervolume", "model, objective 1", "model, hypervolume", "model, objective 2"]
    assert [each.how for each in own] == [*turns, turns[0]]
    assert [each.batch for each in own] == [
        1,
        1,
        1,
        1,
        2,
    ]  # what the model is asked for from one fit, not a population
    assert still(trials) == still(again)


def test_a_trial_over_which_processes_die_again_and_again_is_given_up(tmp_path: Path, toy: Toy) -> None:
    go(tmp_path, until=lambda _: toy.asked[-1] == "trial 14")
    with History(tmp_path / "history.db") as history:
        (number,) = [each.number for each in history.trials() if each.name == "trial 14"]
        for _ in range(3):
            history.begin([number])
    trials, _ = go(tmp_path)
    assert trials[number - 1].state == "failed"
    assert "3 processes died" in str(trials[number - 1].error)
    assert len(trials) == 21


class Death(BaseException):
    """Ends the run as the end of a process does: nothing is tidied up that a search tidies after an error."""


def lives(folder: Path, **changes: Any) -> tuple[list[Trial], list[str], int]:
    """Search, and go on after each death; returns trials, notes, and the most deaths in a row that got no further.

    No further is what the service means by it, which puts the job into quarantine after four.
    """
    furthest, row, most, notes = -1, 0, 0, []
    for _ in range(30):
        done = -1
        try:
            with History(folder / "history.db") as history:
                for said in search(task(folder, **changes), history):
                    if isinstance(said, Progress):
                        done = max(done, said.done)
                    else:
                        notes.append(said.text)
                return list(history.trials()), notes, most
        except Death:
            row = 1 if done > furthest else row + 1
            furthest, most = max(furthest, done), max(most, row)
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("culprits", "block"),
    [
        ({"trial 16"}, 60),
        ({"trial 13", "trial 14", "trial 19"}, 20),
        ({f"trial {each}" for each in range(12, 20)}, 60),
    ],
    ids=["one", "three", "the whole population"],
)
def test_of_a_population_only_those_fail_that_processes_die_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, culprits: set[str], block: int
) -> None:
    given: dict[str, Any] = {
        "batch": 8,
        "rungs": (Rung(race=True, block=block),),
        "budget": Budget(candidates=8),
    }
    stand(Toy(at_once=True, breaks=culprits.__contains__), monkeypatch)
    lost, _ = go(tmp_path / "lost", **given)
    stand(Toy(at_once=True, refuses=culprits.__contains__, refusal=Death()), monkeypatch)
    trials, notes, row = lives(tmp_path / "dead", **given)
    failed = [each for each in trials if each.state == "failed"]
    assert {each.name for each in failed} == culprits
    assert all("3 processes died" in str(each.error) for each in failed)
    assert [replace(each, error=None, items={}) for each in still(trials)] == [
        replace(each, error=None, items={}) for each in still(lost)
    ]
    assert any("each of them runs by itself now" in each for each in notes)
    assert row < 4


def test_a_trial_that_processes_die_over_in_a_later_block_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(Toy):
        def run(
            self, subjects: Sequence[Subject], requests: Sequence[Request], options: RunOptions
        ) -> Generator[Outcome, None, None]:
            if "trial 16" in {each.name for each in subjects} and self.asked.count("trial 16") >= 20:
                raise Death
            yield from super().run(subjects, requests, options)

    toy = Later(at_once=True)
    stand(toy, monkeypatch)
    trials, _, row = lives(tmp_path, batch=8, rungs=(Rung(race=True, block=20),), budget=Budget(candidates=8))
    assert [each.name for each in trials if each.state == "failed"] == ["trial 16"]
    assert toy.asked.count("trial 16") == 20, "what it had answered is not asked again"
    assert row < 4


def test_two_deaths_from_outside_change_nothing_of_a_population(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand(Toy(at_once=True), monkeypatch)
    given: dict[str, Any] = {"batch": 8, "budget": Budget(candidates=8)}
    whole, _ = go(tmp_path / "whole", **given)
    left = iter([True, True])
    killed = Toy(at_once=True, refuses=lambda name: name == "trial 16" and next(left, False), refusal=Death())
    stand(killed, monkeypatch)
    trials, _, row = lives(tmp_path / "killed", **given)
    assert still(trials) == still(whole)
    assert row < 4


def test_what_an_optimiser_proposes_must_be_what_it_proposed(tmp_path: Path, toy: Toy) -> None:
    go(tmp_path, until=lambda _: toy.asked[-1] == "trial 14")
    with History(tmp_path / "history.db") as history, history._writing("test"):
        history._db.execute(
            "UPDATE trials SET point = ? WHERE number = 13", (json.dumps({"math": 1, "lang": 1}),)
        )
    with pytest.raises(JobError, match="does not propose again what it proposed"):
        go(tmp_path)
