"""The job `score`: every item on record, models paired, nothing lost to a kill, bad input refused before work."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapter_factory import write_adapter
from alloyd.errors import AlloydError, PlanError, Problems, SourceError, SourceNotFound, TaskError, UsageError
from alloyd.jobs import Finished, Note, Planned, Progress, Report, ScoreSpec
from alloyd.specs import score_spec
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.runner import RUNNERS
from alloyd_daemon.settings import ModelSettings, ScoringSettings, Settings
from checkpoint_factory import Model, read_checkpoint, write_checkpoint, write_family
from trial_runner import TrialRunner

DRIVER = Path(__file__).parents[1] / "score_driver.py"
MODELS = Path(__file__).parents[2] / "zoo" / "models"
SUMS = Path(__file__).parents[2] / "zoo" / "tasks" / "l2_arithmetic.search.jsonl"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, which is the present one, with models `base`, `tune-0` and `tune-1`, a recipe, and two tasks."""
    write_family(tmp_path, Model())
    (tmp_path / "recipe.yaml").write_text(
        "merge_method: linear\nmodels:\n"
        "  - {model: tune-0, parameters: {weight: 0.5}}\n  - {model: tune-1, parameters: {weight: 0.5}}\n"
    )
    sums = [{"id": f"s{n}", "prompt": f"word{n} :", "answer": "4"} for n in range(10)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, sums)))
    facts = [{"question": f"word{n}", "choices": ["word1", "word2"], "answer": n % 2} for n in range(6)]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, facts)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> TrialRunner:
    """The only runner there is."""
    runner = TrialRunner()
    RUNNERS.open()
    monkeypatch.setattr(RUNNERS, "_found", {"resident": runner.runner()})
    return runner


def context(place: Path, job: str = "score-1") -> Context:
    return Context(place / "home", Settings(), job)


def run(spec: ScoreSpec, where: Context) -> tuple[dict[str, Any], list[Report]]:
    reports = list(JOBS.get("score").run(spec, where))
    finished = reports[-1]
    assert isinstance(finished, Finished)
    return finished.result, reports


def files(home: Path) -> dict[str, bytes]:
    """What a job left, but for what other parts keep."""
    return {path.name: path.read_bytes() for path in (home / "scores").rglob("*") if path.is_file()}


def test_models_and_tasks_are_scored_and_every_model_is_paired(place: Path, trial: TrialRunner) -> None:
    spec = score_spec(["base", "tune-0", "recipe.yaml"], ["sums.jsonl", "facts.jsonl"], {"batch_size": 3})
    result, reports = run(spec, context(place))
    planned = next(each for each in reports if isinstance(each, Planned)).summary
    assert [each["models"] for each in planned["runs"]] == [["base", "tune-0", "recipe.yaml"]]
    assert {Path(each["path"]).name for each in planned["models"]} == {"base", "tune-0", "tune-1"}
    progress = [each for each in reports if isinstance(each, Progress)]
    assert (progress[-1].done, progress[-1].total) == (3 * 22, 3 * 22)
    assert trial.options is not None
    assert trial.options.batch_size == 3
    assert [each["name"] for each in result["tasks"]] == ["sums", "facts"]
    assert [each["name"] for each in result["models"]] == ["base", "tune-0", "recipe.yaml"]
    for model in result["models"]:
        assert (model["runner"], model["error"]) == ("resident", None)
        assert {(each["task"], each["metric"]) for each in model["scores"]} >= {
            ("sums", "score"),
            ("facts", "acc"),
        }
        for each in model["scores"]:
            assert each["low"] <= each["value"] <= each["high"]
    assert {(each["model"], each["against"]) for each in result["comparisons"]} == {
        ("tune-0", "base"),
        ("recipe.yaml", "base"),
    }
    lines = [json.loads(line) for line in Path(result["items"]).read_text().splitlines()]
    assert len(lines) == 3 * 16
    values = [each["values"]["score"] for each in lines if (each["model"], each["task"]) == ("base", "sums")]
    (figure,) = (each["value"] for each in result["models"][0]["scores"] if each["task"] == "sums")
    assert figure == sum(values) / len(values)
    assert list(files(place / "home")) == ["score-1.jsonl"]


def test_models_may_be_named(place: Path, trial: TrialRunner) -> None:
    recipe = {"merge_method": "passthrough", "models": [{"model": "tune-0"}]}
    spec = score_spec({"mother": "base", "child": recipe}, "sums.jsonl", {"limit": 2})
    result, _ = run(spec, context(place))
    assert [each["name"] for each in result["models"]] == ["mother", "child"]
    assert [each["items"] for each in result["tasks"]] == [2]


