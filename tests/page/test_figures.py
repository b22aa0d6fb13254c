"""The figures: what they say of real jobs, and that nothing a job can leave behind breaks one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from alloyd.jobs import JobState, Sample
from alloyd.page.figures.by_layer import by_layer
from alloyd.page.figures.convergence import convergence
from alloyd.page.figures.front import front
from alloyd.page.figures.genes import genes
from alloyd.page.figures.resources import memory, throughput
from alloyd.page.figures.similarity import kinship
from alloyd.page.parts import Choice, Figure, Toggle, Words
from alloyd.page.sections import sections
from alloyd.page.story import Story
from page.real_stories import (
    HOSTILE,
    NAMES,
    blocks,
    figures,
    plain,
    renamed,
    section,
    texts,
    told,
    with_results,
)


def check(figure: Figure) -> None:
    """What is true of every figure: it can be sent, says something, and its parts fit each other."""
    data, layout = figure.plot["data"], figure.plot["layout"]
    json.dumps(figure.plot, allow_nan=False)
    assert figure.says.strip()
    assert "None" not in figure.says
    assert "nan" not in figure.says
    assert figure.title
    assert 60 < layout["height"] < 2500
    for trace in data:
        lengths = {len(trace[key]) for key in ("x", "y", "hovertext", "customdata") if key in trace}
        assert trace["type"] == "heatmap" or len(lengths) == 1
    for control in figure.controls:
        match control:
            case Toggle():
                assert all(0 <= each < len(data) for each in control.traces)
            case Choice():
                assert 0 <= control.trace < len(data)
                json.dumps(
                    [[dict(each.trace), dict(each.layout)] for each in control.options], allow_nan=False
                )
    if figure.table is not None:
        assert all(len(row) == len(figure.table.head) for row in figure.table.rows)


@pytest.mark.parametrize("name", NAMES)
def test_the_figures_of_a_real_job_are_whole(name: str) -> None:
    found = figures(told(name))
    assert found
    for each in found.values():
        check(each)


def test_a_search_shows_its_course_and_what_it_is_held_against() -> None:
    found = figures(told("search"))
    course = found["Convergence"]
    results = told("search").results or {}
    assert "the best on the search split is dare_ties" in course.says  # which validation did not confirm
    exact = [each for each in results["trials"] if each["state"] == "scored"]
    marks = [
        each
        for each in course.plot["data"]
        if each.get("mode") == "markers" and each["name"] != "dropped (estimates)"
    ]
    assert sum(len(each["x"]) for each in marks) == len(exact)
    best = next(each for each in course.plot["data"] if each.get("name") == "best so far")
    assert best["y"] == sorted(best["y"])  # a score that should be high only rises
    assert any("95 %" in str(each.get("name")) for each in course.plot["data"])
    assert isinstance(course.controls[0], Toggle)


def test_a_leaderboard_has_everyone_and_its_verdicts() -> None:
    story = told("search")
    results = story.results or {}
    (board,) = section(story, "leaderboard").blocks
    assert isinstance(board, Figure)
    names = {each["name"] for each in (*results["baselines"], *results["finalists"])}
    assert board.table is not None
    assert {row[0] for row in board.table.rows} == names
    assert sum("better" in row[-1] for row in board.table.rows) >= 5
    assert board.table.rows[0][1] == "winner"
    shown = next(each for each in board.plot["data"] if each["name"] == "winner")
    (figure,) = results["winner"]["figures"]
    assert shown["error_x"]["array"] == [pytest.approx(figure["high"] - figure["value"])]


def test_an_opened_test_comes_first_in_its_own_page() -> None:
    story = told("open_test")
    keys = [each.key for each in sections(story)]
    assert keys.index("test") < keys.index("search")
    assert "locked test" in next(iter(figures(story)))


def test_a_front_shows_parents_of_what_is_chosen() -> None:
    story = told("front")
    results = story.results or {}
    picture = figures(story)["Pareto front"]
    toggle, choice = picture.controls
    assert isinstance(toggle, Toggle)
    assert isinstance(choice, Choice)
    assert choice.options[0].trace == {"x": [], "y": []}
    child = next(each for each in choice.options[1:])
    assert len(child.trace["x"]) % 3 == 0
    assert child.trace["x"]
    on_front = next(each for each in picture.plot["data"] if each.get("name") == "front")
    assert len(on_front["x"]) == len(results["pareto"]["front"])
    named = [each for trace in picture.plot["data"] for each in trace.get("customdata", ()) if each]
    assert set(named) == set(range(1, len(choice.options)))


def test_by_layer_has_a_cell_for_each_model_and_layer() -> None:
    picture = figures(told("merge"))["weight, layer by layer"]
    heat = picture.plot["data"][0]
    assert len(heat["z"]) == 8
    assert all(len(row) == 5 for row in heat["z"])
    assert heat["z"][0] == [None, 0.2, 0.466667, 0.733333, 1.0]
    assert "math_wide 0.2 to 1" in picture.says
    assert picture.table is not None
    assert ("lang_wide", "layers 0 to 3", "mlp", "0.7") in picture.table.rows


def test_kinship_names_who_is_most_and_least_alike() -> None:
    whole, layers, components, *_ = figures(told("kinship")).values()
    assert "Most alike are lang and lang_wide" in whole.says
    assert whole.plot["data"][0]["z"][0][0] == 1.0
    assert len(layers.plot["data"][0]["z"][0]) == 4
    assert "embeddings" in components.says


def test_scores_are_paired_on_the_same_items() -> None:
    first, against, *_ = figures(told("score")).values()
    assert "math_wide is best" in first.says
    assert "worse: lang_wide" in against.says
    assert against.table is not None
    assert against.table.head[3] == "verdict"


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_stay_text(name: str) -> None:
    """Whatever a model, trial, gene, task or file is called: no markup reaches a plot."""
    story = msgspec.convert(plain(told(name)), Story)
    spec = renamed(
        {key: each for key, each in story.job.spec.items() if key != "kind"}, lambda text: HOSTILE + text
    )
    story = replace(
        story,
        job=replace_job(
            story,
            out=HOSTILE,
            reason=HOSTILE,
            owner=HOSTILE,
            spec=spec,
            summary=renamed(story.job.summary, lambda text: HOSTILE + text),
            result=renamed(story.job.result, lambda text: HOSTILE + text),
        ),
        results=renamed(story.results, lambda text: HOSTILE + text),
        log=HOSTILE,
    )
    found = figures(story)
    assert len(found) >= len(figures(told(name))) - 2  # titles that were cut may be alike
    for each in found.values():
        check(each)
        chosen = [option for one in each.controls if isinstance(one, Choice) for option in one.options]
        sent = [each.plot, *([dict(option.trace), dict(option.layout)] for option in chosen)]
        for text in texts(sent):
            assert "<" not in text.replace("<br>", "").replace("<extra></extra>", "")
            assert "\u202e" not in text
            assert "\u2028" not in text


def replace_job(story: Story, **changes: Any) -> Any:
    return msgspec.structs.replace(story.job, **changes)


def broken(value: Any, place: list[int]) -> Any:
    """``value`` with half of its numbers replaced by such as cannot be drawn; on the wire all of them are null."""
    if isinstance(value, float):
        place[0] += 1
        return (None, math.nan, math.inf, value, value, value)[place[0] % 6]
    if isinstance(value, dict):
        return {key: broken(each, place) for key, each in value.items()}
    return [broken(each, place) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_are_none_are_left_out(name: str) -> None:
    story = told(name)
    for start in range(6):
        changes = {
            key: msgspec.json.decode(msgspec.json.encode(broken(value, [start])))
            for key, value in (("summary", story.job.summary), ("result", story.job.result))
        }
        results = msgspec.json.decode(msgspec.json.encode(broken(story.results, [start])))
        for each in figures(replace(story, results=results, job=replace_job(story, **changes))).values():
            check(each)


def many(results: dict[str, Any], count: int) -> dict[str, Any]:
    """``results`` with its trials again and again, each with a number of its own."""
    trials = [
        {**each, "trial": number, "name": f"trial {number} " + "of a very long name " * 6}
        for number, each in zip(
            range(count), (each for _ in range(count) for each in results["trials"]), strict=False
        )
    ]
    return {**results, "trials": trials}


def test_thousands_of_trials_stay_readable() -> None:
    for name in ("search", "front"):
        story = told(name)
        story = replace(story, results=many(story.results or {}, 6000))
        size = 0
        for each in blocks(story):
            if isinstance(each, Figure):
                check(each)
                assert sum(len(trace.get("x", ())) for trace in each.plot["data"]) <= 20_000
                size += len(json.dumps(each.plot))
        assert size < 6_000_000


def test_many_genes_and_texts_as_genes_keep_within_bounds() -> None:
    story = told("search")
    results = story.results or {}
    names = [f"weight[{'model ' * 20}{place}]" for place in range(300)]
    base = results["genes"][0][0]
    genome = [{**base, "name": name} for name in names]
    genome += [
        {**base, "name": name, "kind": "choice", "choices": ["ties", "<b>"]} for name in ("method", "essay")
    ]
    trials = [
        {
            **each,
            "genes": dict.fromkeys(names, 0.123456789 * place)
            | {"method": ("ties", "<b>")[place % 2], "essay": f"a text of its own, {place}"},
            "state": "scored",
            "losses": [-0.5],
        }
        for place, each in enumerate(many(results, 3000)["trials"])
    ]
    (picture,) = genes({**results, "genes": [genome[::-1]], "trials": trials, "importance": []})
    check(picture)
    (choice,) = picture.controls
    assert isinstance(choice, Choice)
    called = [each.label for each in choice.options]
    assert "essay" not in called
    assert called[0] == "method"
    assert choice.options[0].layout["xaxis"]["ticktext"] == ["&lt;b&gt;", "ties"]
    assert len(called) == 99
    assert len(json.dumps([dict(each.trace) for each in choice.options])) < 3_000_000


def test_ten_models_of_a_hundred_layers_fit_one_picture() -> None:
    columns = [
        {
            "parameter": "weight",
            "model": f"/models/{'a-very-long-name-of-a-fine-tune-' * 3}{model}",
            "stack": stack,
            "rows": [[None, None, "", 1.0]]
            if stack is None
            else [
                [layer, layer, part, layer / 100 - model / 10]
                for layer in range(100)
                for part in ("attention", "mlp", "norms")
            ],
        }
        for model in range(10)
        for stack in (0, None)
    ]
    (picture,) = by_layer({"stacks": [{"prefix": "model.layers", "layers": 100}], "columns": columns})
    check(picture)
    heat = picture.plot["data"][0]
    assert (len(heat["z"]), len(heat["z"][0])) == (40, 101)
    assert len(picture.plot["data"]) == 1  # so many cells have no room for words
    assert len(picture.plot["layout"]["xaxis"]["tickvals"]) < 15
    names = picture.plot["layout"]["yaxis"]["ticktext"]
    assert len(set(names)) == 40


def test_many_models_fit_one_matrix() -> None:
    names = [f"/models/{'x' * 80}-{number}" for number in range(40)]
    pairs = [
        {"models": [one, other], "cosine": 0.5, "pearson": 0.5, "euclidean": 1.0}
        for place, one in enumerate(names)
        for other in names[place + 1 :]
    ]
    layers = [
        {"layer": layer, "parameters": 1, "pairs": [{"cosine": 0.1}] * len(pairs)} for layer in range(100)
    ]
    result = {
        "base": "base",
        "models": [{"name": each, "norm": 1.0} for each in names],
        "pairs": pairs,
        "layers": layers,
    }
    whole, by = kinship(result)
    check(whole)
    check(by)
    assert len(by.plot["data"][0]["z"]) == 60


def test_a_search_that_has_just_begun_has_a_page() -> None:
    story = told("search")
    results = story.results or {}
    nothing = {
        "winner": None,
        "finalists": [],
        "importance": [],
        "rungs": [],
        "convergence": [],
        "recipes": None,
    }
    for count in (0, 1):
        trials = results["trials"][:count]
        early = with_results(story, **nothing, trials=trials, baselines=results["baselines"][:count])
        job = replace_job(story, state=JobState.RUNNING, result=None, ended=None)
        for each in figures(replace(early, job=job)).values():
            check(each)
    bare = replace(story, results=None, samples=(), events=(), job=job, missing=("No results to show.",))
    assert figures(bare) == {}
    assert isinstance(blocks(bare)[0], Words)


def test_a_front_of_three_objectives_is_three_pictures() -> None:
    story = told("front")
    results = story.results or {}
    third = {**results["objectives"][0], "number": 3, "metric": "words", "better": "lower"}
    trials = [{**each, "losses": [*(each["losses"] or [0, 0]), 0.5]} for each in results["trials"]]
    found = front({**results, "objectives": [*results["objectives"], third], "trials": trials})
    assert len(found) == 3
    for each in found:
        check(each)


def test_losses_are_told_as_the_metrics_they_were_made_of() -> None:
    trial = {"trial": 1, "origin": "optimiser", "name": "trial 1", "state": "scored", "items": {}, "of": None}
    step = {"trial": 1, "candidates": 1, "items": 9, "loss": -1.4, "low": -1.6, "high": -1.2}
    objective = {"task": "t.validation", "number": 1, "metric": "score", "better": "higher", "weight": 2.0}
    results = {
        "pareto": None,
        "objectives": [objective],
        "trials": [{**trial, "losses": [-1.4]}],
        "convergence": [step],
    }
    course = convergence(results)
    assert course is not None
    assert "t score 0.700 (0.600 to 0.800), higher is better" in course.says
    several = {**results, "objectives": [objective, {**objective, "number": 2}]}
    course = convergence(several)
    assert course is not None
    assert "loss, all objectives together -1.400" in course.says


def samples(*points: tuple[float, int, int, int]) -> list[Sample]:
    return [Sample(t, resident, resident // 2, read, read // 2, t) for t, resident, read, _ in points]


def test_resources_are_told_in_units_that_fit() -> None:
    found = samples((0.0, 10**9, 0, 0), (1.0, 3 * 10**9, 2 * 10**9, 0), (2.0, 2 * 10**9, 3 * 10**9, 0))
    picture = memory(found, 2 * 10**9)
    assert picture is not None
    assert "At most 1.5 GB of private memory were in use, 75 % of the budget of 2.0 GB" in picture.says
    assert picture.plot["layout"]["yaxis"]["title"]["text"] == "memory, GB"
    speed = throughput(found)
    assert speed is not None
    assert speed.plot["data"][0]["y"] == [2.0, 1.0]
    assert "at most 2.0 GB/s" in speed.says


def test_nothing_is_drawn_between_two_runs() -> None:
    first = samples((0.0, 10, 0, 0), (1.0, 10, 5, 0), (2.0, 10, 9, 0))
    second = [msgspec.structs.replace(each, run=2) for each in samples((600.0, 10, 9, 0), (601.0, 10, 12, 0))]
    private = memory([*first, *second])
    assert private is not None
    assert private.plot["data"][0]["x"] == [0.0, 1 / 60, 2 / 60, None, 10.0, 601 / 60]
    assert "The job ran 2 times" in private.says
    speed = throughput([*first, *second])
    assert speed is not None
    assert speed.plot["data"][0]["y"] == [5.0, 4.0, None, 3.0]
    assert "in 3.0 s" in speed.says


def test_samples_of_one_moment_divide_by_nothing() -> None:
    found = samples((1.0, 10, 5, 0), (1.0, 10, 5, 0), (1.0, 10, 5, 0))
    for picture in (memory(found, None), throughput(found)):
        assert picture is not None
        check(picture)
    assert memory(found[:1]) is None
