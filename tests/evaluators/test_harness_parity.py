"""The same items on the same model: alloyd's figures and lm-evaluation-harness's are the same numbers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from alloyd_daemon.evaluator import Choices, ItemScore
from alloyd_daemon.scoring.summary import figures
from alloyd_daemon.tasks import resolve
from plain_answers import MODELS, answers, model_and_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")  # the harness and its libraries warn about themselves

NAME = "math"
TASKS = MODELS.parent / "tasks"
PROMPTS = [
    json.loads(line)
    for line in (TASKS / "l1_arithmetic.search.jsonl").read_text(encoding="utf-8").splitlines()
][:24]

HEAD = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {name}.jsonl}}
test_split: test
output_type: {kind}
"""
METRIC = "  - {{metric: {}, aggregation: {}, higher_is_better: {}}}\n"


@cache
def harness_model() -> Any:
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = model_and_tokenizer(NAME)
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu")


def harness_figures(folder: Path, name: str) -> dict[str, float]:
    """What the harness itself says of the task file, its data named absolutely."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    text = (folder / f"{name}.yaml").read_text().replace(f"{name}.jsonl", str(folder / f"{name}.jsonl"))
    (folder / f"{name}.absolute.yaml").write_text(text)
    found = simple_evaluate(
        model=harness_model(),
        tasks=[str(folder / f"{name}.absolute.yaml")],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )["results"][name]
    return {
        key.removesuffix(",none"): value
        for key, value in found.items()
        if isinstance(value, float) and "stderr" not in key
    }


def our_figures(task_name: str, **options: Any) -> tuple[dict[str, float], list[ItemScore]]:
    """What alloyd says of a task, with the answers of the plain loop."""
    ((evaluator, task),) = resolve([task_name], Choices(options=options))
    scores = []
    for place, requests in enumerate(evaluator.requests(task)):
        scores.append(evaluator.score(task, place, answers(NAME, requests)))
    assert [each.id for each in scores] == [each.id for each in task.items]
    return dict(figures(task.metrics, scores)), scores


@pytest.fixture(autouse=True)
def data_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(folder: Path, name: str, yaml: str, items: list[dict[str, Any]]) -> None:
    (folder / f"{name}.yaml").write_text(yaml, encoding="utf-8")
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in items)
    (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def texts() -> list[dict[str, Any]]:
    """Short texts, and one that takes several windows of the model's 256 tokens."""
    short = [{"text": f"{each['prompt']} {each['answer']}"} for each in PROMPTS[:12]]
    return [*short, {"text": "\n".join(f"{each['prompt']} {each['answer']}" for each in PROMPTS)}]


def choices_of(each: dict[str, Any]) -> dict[str, Any]:
    answer = int(each["answer"])
    choices = [*(str(other) for other in range(max(0, answer - 2), answer + 2)), "many keys", "ᏦᎳ"]
    return {"context": each["prompt"], "choices": choices, "answer": choices.index(str(answer))}


def test_perplexities_are_the_harness_s(tmp_path: Path) -> None:
    metrics = "".join(
        METRIC.format(name, kind, "false")
        for name, kind in (
            ("word_perplexity", "weighted_perplexity"),
            ("byte_perplexity", "weighted_perplexity"),
            ("bits_per_byte", "bits_per_byte"),
        )
    )
    head = HEAD.format(name="texts", kind="loglikelihood_rolling")
    write(
        tmp_path,
        "texts",
        f'{head}doc_to_text: ""\ndoc_to_target: "{{{{text}}}}"\nmetric_list:\n{metrics}',
        texts(),
    )
    theirs = harness_figures(tmp_path, "texts")
    assert set(theirs) == {"word_perplexity", "byte_perplexity", "bits_per_byte"}
    ours, scores = our_figures(str(tmp_path / "texts.jsonl"))
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=1e-6)
    tokens = sum(each.values["tokens"] for each in scores)
    nats = sum(each.values["nats"] for each in scores)
    assert ours["token_perplexity"] == pytest.approx(2.718281828459045 ** (nats / tokens))
    through, _ = our_figures(f"lm_eval:{tmp_path / 'texts.yaml'}")
    assert through == pytest.approx(theirs, rel=1e-6)


