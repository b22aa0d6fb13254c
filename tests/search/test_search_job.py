"""The job `search` from the text of a spec, over a runner without a model: every kind of it, what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from alloyd import __version__
from alloyd.errors import AlloydError, JobError, JobNotFound, SourceChanged, StoreError, TaskError
from alloyd.jobs import Finished, Note, OpenTestSpec, Planned, Progress, Report, SearchSpec
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.runner import RUNNERS
from alloyd_daemon.search import ready
from alloyd_daemon.search.history import History
from alloyd_daemon.settings import Settings
from search.toy import Toy

ROOT = Path(__file__).parents[2]
MODELS = """
  models:
    - {model: zoo/models/math, parameters: {weight: {low: 0, high: 2, start: 1}}}
    - {model: zoo/models/lang, parameters: {weight: {low: 0, high: 2, start: 1}}}
"""
MERGE = f"recipe:\n  merge_method: task_arithmetic\n  base_model: zoo/models/base\n  dtype: float32{MODELS}"
SOUP = f"recipe:\n  merge_method: linear\n  dtype: float32{MODELS}"
REST = """
tasks: {{search: [{search}], validation: [{validation}], test: [{test}]}}
budget: {{candidates: 6}}
finalists: 2
runner: toy
"""


@pytest.fixture
def rest(tmp_path: Path) -> str:
    """What a spec says beside what is searched, over the first items of each split."""
    paths = {}
    for split in ("search", "validation", "test"):
        source = ROOT / f"zoo/tasks/l2_arithmetic.{split}.jsonl"
        lines = source.read_text(encoding="utf-8").splitlines()[:30]
        # The split's kind of evaluator is told by its keys.
        texts = [{key: each[key] for key in ("prompt", "answer")} for each in map(json.loads, lines)]
        paths[split] = tmp_path / f"{split}.jsonl"
        plain = "\n".join(json.dumps({"context": each["prompt"], "answer": each["answer"]}) for each in texts)
        paths[split].write_text(plain + "\n")
    return REST.format(**paths)


pytestmark = pytest.mark.usefixtures("toy")


def context(tmp_path: Path, job: str = "search-1") -> Context:
    return Context(tmp_path / "home", Settings(), job)


def run(spec: SearchSpec, where: Context) -> Iterator[Report]:
    yield from JOBS.get("search").run(spec, where)


def spec(text: str, **more: Any) -> SearchSpec:
    return SearchSpec(text, str(ROOT), **more)


def search(text: str, tmp_path: Path, job: str = "search-1", **more: Any) -> dict[str, Any]:
    said = list(run(spec(text, **more), context(tmp_path, job)))
    assert isinstance(said[0], Planned)
    assert isinstance(said[-1], Finished)
    return said[-1].result


@pytest.mark.parametrize(
    "what",
    [
        MERGE,
        MERGE + "optimiser: {name: evolver}\n",
        MERGE + "optimiser: {name: kinship}\n",
        MERGE + "optimiser: {name: greedy-soup}\n",
        MERGE + "path: {after: true}\n",
        SOUP + "path: {scale: [0.5, 2]}\n",
        "path: {models: [zoo/models/math, zoo/models/lang]}\n",
        MERGE + "goal: pareto\nobjectives: [{metric: greedy}, {metric: logprob}]\n",
        MERGE + "mode: async\n",
    ],
    ids=["recipe", "evolver", "kinship", "soup", "after", "hybrid", "path", "pareto", "async"],
)
def test_every_kind_of_search_ends_with_a_winner_and_goes_on_to_itself(
    tmp_path: Path, rest: str, what: str, toy: Toy
) -> None:
    result = search(what + rest, tmp_path)
    assert result["winner"]["figures"]
    folder = tmp_path / "home" / "searches" / "search-1"
    assert (folder / "winner.yaml").is_file()
    trials = [each for each in History.read(folder / "history.db").trials() if each.origin == "optimiser"]
    assert 0 < len(trials) <= 6
    assert any(each.losses is not None for each in trials)
    toy.asked.clear()
    again = search(what + rest, tmp_path)
    assert toy.asked == []
    assert again["winner"] == result["winner"]


def test_a_larger_budget_continues_from_another_jobs_record(tmp_path: Path, rest: str, toy: Toy) -> None:
    search(MERGE + rest, tmp_path)
    toy.asked.clear()
    more = search(MERGE + rest, tmp_path, "search-2", continues="search-1", candidates=12)
    assert sum(each["origin"] == "optimiser" for each in _trials(more)) == 12
    assert "math" not in toy.asked
    with pytest.raises(JobNotFound, match="search-7"):
        search(MERGE + rest, tmp_path, "search-3", continues="search-7")


def _trials(result: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(result["results"]).read_text())["trials"]
    return found


def test_the_best_of_an_earlier_search_is_scored_with_the_baselines(tmp_path: Path, rest: str) -> None:
    first = search(MERGE + rest, tmp_path)
    second = search(MERGE + rest + "previous: [search-1]\n", tmp_path, "search-2", seed=5)
    (best,) = [each for each in _trials(second) if each["origin"] == "previous"]
    assert best["name"] == "best of search-1"
    assert best["losses"] is not None
    assert first["winner"]["recipe"]["merge_method"] == "task_arithmetic"


def test_a_model_may_be_called_as_an_untuned_merge_is(tmp_path: Path, rest: str) -> None:
    mine = tmp_path / "models" / "ties"
    shutil.copytree(ROOT / "zoo/models/math", mine)
    result = search(MERGE.replace("zoo/models/math", str(mine)) + rest, tmp_path)
    names = [each["name"] for each in result["baselines"]]
    assert names[0] == str(mine)
    assert names.count("ties") == 1


def test_a_search_that_is_stopped_or_fails_leaves_the_results_until_then(
    tmp_path: Path, rest: str, toy: Toy
) -> None:
    file = tmp_path / "home" / "searches" / "search-1" / "results.json"
    running = run(spec(MERGE + rest), context(tmp_path))
    assert isinstance(running, Generator)
    while "trial 12" not in toy.asked:
        next(running)
    running.close()
    found = json.loads(file.read_bytes())
    assert found["spent"]["states"]["asked"] > 0
    assert found["leader"]["by_layer"]["columns"]
    toy.breaks = lambda name: True
    with pytest.raises(JobError, match="failed one after the other"):
        search(MERGE + rest + "most_failed: 2\n", tmp_path)
    assert json.loads(file.read_bytes())["spent"]["states"]["failed"] == 2


def test_a_record_of_something_else_is_not_gone_on_with(tmp_path: Path, rest: str) -> None:
    search(MERGE + rest, tmp_path)
    file = tmp_path / "search.jsonl"
    file.write_text(file.read_text().replace("4", "5", 1))
    with pytest.raises(JobError, match="not what they were when this search began"):
        search(MERGE + rest, tmp_path)


def test_a_record_of_another_version_says_so(
    tmp_path: Path, rest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(MERGE + rest, tmp_path)
    monkeypatch.setattr(ready, "__version__", "9.9.9")
    for again in (
        lambda: search(MERGE + rest, tmp_path),
        lambda: list(JOBS.get("open_test").run(OpenTestSpec("search-1"), context(tmp_path, "test-2"))),
    ):
        with pytest.raises(JobError, match=rf"began with alloyd {__version__}, and this is 9\.9\.9"):
            again()


def test_a_source_that_changes_meanwhile_ends_the_search(tmp_path: Path, rest: str) -> None:
    copy = tmp_path / "math"
    shutil.copytree(ROOT / "zoo/models/math", copy)
    running = run(spec(MERGE.replace("zoo/models/math", str(copy)) + rest), context(tmp_path))
    for _ in zip(range(40), running, strict=False):
        pass
    (weights,) = copy.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(SourceChanged, match="math"):
        list(running)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("finalists: 2", "rungs: [{quantise: mp3}]", "does not quantise to 'mp3'"),
        ("runner: toy", "runner: toi", "unknown runner 'toi'"),
        ("finalists: 2", "objectives: [{metric: beauty}]", "has no metric 'beauty'"),
        ("finalists: 2", "options: {sped: fast}", "has no option 'sped'"),
        ("finalists: 2", "optimiser: {name: cma-es, options: {sigmaa: 1}}", "sigmaa"),
        ("finalists: 2", "previous: [search-9]", "no results of a search 'search-9'"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    tmp_path: Path, rest: str, toy: Toy, old: str, new: str, said: str
) -> None:
    with pytest.raises(AlloydError, match=said):
        list(run(spec(MERGE + rest.replace(old, new)), context(tmp_path)))
    assert toy.runs == 0


def test_splits_that_leak_are_refused(tmp_path: Path, rest: str, toy: Toy) -> None:
    lines = (tmp_path / "validation.jsonl").read_text().splitlines()
    with (tmp_path / "search.jsonl").open("a") as file:
        file.write(lines[3] + "\n")
    with pytest.raises(TaskError, match="leak into each other: validation, task 1"):
        search(MERGE + rest, tmp_path)
    assert toy.runs == 0


def test_the_locked_test_is_scored_once_and_only_when_there_is_a_winner(
    tmp_path: Path, rest: str, toy: Toy
) -> None:
    opening = OpenTestSpec("search-1")
    with pytest.raises(JobError, match="no record of a search 'search-1'"):
        list(JOBS.get("open_test").run(opening, context(tmp_path, "test-2")))
    running = run(spec(MERGE + rest), context(tmp_path))
    for _ in zip(range(40), running, strict=False):
        pass
    running.close()  # type: ignore[attr-defined]
    with pytest.raises(JobError, match="has no winner yet"):
        list(JOBS.get("open_test").run(opening, context(tmp_path, "test-2")))
    search(MERGE + rest, tmp_path)
    asked = len(toy.asked)
    assert not any("test" in str(each) for each in History.read(_record(tmp_path)).entries("note"))
    # Stopped in the middle, it goes on for the same job, and for no other.
    first = JOBS.get("open_test").run(opening, context(tmp_path, "test-2"))
    for _ in zip(range(20), first, strict=False):
        pass
    first.close()
    with pytest.raises(JobError, match=r"was opened at .* by test-2"):
        list(JOBS.get("open_test").run(opening, context(tmp_path, "test-3")))
    *_, last = JOBS.get("open_test").run(opening, context(tmp_path, "test-2"))
    assert isinstance(last, Finished)
    models = last.result["test"]["models"]
    assert models[0]["trial"] == last.result["winner"]["trial"]
    assert len(toy.asked) - asked <= len(models) * 30 + 1
    assert all(figure["n"] == 30 for each in models for figure in each["figures"])
    with pytest.raises(JobError, match="it opens once"):
        list(JOBS.get("open_test").run(opening, context(tmp_path, "test-2")))


def _record(tmp_path: Path) -> Path:
    return tmp_path / "home" / "searches" / "search-1" / "history.db"


def test_a_cancelled_search_leaves_nothing(tmp_path: Path, rest: str) -> None:
    running = run(spec(MERGE + rest), context(tmp_path))
    for _ in zip(range(40), running, strict=False):
        pass
    running.close()  # type: ignore[attr-defined]
    assert _record(tmp_path).is_file()
    discard = JOBS.get("search").discard
    assert discard is not None
    discard(spec(MERGE + rest), context(tmp_path))
    assert not _record(tmp_path).parent.exists()


def test_the_results_stand_before_the_sources_are_read_and_whatever_becomes_of_that(
    tmp_path: Path, rest: str, toy: Toy
) -> None:
    running = run(spec(MERGE + rest), context(tmp_path))
    while not (isinstance(said := next(running), Progress) and said.unit == "bytes"):
        pass
    assert said.total > said.done > 0
    running.close()  # type: ignore[attr-defined]
    found = _results(tmp_path)
    assert found["winner"]["figures"]
    assert all(
        each["digest"] is None and "not read yet" in each["why_not"] for each in found["lineage"]["sources"]
    )
    discard = JOBS.get("search").discard
    assert discard is not None
    discard(spec(MERGE + rest), context(tmp_path))
    assert _results(tmp_path) == found
    # Going on, it never takes back what it had shown, and scores nothing.
    toy.asked.clear()
    for _ in run(spec(MERGE + rest), context(tmp_path)):
        assert _results(tmp_path)["winner"] == found["winner"]
    assert toy.asked == []
    sources = _results(tmp_path)["lineage"]["sources"]
    assert [each["why_not"] for each in sources] == [""] * 3
    assert len({each["digest"] for each in sources}) == 3
    # Opening the test reads nothing, and forgets nothing.
    shutil.rmtree(tmp_path / "home" / "cache")
    opening = JOBS.get("open_test").run(OpenTestSpec("search-1"), context(tmp_path, "test-2"))
    assert not any(isinstance(each, Progress) and each.unit == "bytes" for each in opening)
    assert _results(tmp_path)["lineage"]["sources"] == sources


def test_sources_that_would_take_too_long_to_read_have_no_digest(
    tmp_path: Path, rest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SHARE", "LEAST"):
        monkeypatch.setattr(f"alloyd_daemon.search.publish.{name}", 0.0)
    said = list(run(spec(MERGE + rest), context(tmp_path)))
    notes = [each.text for each in said if isinstance(each, Note) and "no digest" in each.text]
    reasons = [each["why_not"] for each in _results(tmp_path)["lineage"]["sources"]]
    assert len(notes) == len(reasons) == 3
    assert all("too long" in each for each in (*notes, *reasons))


def _results(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_record(tmp_path).with_name("results.json").read_bytes())
    return found


def test_what_is_said_beside_a_spec_stands_in_its_place(tmp_path: Path, rest: str) -> None:
    given = structs.replace(spec(MERGE + rest), optimiser="random", seed=3, items=900, candidates=None)
    planned = next(iter(run(given, context(tmp_path))))
    assert isinstance(planned, Planned)
    assert planned.summary["optimiser"]["name"] == "random"
    assert "900 items" in planned.summary["budget"]
    with pytest.raises(AlloydError, match="a budget of 0 candidates"):
        list(run(structs.replace(given, candidates=0), context(tmp_path)))


def test_baselines_that_cannot_be_are_told(tmp_path: Path, rest: str) -> None:
    said = [each.text for each in run(spec(SOUP + rest), context(tmp_path)) if isinstance(each, Note)]
    assert any("no base_model" in each for each in said)


def test_the_winner_of_what_it_continues_is_not_a_searchs_own(tmp_path: Path, rest: str) -> None:
    search(MERGE + rest, tmp_path)
    more = spec(MERGE + rest, continues="search-1", candidates=12)
    running = run(more, context(tmp_path, "search-2"))
    for _ in zip(range(3), running, strict=False):
        pass
    running.close()  # type: ignore[attr-defined]
    with pytest.raises(JobError, match="search-2 has no winner yet"):
        list(JOBS.get("open_test").run(OpenTestSpec("search-2"), context(tmp_path, "test-3")))


def test_an_emptied_record_is_refused_by_name(tmp_path: Path, rest: str) -> None:
    search(MERGE + rest, tmp_path)
    _record(tmp_path).write_bytes(b"")
    with pytest.raises(StoreError, match=r"history.db does not say which search it is of"):
        list(JOBS.get("open_test").run(OpenTestSpec("search-1"), context(tmp_path, "test-2")))


def test_a_budget_that_was_spent_before_is_told(tmp_path: Path, rest: str) -> None:
    search(MERGE + rest, tmp_path)
    said = list(run(spec(MERGE + rest, continues="search-1", items=10**6), context(tmp_path, "search-2")))
    (note,) = [each.text for each in said if isinstance(each, Note)]
    assert note == "nothing was added to search-1: its budget is 6 candidates or 1,000,000 items in all"
    more = run(spec(MERGE + rest, continues="search-1", candidates=7), context(tmp_path, "search-3"))
    assert not any(isinstance(each, Note) for each in more)


def test_what_the_test_was_lost_to_can_be_cured(
    tmp_path: Path, rest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = search(MERGE + rest, tmp_path)
    winner = result["winner"]["name"]
    opening = OpenTestSpec("search-1")
    broken = Toy(breaks=lambda name: name in (winner, "lang"))
    monkeypatch.setitem(RUNNERS._found, "toy", broken.runner())
    with pytest.raises(JobError, match="the winner, could not be scored on the test"):
        list(JOBS.get("open_test").run(opening, context(tmp_path, "test-2")))
    notes = [each.data["text"] for each in History.read(_record(tmp_path)).entries("note")]
    assert "lang has no test score: lang is broken" in notes
    with pytest.raises(JobError, match="it opens once") as wrong:
        list(JOBS.get("open_test").run(opening, context(tmp_path, "test-3")))
    assert "'alloy resume test-2' goes on with it" in wrong.value.hint
    monkeypatch.setitem(RUNNERS._found, "toy", Toy().runner())
    *_, last = JOBS.get("open_test").run(opening, context(tmp_path, "test-2"))
    assert isinstance(last, Finished)
    assert {"lang", winner} <= {each["name"] for each in last.result["test"]["models"]}


def test_what_was_scored_with_a_changed_source_is_not_kept(tmp_path: Path, rest: str, toy: Toy) -> None:
    whole = search(MERGE + rest, tmp_path, "search-9")
    copy = tmp_path / "math"
    shutil.copytree(ROOT / "zoo/models/math", copy)
    text = MERGE.replace("zoo/models/math", str(copy)) + rest
    running = run(spec(text), context(tmp_path))
    for _ in zip(range(40), running, strict=False):
        pass
    (weights,) = copy.glob("*.safetensors")
    away = weights.rename(tmp_path / "away")
    weights.write_bytes(away.read_bytes()[:-1] + b"\x01")
    with pytest.raises(SourceChanged, match="math"):
        list(running)
    record = History.read(_record(tmp_path))
    told = record.told()
    assert told
    assert not any(record.scores(each.number, 0) for each in record.trials() if each.number not in told)
    away.rename(weights)
    again = search(text, tmp_path)
    assert [each["losses"] for each in _trials(again)] == [each["losses"] for each in _trials(whole)]


def test_a_spec_says_how_far_a_candidate_may_lie_and_how_long_it_may_take(tmp_path: Path, rest: str) -> None:
    wide = MERGE.replace("high: 2", "high: 60") + "optimiser: random\n" + rest
    failed = [each for each in _trials(search(wide, tmp_path)) if each["state"] == "failed"]
    assert failed
    assert all(
        "screen lets through what lies at most 10 times as far" in str(each["error"]) for each in failed
    )
    off = _trials(search(wide + "screen: false\n", tmp_path, "search-2"))
    assert not any(each["state"] == "failed" for each in off)
    slow = [
        each["error"] for each in _trials(search(MERGE + rest + "timeout: 1.0e-9\n", tmp_path, "search-3"))
    ]
    assert all("took longer than 1e-09 s" in str(each) for each in slow)
