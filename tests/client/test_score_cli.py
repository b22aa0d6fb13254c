"""`alloy score` from the command line and `Client.score`: words, tables, JSON, files, and a real model end to end."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alloyd import AsyncClient, Client
from alloyd.cli import main
from alloyd.errors import SourceError, UsageError
from alloyd.jobs import Subject
from alloyd.specs import score_spec
from checkpoint_factory import read_safetensors, write_safetensors
from trial_daemon import TrialDaemon

ROOT = Path(__file__).parents[2]
SUMS = "zoo/tasks/l2_arithmetic.search.jsonl"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home") as running:
        monkeypatch.setenv("ALLOYD_HOME", str(running.home.root))
        monkeypatch.setenv("XDG_RUNTIME_DIR", running.runtime)
        yield running


def test_what_is_named_becomes_a_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "r.yaml").write_text("merge_method: linear\n")
    (tmp_path / "t.jsonl").write_text("{}\n")
    spec = score_spec(
        ["m", "org/n", "x.gguf", "r.yaml", "merge_method: ties\n", {"merge_method": "slerp"}],
        ["t.jsonl", "exact_match:t.jsonl", "lm_eval:arc_easy"],
        {"limit": 3},
    )
    here = str(tmp_path)
    assert spec.subjects[:5] == (
        Subject("m", path=f"{here}/m"),
        Subject("org/n", path="org/n", base_dir=here),
        Subject("x.gguf", path=f"{here}/x.gguf"),
        Subject("r.yaml", recipe="merge_method: linear\n", base_dir=here),
        Subject("recipe", recipe="merge_method: ties\n", base_dir=here),
    )
    assert json.loads(spec.subjects[5].recipe) == {"merge_method": "slerp"}
    assert spec.tasks == (f"{here}/t.jsonl", f"exact_match:{here}/t.jsonl", "lm_eval:arc_easy")
    named = score_spec({"mother": "m"}, "t.jsonl", {"options": {"tokenizer": "m", "pattern": "m"}})
    assert named.options == {"tokenizer": f"{here}/m", "pattern": "m"}
    assert named.subjects == (Subject("mother", path=f"{here}/m"),)
    assert score_spec("m", "t.jsonl", {}).subjects == (Subject("m", path=f"{here}/m"),)
    with pytest.raises(UsageError, match="cannot be read"):
        score_spec(["gone.yaml"], "t.jsonl", {})
    with pytest.raises(UsageError, match="the score job is wrong") as refused:
        score_spec(["m"], "t.jsonl", {"limt": 3})
    assert refused.value.hint == "Did you mean 'limit'?"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--option", "x"], "--option x is not KEY=VALUE"),
        (["--option", "=x"], "--option =x is not KEY=VALUE"),
        (["--option", "a=1", "--option", "a=2"], "each key once"),
        (["--memory", "much"], "much"),
        (["--limit", "x"], "--limit"),
        (["--evaluator", "x"], "does not know '--evaluator'"),
    ],
)
def test_words_that_make_no_sense_start_nothing(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "m", "--task", "t.jsonl", *words]) == 2
    assert said in capsys.readouterr().err


def test_options_reach_the_daemon(
    daemon: TrialDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--task", str(tmp_path / "a.jsonl"), "--task", f"regex:{tmp_path / 'b.jsonl'}"]
    more = ["--runner", "stream", "--quantise", "nf4", "--batch-size", "8", "--threads", "1"]
    chosen = ["--memory", "1GiB", "--option", "pattern=a=b", "--detach", "--json"]
    assert main(["score", str(tmp_path), *words, *more, *chosen]) == 0
    job: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])["value"]
    spec = job["spec"]
    assert spec["tasks"] == [words[1], words[3]]
    assert (spec["runner"], spec["quantise"], spec["batch_size"], spec["threads"]) == ("stream", "nf4", 8, 1)
    assert (spec["memory"], spec["options"]) == (2**30, {"pattern": "a=b"})
    assert [each["path"] for each in spec["subjects"]] == [str(tmp_path)]


def test_options_that_are_paths_start_where_the_command_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = score_spec(["m.gguf"], "t.jsonl", {"options": {"tokenizer": "m", "kv": "f32"}})
    assert spec.options == {"tokenizer": str(tmp_path / "m"), "kv": "f32"}


def test_python_submits_scores_too(daemon: TrialDaemon, tmp_path: Path) -> None:
    with Client() as client:
        job = client.score({"a": tmp_path}, tmp_path / "t.jsonl", limit=2)
        assert job.spec["subjects"] == [{"name": "a", "path": str(tmp_path), "recipe": "", "base_dir": ""}]

    async def ask() -> dict[str, Any]:
        async with AsyncClient() as client:
            return (await client.score([tmp_path], [tmp_path / "t.jsonl"])).spec

    assert asyncio.run(ask())["tasks"] == [str(tmp_path / "t.jsonl")]


def test_a_merge_that_was_never_written_beside_its_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(ROOT)
    out = tmp_path / "items.jsonl"
    words = ["zoo/models/math", "configs/demo/recipe.yaml", "--task", SUMS, "--limit", "8"]
    assert main(["score", *words, "--no-daemon", "--out", str(out)]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].split()[:3] == ["MODEL", "METRIC", "SCORE"]
    assert [line.split()[0] for line in lines[1:]] == ["zoo/models/math", "configs/demo/recipe.yaml"]
    assert "runner   resident" in said.err
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(records) == 16
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_model_that_could_not_be_scored_shows_in_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(ROOT)
    broken = tmp_path / "broken"
    shutil.copytree("zoo/models/math", broken)
    weights = read_safetensors(broken / "model.safetensors")
    weights["model.norm.weight"] = np.full_like(weights["model.norm.weight"], np.nan)
    write_safetensors(broken / "model.safetensors", weights)
    words = ["zoo/models/math", str(broken), "--task", f"gold_answer:{SUMS}", "--limit", "4"]
    assert main(["score", *words, "--no-daemon"]) == SourceError.exit_status
    said = capsys.readouterr().out
    assert "zoo/models/math" in said
    assert f"{broken} could not be scored" in said