def test_multiple_choice_is_the_harness_s(tmp_path: Path) -> None:
    metrics = "".join(METRIC.format(name, "mean", "true") for name in ("acc", "acc_norm", "acc_bytes"))
    head = HEAD.format(name="choices", kind="multiple_choice")
    body = f'doc_to_text: "{{{{context}}}}"\ndoc_to_choice: choices\ndoc_to_target: answer\nmetric_list:\n{metrics}'
    write(tmp_path, "choices", head + body, [choices_of(each) for each in PROMPTS])
    theirs = harness_figures(tmp_path, "choices")
    assert set(theirs) == {"acc", "acc_norm", "acc_bytes"}
    assert 0 < theirs["acc"] < 1
    ours, scores = our_figures(str(tmp_path / "choices.jsonl"))
    assert ours == pytest.approx(theirs, rel=1e-6)
    through, their_scores = our_figures(f"lm_eval:{tmp_path / 'choices.yaml'}")
    assert through == pytest.approx(theirs, rel=1e-6)
    assert [each.values for each in their_scores] == [each.values for each in scores]


def test_examples_in_the_prompt_are_the_harness_s(tmp_path: Path) -> None:
    metrics = METRIC.format("acc", "mean", "true")
    head = HEAD.format(name="shots", kind="multiple_choice") + "num_fewshot: 2\nfewshot_split: test\n"
    body = f'doc_to_text: "{{{{context}}}}"\ndoc_to_choice: choices\ndoc_to_target: answer\nmetric_list:\n{metrics}'
    write(tmp_path, "shots", head + body, [choices_of(each) for each in PROMPTS])
    theirs = harness_figures(tmp_path, "shots")
    ours, _ = our_figures(f"lm_eval:{tmp_path / 'shots.yaml'}")
    assert ours == pytest.approx(theirs, rel=1e-6)
    none, _ = our_figures(f"lm_eval:{tmp_path / 'shots.yaml'}", num_fewshot="0")
    assert none != ours


def test_gold_answers_are_the_harness_s(tmp_path: Path) -> None:
    metrics = METRIC.format("perplexity", "perplexity", "false") + METRIC.format("acc", "mean", "true")
    head = HEAD.format(name="gold", kind="loglikelihood")
    body = f'doc_to_text: "{{{{context}}}}"\ndoc_to_target: "{{{{\' \' + answer}}}}"\nmetric_list:\n{metrics}'
    write(
        tmp_path,
        "gold",
        head + body,
        [{"context": each["prompt"], "answer": f"{each['answer']} keys"} for each in PROMPTS],
    )
    theirs = harness_figures(tmp_path, "gold")
    ours, _ = our_figures(str(tmp_path / "gold.jsonl"))
    assert 2.718281828459045 ** -ours["logprob"] == pytest.approx(theirs["perplexity"], rel=1e-6)
    assert ours["greedy"] == theirs["acc"]
    through, _ = our_figures(f"lm_eval:{tmp_path / 'gold.yaml'}")
    assert through == pytest.approx(theirs, rel=1e-6)


def test_generation_with_filters_is_the_harness_s(tmp_path: Path) -> None:
    metrics = METRIC.format("exact_match", "mean", "true")
    head = HEAD.format(name="written", kind="generate_until")
    body = """doc_to_text: "{{prompt}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["</s>", " ."], do_sample: false, max_gen_toks: 4}
filter_list:
  - name: strict
    filter: [{function: take_first}]
  - name: number
    filter: [{function: regex, regex_pattern: "(\\\\d+)"}, {function: take_first}]
metric_list:
"""
    items = [{"prompt": each["prompt"], "answer": each["answer"]} for each in PROMPTS]
    write(tmp_path, "written", head + body + metrics, items)
    theirs = harness_figures(tmp_path, "written")
    ours, scores = our_figures(f"lm_eval:{tmp_path / 'written.yaml'}")
    assert set(ours) == {"exact_match,strict", "exact_match,number"}
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert ours["exact_match,number"] > 0
    assert all(each.output for each in scores)