def test_a_model_is_found_by_its_name_as_in_a_recipe(
    place: Path, trial: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    spec = score_spec(["org/base", str(place / "tune-0")], str(place / "sums.jsonl"), {})
    settings = Settings(models=ModelSettings(roots=(str(place),)))
    result, reports = run(spec, Context(place / "home", settings, "score-1"))
    assert [each["name"] for each in result["models"]] == ["org/base", str(place / "tune-0")]
    planned = next(each for each in reports if isinstance(each, Planned)).summary
    assert {each["path"] for each in planned["models"]} == {str(place / "base"), str(place / "tune-0")}


def test_a_model_with_an_adapter_is_one_however_its_paths_begin(place: Path, trial: TrialRunner) -> None:
    write_adapter(place / "lora", read_checkpoint(place / "base"), rank=2)
    shutil.copytree(place / "base", place / "base+other")
    names = [
        "base+lora",
        f"{place}/base+{place}/lora",
        f"{place}/base+lora",
        f"{place}/base+other",
        "./base+other",
    ]
    result, said = run(score_spec(names, "sums.jsonl", {}), context(place))
    assert [each["error"] for each in result["models"]] == [None] * 5
    assert isinstance(said[0], Planned)
    found = {(each["path"], each["adapter"]) for each in said[0].summary["models"]}
    assert found == {(str(place / "base"), str(place / "lora")), (str(place / "base+other"), None)}


def test_a_folder_of_one_gguf_file_is_that_file(place: Path, trial: TrialRunner) -> None:
    (place / "small").mkdir()
    (place / "small" / "model-Q8_0.gguf").write_bytes(b"GGUF")
    result, _ = run(score_spec("small", "sums.jsonl", {"runner": "resident"}), context(place))
    assert [each["name"] for each in result["models"]] == ["small"]
    (place / "small" / "model-Q4_0.gguf").write_bytes(b"GGUF")
    with pytest.raises(SourceError, match="holds 2 GGUF files"):
        run(score_spec("small", "sums.jsonl", {"runner": "resident"}), context(place))


def test_a_model_that_cannot_be_scored_costs_itself(place: Path, trial: TrialRunner) -> None:
    trial.broken = ["base"]
    result, _ = run(score_spec(["base", "tune-0", "tune-1"], "sums.jsonl", {}), context(place))
    assert result["models"][0]["error"]["message"] == "base is broken"
    assert result["models"][0]["scores"] == []
    assert [(each["model"], each["against"]) for each in result["comparisons"]] == [("tune-1", "tune-0")]


def test_where_none_can_be_scored_the_job_fails_and_may_be_tried_again(
    place: Path, trial: TrialRunner
) -> None:
    trial.broken = ["base", "tune-0"]
    spec = score_spec(["base", "tune-0"], "sums.jsonl", {})
    with pytest.raises(Problems, match="base is broken; tune-0 is broken"):
        run(spec, context(place))
    trial.names = False
    with pytest.raises(Problems, match="base: it is broken; tune-0: it is broken"):
        run(spec, context(place))
    trial.broken = []
    result, _ = run(spec, context(place))
    assert [each["error"] for each in result["models"]] == [None, None]


@pytest.mark.parametrize("stop", [3, 11, 20])
def test_a_stopped_job_goes_on_where_it_was(place: Path, trial: TrialRunner, stop: int) -> None:
    spec = score_spec(["base", "tune-0"], ["sums.jsonl", "facts.jsonl"], {})
    whole, _ = run(spec, context(place, "whole"))
    asked = len(trial.ran)
    trial.ran.clear()
    running = JOBS.get("score").run(spec, context(place, "stopped"))
    for report in running:
        if isinstance(report, Progress) and report.done >= stop:
            running.close()
    assert files(place / "home")["stopped.journal"]
    result, _ = run(spec, context(place, "stopped"))
    assert len(trial.ran) < asked + 8
    written = files(place / "home")
    assert written["stopped.jsonl"] == written["whole.jsonl"]
    assert {**result, "items": ""} == {**whole, "items": ""}


@pytest.mark.parametrize("changed", ["tensors", "config.json", "tokenizer.json"])
def test_a_job_whose_models_changed_meanwhile_begins_anew(
    place: Path, trial: TrialRunner, changed: str
) -> None:
    spec = score_spec(["base", "tune-0"], "sums.jsonl", {})
    running = JOBS.get("score").run(spec, context(place))
    for report in running:
        if isinstance(report, Progress) and report.done >= 8:
            running.close()
    if changed == "tensors":
        write_checkpoint(place / "base", Model(), seed=7)
    else:
        told = json.loads((place / "base" / changed).read_text())
        (place / "base" / changed).write_text(json.dumps({**told, "rms_norm_eps": 0.5}))
    _, reports = run(spec, context(place))
    assert [each.text for each in reports if isinstance(each, Note)] == [
        "models or tasks are not what they were when this job stopped: it begins anew"
    ]


@pytest.mark.parametrize("option", [False, True])
def test_a_tokenizer_that_changed_is_not_mixed_with_what_it_was(
    place: Path, trial: TrialRunner, option: bool
) -> None:
    (place / "files").mkdir()
    (place / "files" / "model.gguf").write_bytes(b"GGUF")
    options: dict[str, Any] = {"options": {"tokenizer": str(place / "base")}} if option else {}
    RUNNERS._found["resident"] = replace(trial.runner(), reads={"tokenizer": "a folder"})
    spec = score_spec(["files/model.gguf"], "sums.jsonl", {"runner": "resident", **options})
    running = JOBS.get("score").run(spec, context(place))
    for report in running:
        if isinstance(report, Progress) and report.done >= 4:
            running.close()
    changed = place / ("base" if option else "files") / "tokenizer.json"
    changed.write_text('{"other": 1}')
    _, reports = run(spec, context(place))
    assert any(isinstance(each, Note) and "begins anew" in each.text for each in reports)


def with_function(place: Path, code: str) -> Context:
    """A daemon whose configuration lists the function `mark` with the body ``code``."""
    (place / "scorer.py").write_text(f"def mark(item, output):\n    return {code}\n")
    listed = ScoringSettings(functions={"mark": f"{place / 'scorer.py'}:mark"})
    return Context(place / "home", Settings(scoring=listed), "score-1")


def test_a_job_whose_function_was_corrected_begins_anew(place: Path, trial: TrialRunner) -> None:
    spec = score_spec(["base"], "function:sums.jsonl", {})
    with pytest.raises(AlloydError, match="division"):
        run(spec, with_function(place, "1 / 0 if item['id'] == 's9' else 0"))
    result, _ = run(spec, with_function(place, "1"))
    assert [each["value"] for each in result["models"][0]["scores"]] == [1.0]


def test_values_that_only_some_items_have_are_left_out_aloud(place: Path, trial: TrialRunner) -> None:
    code = "{'all': 1} | ({'some': 1} if output == '4' else {})"
    result, reports = run(
        score_spec(["base", "tune-0"], "function:sums.jsonl", {}), with_function(place, code)
    )
    assert [each["metric"] for model in result["models"] for each in model["scores"]] == ["all", "all"]
    assert "sums: no figure for some, which some items have no value of" in [
        each.text for each in reports if isinstance(each, Note)
    ]


def test_a_source_that_changes_while_it_is_scored_is_told(place: Path, trial: TrialRunner) -> None:
    running = JOBS.get("score").run(score_spec(["base"], "sums.jsonl", {}), context(place))
    while not isinstance(next(running), Progress):
        pass
    write_checkpoint(place / "base", Model(), seed=7)
    with pytest.raises(SourceError, match="changed"):
        list(running)
    assert files(place / "home") == {}


def test_a_cancelled_score_leaves_nothing(place: Path, trial: TrialRunner) -> None:
    spec = score_spec(["base"], "sums.jsonl", {})
    discard = JOBS.get("score").discard
    assert discard is not None
    for stop in (True, False):
        for report in (running := JOBS.get("score").run(spec, context(place))):
            if stop and isinstance(report, Progress):
                running.close()
        assert files(place / "home")
        discard(spec, context(place))
        assert not any((place / "home" / "scores").iterdir())


@pytest.mark.parametrize(
    ("models", "tasks", "options", "error", "said"),
    [
        ([], ["sums.jsonl"], {}, UsageError, "one model or more"),
        (["base", "base"], ["sums.jsonl"], {}, UsageError, "each named once"),
        (["base"], [], {}, UsageError, "one task or more"),
        (["base"], ["sums.jsonl"], {"limit": 0}, UsageError, "limit must be at least 1"),
        (["base"], ["sums.jsonl"], {"batch_size": 0}, UsageError, "batch size must be at least 1"),
        (["base"], ["sums.jsonl"], {"threads": -1}, UsageError, "threads must be at least 1"),
        (["base"], ["sums.jsonl"], {"threads": 100_000}, UsageError, "threads must be at most 1024"),
        (["base"], ["nowhere.jsonl"], {}, TaskError, "nowhere.jsonl"),
        (["base"], ["exact_macth:sums.jsonl"], {}, AlloydError, "unknown evaluator"),
        (["base"], ["sums.jsonl"], {"runner": "residnt"}, AlloydError, "unknown runner"),
        (["base"], ["sums.jsonl"], {"quantise": "nf5"}, UsageError, "nf5"),
        (["base"], ["sums.jsonl"], {"options": {"patern": "x"}}, UsageError, "no option 'patern'"),
        (["base", "gone", "away"], ["sums.jsonl"], {}, Problems, "gone.*away"),
        (["base", "gone.gguf"], ["sums.jsonl"], {}, SourceNotFound, "there is no file"),
        (["several.yaml"], ["sums.jsonl"], {}, PlanError, "another document"),
    ],
)
def test_what_makes_no_sense_is_refused_before_work(
    place: Path,
    trial: TrialRunner,
    models: list[str],
    tasks: list[str],
    options: dict[str, Any],
    error: type[AlloydError],
    said: str,
) -> None:
    (place / "several.yaml").write_text(
        "name: part\nmerge_method: passthrough\nmodels: [{model: base}]\n---\n"
        "merge_method: linear\nmodels:\n"
        "  - {model: part, parameters: {weight: 1}}\n  - {model: tune-0, parameters: {weight: 1}}\n"
    )
    with pytest.raises(error, match=said) as refused:
        run(score_spec(models, tasks, options), context(place))
    assert refused.value.hint or isinstance(refused.value, Problems)
    assert trial.ran == []
    assert not (place / "home" / "scores").exists()


def kill_at_random(
    place: Path, spec: ScoreSpec, *how: str, seed: int, kills: int, least: float, most: float
) -> None:
    """Kill the job's process at random moments until it ends; its files and result are those of a quiet run."""
    (place / "spec.json").write_bytes(msgspec.json.encode(spec))
    path = os.pathsep.join(part for part in sys.path if part)
    moments = random.Random(seed)

    def start(home: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(DRIVER), str(home), str(place / "spec.json"), *how],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )

    def strike(after: float) -> bool:
        """Kill it so many seconds after it has written something; whether it was still at work."""
        process = start(place / "killed")
        journal = place / "killed" / "scores" / "score-1.journal"
        had = journal.stat().st_size if journal.exists() else 0
        while process.poll() is None and (not journal.exists() or journal.stat().st_size <= had):
            time.sleep(0.01)
        time.sleep(after)
        met = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return met

    quiet, stderr = start(place / "quiet").communicate(timeout=240)
    assert quiet, stderr
    inside = [strike(moments.uniform(least, most)) for _ in range(kills)]
    while not any(inside):  # it was quicker than this process was: from the beginning, and with less patience
        shutil.rmtree(place / "killed")
        inside.append(strike(most / 10))
    said, stderr = start(place / "killed").communicate(timeout=240)
    assert said, stderr
    assert files(place / "killed") == files(place / "quiet")
    assert said.replace("/killed/", "/quiet/") == quiet


def test_a_job_killed_at_any_moment_ends_with_the_same_bytes(place: Path) -> None:
    spec = score_spec(["base", "tune-0", "tune-1"], ["sums.jsonl", "facts.jsonl"], {"batch_size": 2})
    kill_at_random(place, spec, "trial", seed=5, kills=4, least=0.0, most=0.15)


def test_a_real_model_killed_and_resumed_gives_the_same_bytes(place: Path) -> None:
    pytest.importorskip("transformers")
    lang = (
        f"merge_method: task_arithmetic\nbase_model: {MODELS / 'base'}\nmodels:\n"
        f"  - {{model: {MODELS / 'math'}, parameters: {{weight: 1.0}}}}\n"
        f"  - {{model: {MODELS / 'lang'}, parameters: {{weight: 1.0}}}}\n"
    )
    spec = score_spec(
        {"math": MODELS / "math", "merged": lang},
        [f"exact_match:{SUMS}", f"gold_answer:{SUMS}"],
        {"runner": "resident", "batch_size": 4, "limit": 40, "threads": 1},
    )
    kill_at_random(place, spec, seed=3, kills=1, least=0.1, most=0.4)
