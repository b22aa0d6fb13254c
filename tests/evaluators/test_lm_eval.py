"""Tasks of lm-evaluation-harness that cannot be scored are refused before work begins, and nothing is downloaded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from alloyd.errors import TaskError, UsageError
from alloyd_daemon.evaluator import Choices, Evaluator, Task
from alloyd_daemon.scoring.requests import Prompt, Written
from alloyd_daemon.tasks import resolve

pytestmark = pytest.mark.filterwarnings("ignore")  # the harness and its libraries warn about themselves

TASK = """
task: t
dataset_path: json
dataset_kwargs: {{data_files: {{test: t.jsonl}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer}}}}"
{more}
"""
MEAN = "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]"


@pytest.fixture(autouse=True)
def data_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def read(folder: Path, text: str) -> tuple[Evaluator, Task]:
    (folder / "t.yaml").write_text(text)
    (folder / "t.jsonl").write_text('{"prompt": "a", "answer": "1"}\n{"prompt": "a", "answer": "1"}\n')
    (found,) = resolve([f"lm_eval:{folder / 't.yaml'}"], Choices())
    return found


def test_data_is_never_downloaded(tmp_path: Path) -> None:
    import huggingface_hub.constants

    before = (huggingface_hub.constants.HF_HUB_OFFLINE, os.environ.get("HF_HUB_OFFLINE"))
    text = TASK.format(kind="generate_until", more=MEAN).replace(
        "dataset_path: json", "dataset_path: some/where"
    )
    with pytest.raises(TaskError, match=r"cannot load .*t\.yaml.*some/where.*OfflineMode") as refused:
        read(tmp_path, text.replace("dataset_kwargs", "metadata"))
    assert "must be on this machine" in refused.value.hint
    assert (huggingface_hub.constants.HF_HUB_OFFLINE, os.environ.get("HF_HUB_OFFLINE")) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("task: [", "cannot load"),
        ("- 1", "cannot load"),
        ("group: g\ntask: [a, b]", "is no task"),
        (TASK.format(kind="generate", more=MEAN), "invalid output_type 'generate'"),
        (TASK.format(kind="generate_until", more=MEAN + "\nunsafe_code: true"), "runs what the model writes"),
        (
            TASK.format(
                kind="generate_until",
                more="metric_list: [{metric: bleu, aggregation: bleu, higher_is_better: true}]",
            ),
            r"no metric with a value for each item \(bleu\)",
        ),
        (TASK.format(kind="generate_until", more=MEAN).replace("prompt}}", "promt}}"), "promt"),
        (TASK.format(kind="generate_until", more=MEAN).replace("t.jsonl", "gone.jsonl"), r"gone\.jsonl"),
    ],
)
def test_a_task_file_that_lies_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=said) as refused:
        read(tmp_path, text)
    assert "t.yaml" in refused.value.message


def test_a_task_that_samples_is_refused(tmp_path: Path) -> None:
    more = MEAN + "\ngeneration_kwargs: {do_sample: true, temperature: 0.7}"
    evaluator, task = read(tmp_path, TASK.format(kind="generate_until", more=more))
    with pytest.raises(TaskError, match="draws its answers at random"):
        evaluator.requests(task)


def test_documents_that_stand_twice_keep_ids_apart(tmp_path: Path) -> None:
    evaluator, task = read(tmp_path, TASK.format(kind="generate_until", more=MEAN))
    one, two = task.items
    assert two.id == f"{one.id}#2"
    assert one.content == two.content
    assert evaluator.requests(task)[0] == (Prompt("a", ("\n\n",), 256),)
    assert evaluator.score(task, 0, [Written("1")]).values == {"exact_match": 1.0}
    assert evaluator.score(task, 0, [Written("2")]).values == {"exact_match": 0.0}


def test_names_are_looked_up_in_the_harness() -> None:
    for name, said, hint in (
        ("hellaswg", "knows no task 'hellaswg'", "hellaswag"),
        ("blimp", "'blimp' is a group of tasks", "blimp_"),
        ("hellaswag", "cannot load 'hellaswag'", "must be on this machine"),
    ):
        with pytest.raises(TaskError, match=said) as refused:
            resolve([f"lm_eval:{name}"], Choices())
        assert hint in refused.value.hint


def test_a_missing_harness_is_told_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "lm_eval"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UsageError, match="'lm_eval' needs the library 'lm_eval") as refused:
        read(tmp_path, TASK.format(kind="generate_until", more=MEAN))
    assert refused.value.hint == "pip install 'alloyd[lm-eval]'"
