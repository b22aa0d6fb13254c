"""Every registered evaluator declares itself, reads, asks and scores as the door promises."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from alloyd.errors import AlloydError, TaskError, UsageError
from alloyd_daemon.evaluator import EVALUATORS, Choices, Task
from alloyd_daemon.scoring.requests import Answer, Likelihood, Prompt, Request, Written
from alloyd_daemon.scoring.summary import summarise
from alloyd_daemon.tasks import resolve

pytestmark = pytest.mark.filterwarnings("ignore")  # the harness and its libraries warn about themselves

WRITTEN = [
    {"id": "one", "prompt": "1 + 1 =", "answer": "2"},
    {"id": "two", "prompt": "2 + 2 =", "answer": "4"},
    {"id": "three", "prompt": "3 + 3 =", "answer": "6"},
]
LIKELY = [{"id": each["id"], "context": each["prompt"], "answer": each["answer"]} for each in WRITTEN]
ITEMS: dict[str, list[dict[str, Any]]] = {
    "contains": WRITTEN,
    "exact_match": WRITTEN,
    "last_number": WRITTEN,
    "regex": WRITTEN,
    "function": WRITTEN,
    "gold_answer": LIKELY,
    "lm_eval": LIKELY,
    "multiple_choice": [{**each, "choices": ["2", "4", "6"]} for each in LIKELY],
    "perplexity": [{"id": each["id"], "text": f"{each['prompt']} {each['answer']}"} for each in WRITTEN],
}
OPTIONS: dict[str, dict[str, Any]] = {"regex": {"pattern": r"\d+"}}

HARNESS_TASK = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: sums.jsonl}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{context}}"
doc_to_target: " {{answer}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""


@pytest.fixture(autouse=True)
def data_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def written(folder: Path, name: str) -> tuple[str, Choices]:
    """A task of the evaluator ``name`` in ``folder``: how to name it, and what to choose."""
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps(each) + "\n" for each in ITEMS[name])
    (folder / "sums.jsonl").write_text(lines, encoding="utf-8")
    (folder / "scorer.py").write_text("def length(item, output):\n    return len(output)\n")
    source = folder / "sums.jsonl"
    if name == "lm_eval":
        source = folder / "sums.yaml"
        source.write_text(HARNESS_TASK)
    functions = {"length": f"{folder / 'scorer.py'}:length"}
    return f"{name}:{source}", Choices(options=OPTIONS.get(name, {}), functions=functions)


def answer(request: Request, place: int) -> Answer:
    if isinstance(request, Prompt):
        return Written(f"{place} and 4")
    return Likelihood(-1.0 - place, place % 2 == 0, 3)


def test_every_evaluator_has_an_example_here() -> None:
    assert sorted(ITEMS) == list(EVALUATORS.names())


@pytest.mark.parametrize("name", EVALUATORS.names())
def test_an_evaluator_declares_itself(name: str) -> None:
    evaluator = EVALUATORS.get(name)
    assert evaluator.name == name
    assert evaluator.summary
    assert all(about for about in evaluator.options.values())


@pytest.mark.parametrize("name", EVALUATORS.names())
def test_items_are_read_asked_and_scored(name: str, tmp_path: Path) -> None:
    text, choices = written(tmp_path, name)
    ((evaluator, task),) = resolve([text], choices)
    assert (evaluator.name, task.evaluator, task.name) == (name, name, "sums")
    assert len({each.id for each in task.items}) == 3
    assert len({each.content for each in task.items}) == 3
    assert all(each.where for each in task.items)
    asked = evaluator.requests(task)
    assert len(asked) == 3
    assert all(requests for requests in asked)
    scores = [
        evaluator.score(task, place, [answer(request, place) for request in requests])
        for place, requests in enumerate(asked)
    ]
    assert [each.id for each in scores] == [each.id for each in task.items]
    assert all(isinstance(value, float) for each in scores for value in each.values.values())
    found = summarise(task.metrics, scores)
    assert found
    assert {each.metric.name for each in found} >= {each.name for each in task.metrics}
    for figure in found:
        assert math.isfinite(figure.value)
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high
    again = [
        evaluator.score(task, place, [answer(request, place) for request in requests])
        for place, requests in enumerate(asked)
    ]
    assert again == scores, "scoring one model leaves a trace on the next"


@pytest.mark.parametrize("name", EVALUATORS.names())
def test_a_limit_takes_the_first_items(name: str, tmp_path: Path) -> None:
    text, choices = written(tmp_path, name)
    limited = Choices(limit=2, options=choices.options, functions=choices.functions)
    ((_, all_items),) = resolve([text], choices)
    ((_, some),) = resolve([text], limited)
    assert [each.id for each in some.items] == [each.id for each in all_items.items[:2]]


@pytest.mark.parametrize("name", EVALUATORS.names())
def test_ids_and_contents_do_not_depend_on_the_file_or_the_place(name: str, tmp_path: Path) -> None:
    def by_id(task: Task) -> dict[str, str]:
        return {each.id: each.content for each in task.items}

    text, choices = written(tmp_path / "here", name)
    ((_, here),) = resolve([text], choices)
    text, choices = written(tmp_path / "there", name)
    lines = (tmp_path / "there" / "sums.jsonl").read_text().splitlines()
    (tmp_path / "there" / "sums.jsonl").write_text("\n".join(reversed(lines)))
    ((_, there),) = resolve([text], choices)
    assert by_id(there) == by_id(here)
    assert [each.id for each in there.items] == [each.id for each in reversed(here.items)]


@pytest.mark.parametrize("name", EVALUATORS.names())
def test_an_unknown_option_is_refused_with_the_nearest(name: str, tmp_path: Path) -> None:
    text, choices = written(tmp_path, name)
    known = EVALUATORS.get(name).options
    wrong = f"{max(known, key=len)}x" if known else "anything"
    with pytest.raises(UsageError, match=f"'{name}' has no option '{wrong}'") as refused:
        resolve([text], Choices(options={**choices.options, wrong: "1"}, functions=choices.functions))
    assert refused.value.hint == (f"Did you mean '{wrong[:-1]}'?" if known else "These take no options.")


@pytest.mark.parametrize("name", [name for name in EVALUATORS.names() if name != "lm_eval"])
def test_a_bad_line_is_named_by_every_reader(name: str, tmp_path: Path) -> None:
    text, choices = written(tmp_path, name)
    for line, said in (('{"id": "z"}', "is missing"), ("[]", "expected a JSON object"), ("{", "not JSON")):
        written(tmp_path, name)
        with (tmp_path / "sums.jsonl").open("a") as file:
            file.write(line)
        # Also past the limit: a file is checked whole.
        limited = Choices(limit=1, options=choices.options, functions=choices.functions)
        with pytest.raises(TaskError, match=rf"sums\.jsonl, line 4: .*{said}") as refused:
            resolve([text], limited)
        assert refused.value.hint


@pytest.mark.parametrize("name", ["gold_answer", "lm_eval", "multiple_choice", "perplexity"])
@pytest.mark.parametrize("logprob", [math.nan, -math.inf])
def test_a_likelihood_that_is_no_number_is_refused_with_its_place(
    name: str, logprob: float, tmp_path: Path
) -> None:
    text, choices = written(tmp_path, name)
    ((evaluator, task),) = resolve([text], choices)
    requests = evaluator.requests(task)[1]
    wrong = [Likelihood(logprob, False, 3) for _ in requests]
    if math.isinf(logprob) and name in ("lm_eval", "multiple_choice"):
        # Shares are decided by comparison, which bears a probability of 0.
        assert set(evaluator.score(task, 1, wrong).values.values()) <= {0.0, 1.0}
        return
    with pytest.raises(TaskError, match=r"(line 2|document 1): .*(log-likelihood is)"):
        evaluator.score(task, 1, wrong)


def test_a_bare_file_goes_to_the_evaluator_that_its_keys_tell(tmp_path: Path) -> None:
    told = {
        "exact_match": WRITTEN,
        **{name: ITEMS[name] for name in ("gold_answer", "multiple_choice", "perplexity")},
    }
    for name in told:
        text, choices = written(tmp_path, name)
        ((evaluator, _),) = resolve([text.partition(":")[2]], choices)
        assert evaluator.name == name
    keys = [frozenset(each[0]) for each in ITEMS.values()]
    for each in keys:
        assert sum(evaluator.recognises(each) for _, evaluator in EVALUATORS.items()) == 1


def test_keys_that_tell_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"input": "x", "output": "y"}')
    with pytest.raises(TaskError, match=r"t\.jsonl, line 1: the keys input, output do not tell") as refused:
        resolve([str(tmp_path / "t.jsonl")], Choices())
    assert "EVALUATOR:t.jsonl" in refused.value.hint


def test_names_and_limits_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    text, choices = written(tmp_path, "perplexity")
    for names, limit, said in (
        ([], None, "one task or more"),
        ([text, text], None, "once"),
        ([text], 0, "at least 1"),
    ):
        with pytest.raises(UsageError, match=said):
            resolve(names, Choices(limit=limit))
    with pytest.raises(AlloydError, match="unknown evaluator 'perplexty'") as refused:
        resolve([text.replace("perplexity", "perplexty")], choices)
    assert refused.value.hint == "Did you mean 'perplexity'?"


def test_options_may_be_for_one_of_several_tasks(tmp_path: Path) -> None:
    one, _ = written(tmp_path / "one", "perplexity")
    two, _ = written(tmp_path / "two", "regex")
    found = resolve([one, two], Choices(options={"pattern": r"\d+", "stop": "."}))
    assert [task.evaluator for _, task in found] == ["perplexity", "regex"]
