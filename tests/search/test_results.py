"""The results of a search: what the record holds becomes tables, steps and files, and nothing is made up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alloyd import render, render_search
from alloyd.jobs import Job, JobState
from alloyd.page import outcome
from alloyd.page.figures import leaderboard
from alloyd_daemon.evaluator import ItemScore
from alloyd_daemon.search.convergence import front_convergence
from alloyd_daemon.search.history import History
from alloyd_daemon.search.judgement import opened_figures
from alloyd_daemon.search.lineage import ancestors, data_of, versions
from alloyd_daemon.search.publish import so_far
from alloyd_daemon.search.results import results
from alloyd_daemon.search.trial import TEST, Trial
from alloyd_daemon.settings import Settings
from search.finished_search import ITEMS, TRIALS, end, make, searched, task


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with make(tmp_path / "history.db") as made:
        yield made


@pytest.fixture
def found(history: History) -> dict[str, Any]:
    return results(history, searched(), winner=5)


def test_the_figure_of_the_winner_is_that_of_validation(found: dict[str, Any]) -> None:
    winner = found["winner"]
    (figure,) = winner["figures"]
    assert (figure["task"], figure["metric"], figure["value"], figure["n"]) == (
        "sums.validation",
        "right",
        0.85,
        ITEMS,
    )
    assert figure["low"] < 0.85 < figure["high"]
    ((comparison,),) = (each["comparisons"] for each in winner["against"])
    assert comparison["difference"] == pytest.approx(0.35)
    assert (comparison["wins"], comparison["losses"], comparison["verdict"]) == (14, 0, "better")
    assert [each["name"] for each in found["baselines"]] == ["math"]
    assert [each["trial"] for each in found["finalists"]] == [2, 5]


def test_a_duplicate_among_the_baselines_has_the_figures_of_its_original(history: History) -> None:
    twins = [
        Trial(
            number=number, batch=0, origin="previous", name=f"best of search-{of}", state="duplicate", of=of
        )
        for number, of in ((7, 1), (8, 5))
    ]
    history.ask([replace(each, state="asked", of=None) for each in twins], phase=1)
    history.tell(twins)
    found = results(history, searched(), winner=5)
    math, twin, own = found["baselines"]
    assert (math["of"], twin["of"], own["of"]) == (None, 1, 5)
    assert twin["figures"] == math["figures"] != []
    assert own["figures"] == found["winner"]["figures"]
    against = {each["name"]: each["comparisons"] for each in found["winner"]["against"]}
    assert against.keys() == {"math", "best of search-1"}, "the winner is not held against itself"
    assert against["best of search-1"] == against["math"] != []
    lines = render_search.validation_table(found)
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "trial 5 (winner)",
        "math",
        "best of search-1 (the same as math)",
        "best of search-5 (the same as trial 5)",
    ]
    (board,) = leaderboard.validation(found)
    assert board.table is not None
    assert "best of search-1 (the same as math)" in [row[0] for row in board.table.rows]
    assert "against math, the best baseline" in outcome.searched(found)


def test_every_trial_is_in_the_table_as_it_ended(found: dict[str, Any]) -> None:
    assert [each["state"] for each in found["trials"]] == [each.state for each in TRIALS]
    assert found["trials"][3]["error"]["message"] == "numbers that are none"
    assert found["spent"]["candidates"] == 5
    assert found["spent"]["items"] == {"-1": 3 * ITEMS, "0": 3 * ITEMS + 15}
    assert found["spent"]["states"] == {"scored": 3, "dropped": 1, "failed": 1, "duplicate": 1}


def test_only_exact_losses_are_steps_and_each_has_its_interval(found: dict[str, Any]) -> None:
    assert [(each["trial"], each["candidates"], each["items"]) for each in found["convergence"]] == [
        (1, 1, ITEMS),
        (2, 2, 2 * ITEMS),
        (5, 5, 3 * ITEMS + 15),
    ]
    for each in found["convergence"]:
        assert each["low"] < each["loss"] < each["high"]
    assert found["pareto"] is None


def test_ancestors_are_found_through_parents_and_twins(found: dict[str, Any]) -> None:
    assert [each["trial"] for each in found["lineage"]["ancestors"]] == [2, 5]
    assert [each.number for each in ancestors(TRIALS, 6)] == [2, 5, 6]
    assert [each.number for each in ancestors(TRIALS, 4)] == [2, 3, 4]
    ring = (replace(TRIALS[1], parents=(5,)), replace(TRIALS[4], parents=(2,)))
    assert [each.number for each in ancestors(ring, 5)] == [2, 5]


def test_data_is_known_by_what_it_says() -> None:
    plain, other = data_of({"search": [task("search")]}), data_of({"search": [task("validation")]})
    assert plain == data_of({"search": [task("search")]})
    assert plain[0]["digest"] != other[0]["digest"]
    assert {"alloyd", "python", "cmaes", "numpy"} <= versions().keys()


def test_several_objectives_have_a_front() -> None:
    trials = [
        Trial(number=number, batch=1, origin="optimiser", name="", state=state, losses=losses)  # type: ignore[arg-type]
        for number, (state, losses) in enumerate(
            [
                ("scored", (0.5, 0.5)),
                ("dropped", (0.0, 0.0)),
                ("scored", (0.6, 0.6)),
                ("scored", (0.2, 0.9)),
                ("failed", None),
            ],
            start=1,
        )
    ]
    steps = front_convergence(trials, (1.0, 1.0))
    assert [(each["trial"], each["candidates"]) for each in steps] == [(1, 1), (4, 4)]
    assert [each["hypervolume"] for each in steps] == pytest.approx([0.25, 0.28])


def test_search_and_validation_are_held_against_each_other(found: dict[str, Any]) -> None:
    assert found["agreement"]["n"] == 3
    assert found["agreement"]["kendall"] == pytest.approx(1)


def test_results_until_now_are_those_of_the_end_less_what_is_slow(history: History, tmp_path: Path) -> None:
    so_far(history, searched(), folder=tmp_path, home=tmp_path, settings=Settings())
    found = json.loads((tmp_path / "results.json").read_bytes())
    assert found["winner"] is None
    assert len(found["trials"]) == len(TRIALS)
    assert found["importance"] == []
    assert (found["leader"]["trial"], found["leader"]["losses"]) == (5, [-0.9])
    assert found["leader"]["by_layer"]["columns"]
    assert [each["trial"] for each in found["lineage"]["ancestors"]][-1] == 5
    assert (
        render_search.result_lines(found)[0]
        == "no candidate has a validation score yet; on the search split:"
    )
    assert render_search.result_lines(found)[1].startswith("  best trial 5, loss -0.9 (-0.96")


def test_too_few_points_say_so(found: dict[str, Any]) -> None:
    (each,) = found["importance"]
    assert "too few" in each["why_not"]


def test_without_a_winner_there_are_results_too(history: History, tmp_path: Path) -> None:
    found = end(history, tmp_path, winner=None).result
    assert found["winner"] is None
    assert not (tmp_path / "winner.yaml").exists()
    assert json.loads((tmp_path / "results.json").read_bytes())["winner"] is None
    assert render_search.result_lines(found)[0].startswith("no candidate has a validation score")


def test_files_and_words_of_a_finished_search(history: History, tmp_path: Path) -> None:
    told = end(history, tmp_path).result
    written = json.loads((tmp_path / "results.json").read_bytes())
    told = json.loads(json.dumps(told))
    for key in told.keys() & written.keys():
        assert told[key] == written[key]
    assert "trials" not in told
    assert [each["name"] for each in written["lineage"]["sources"]] == [
        str(Path(each["path"])) for each in written["lineage"]["sources"]
    ]
    digests = [each["digest"] for each in written["lineage"]["sources"]]
    assert len(set(digests)) == len(digests) > 1, "the models of the zoo share a header, and nothing else"
    head = (tmp_path / "winner.yaml").read_text().splitlines()[:2]
    assert head[0] == "# The winner of weights: trial 5 of search-3, seed 7."
    assert head[1].startswith("# Validation: sums.validation right 0.8500 (95 % interval 0.7")
    assert (tmp_path / "winner.mergekit.yaml").read_text().splitlines()[:2] == head
    lines = render_search.result_lines(written)
    assert lines[0].split()[:4] == ["MODEL", "METRIC", "VALIDATION", "95%"]
    assert lines[1].startswith("trial 5 (winner)  right   0.8500")
    assert lines[2].startswith("math ")
    assert lines[2].endswith("better")
    assert "  closed; 'alloy search --open-test search-3' opens it, once" in lines
    assert "  weight  1.25" in lines
    spent = render_search.spent_line(written)
    assert spent == (
        "5 candidates (3 scored, 1 dropped, 1 failed, 1 duplicate), 135 items scored in 3.0 s, "
        "120 more for figures that count"
    )


def test_a_search_among_jobs_shows_its_tables(history: History, tmp_path: Path) -> None:
    told = end(history, tmp_path).result
    job = Job(
        "search-3",
        "search",
        JobState.DONE,
        datetime(2026, 1, 1, tzinfo=UTC),
        spec={"spec": "recipe: {}", "seed": 7},
        result=told,
        summary={
            "genes": 1,
            "optimiser": {"name": "de", "why": "it was asked for"},
            "budget": "5 candidates",
        },
    )
    lines = [*render.job_lines(job), *render.recipe_lines(job)]
    assert any(line.startswith("  trial 5 (winner)  right") for line in lines)
    assert "  optimiser  de: it was asked for" in lines
    assert lines[-2:] == ["spec", "  recipe: {}"]


def test_an_opened_test_is_told_with_its_hour(history: History) -> None:
    opening = history.open_test("open_test-4")
    assert render_search.test_lines(results(history, searched(), winner=5)) == [
        f"opened {opening.at} by open_test-4"
    ]
    for trial, right in ((1, 10), (5, 30)):
        for place in range(ITEMS):
            history.keep(trial, TEST, 0, ItemScore(f"test-{place}", {"right": float(place < right)}))
    history.close_test(opened_figures(history, TEST, [task("test")], winner=TRIALS[4], others=[TRIALS[0]]))
    lines = render_search.test_lines(results(history, searched(), winner=5))
    assert lines[0] == f"opened {opening.at} by open_test-4"
    assert [line.split()[0] for line in lines[1:]] == ["MODEL", "trial", "math"]
    assert "+0.5000" in lines[3]
    later = results(history, searched(), winner=2)
    assert (
        render_search.test_lines(later)[1] == "trial 5 was the winner then; the winner of now was not tested"
    )
