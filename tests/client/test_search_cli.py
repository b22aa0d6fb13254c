"""`alloy search` and `Client.search`: what words become, what is refused, and how a finished search is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alloyd import AsyncClient, Client
from alloyd.cli import main
from alloyd.errors import JobError, UsageError
from alloyd.specs import search_spec
from search.finished_search import end, make
from trial_daemon import TrialDaemon, eventually

SPEC = "recipe: {merge_method: linear}\nbudget: {candidates: 4}\n"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrialDaemon]:
    """One that knows no searches: they fail at once, and their specs are kept."""
    with TrialDaemon(tmp_path / "home") as running:
        monkeypatch.setenv("ALLOYD_HOME", str(running.home.root))
        monkeypatch.setenv("XDG_RUNTIME_DIR", running.runtime)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "spec.yaml").write_text(SPEC)
        yield running


@pytest.fixture
def finished(daemon: TrialDaemon, tmp_path: Path) -> str:
    """The id of a search whose files are there."""
    with Client() as client:
        job = client.search("spec.yaml", candidates=4, seed=3)
        eventually(lambda: client.job(job.id).state.ended)
    folder = daemon.home.root / "searches" / job.id
    with make(folder / "history.db") as history:
        end(history, folder)
    return job.id


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_a_spec_is_a_file_a_text_or_a_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(SPEC)
    one = search_spec("s.yaml", {"candidates": 9, "mode": "async"})
    assert (one.spec, one.base_dir, one.name) == (SPEC, str(tmp_path), "s.yaml")
    assert (one.candidates, one.mode, one.seed) == (9, "async", None)
    assert search_spec(SPEC, {}).spec == SPEC
    assert json.loads(search_spec({"budget": {"items": 3}}, {}).spec) == {"budget": {"items": 3}}
    with pytest.raises(UsageError, match=r"the search spec .*gone.yaml cannot be read"):
        search_spec("gone.yaml", {})
    with pytest.raises(UsageError, match="the search job is wrong") as refused:
        search_spec(SPEC, {"candidate": 3})
    assert refused.value.hint == "Did you mean 'candidates'?"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "what should be searched?"),
        (["s.yaml", "--results", "1"], "not allowed with"),
        (["s.yaml", "--merge", "out", "--detach"], "--merge is for a search that this command waits for"),
        (["--results", "1", "--merge", "out"], "--merge is for a search that this command waits for"),
        (["s.yaml", "--no-daemon"], "a search's files go when it ends"),
        (["--results", "1", "--no-daemon", "--out", "o"], "knows no earlier search"),
        (["--open-test", "1", "--candidates", "3"], "--candidates has no place here"),
        (["--results", "1", "--async"], "--async has no place here"),
        (["s.yaml", "--candidates", "many"], "--candidates"),
        (["s.yaml", "--budget", "3"], "does not know '--budget'"),
        (["gone.yaml"], "gone.yaml cannot be read"),
    ],
)
def test_words_that_make_no_sense_start_nothing(
    words: list[str], said: str, daemon: TrialDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", *words]) == 2
    assert said in capsys.readouterr().err
    with Client() as client:
        assert client.jobs() == []


def test_where_nothing_can_be_put_is_told_before_the_search(
    tmp_path: Path, daemon: TrialDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(SPEC)
    assert main(["search", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "s.yaml")]) == 2
    assert "is no folder" in capsys.readouterr().err
    assert main(["search", str(tmp_path / "s.yaml"), "--merge", str(tmp_path)]) == 6
    assert "is there already" in capsys.readouterr().err
    with Client() as client:
        assert client.jobs() == []


def test_the_schema_of_a_spec_is_printed_without_a_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"tasks", "budget", "recipe"} <= schema["$defs"]["SearchFile"]["properties"].keys()


def test_options_reach_the_daemon(daemon: TrialDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--candidates", "7", "--items", "900", "--seconds", "60", "--optimiser", "de", "--seed", "2"]
    more = ["--async", "--runner", "stream", "--memory", "1GiB", "--threads", "1", "--detach", "--json"]
    assert main(["search", "spec.yaml", *words, *more]) == 0
    spec = last(capsys)["value"]["spec"]
    assert (spec["candidates"], spec["items"], spec["seconds"], spec["seed"]) == (7, 900, 60.0, 2)
    assert (spec["optimiser"], spec["mode"], spec["runner"]) == ("de", "async", "stream")
    assert (spec["memory"], spec["threads"], spec["spec"]) == (2**30, 1, SPEC)


def test_a_finished_search_is_told(
    finished: str, daemon: TrialDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--results", finished]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1].startswith("trial 5 (winner)")
    folder = daemon.home.root / "searches" / finished
    assert f"next: alloy merge {(folder / 'winner.yaml').relative_to(Path.cwd())} OUT" in said.err
    assert "5 candidates (3 scored" in said.err
    assert main(["search", "--results", finished, "--out", "kept", "--json"]) == 0
    assert last(capsys)["value"]["folder"] == str(tmp_path / "kept")
    assert sorted(each.name for each in (tmp_path / "kept").iterdir()) == [
        "results.json",
        "winner.mergekit.yaml",
        "winner.yaml",
    ]
    with Client() as client:
        found = client.results(finished)
    assert found["winner"]["trial"] == 5

    async def ask() -> dict[str, Any]:
        async with AsyncClient() as client:
            return await client.results(finished)

    assert asyncio.run(ask()) == found


def test_a_search_goes_on_from_another(
    finished: str, daemon: TrialDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--extend", finished, "--candidates", "20", "--detach", "--json"]) == 0
    spec = last(capsys)["value"]["spec"]
    assert (spec["continues"], spec["candidates"], spec["seed"], spec["spec"]) == (finished, 20, 3, SPEC)
    assert main(["search", "--extend", finished]) == 2
    assert "how far should the search go on?" in capsys.readouterr().err
    with Client() as client:
        further = client.extend_search(finished, items=5000)
        assert (further.spec["items"], further.spec["candidates"]) == (5000, None)


def test_the_test_of_a_search_is_opened_by_its_id(
    finished: str, daemon: TrialDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    number = finished.rpartition("-")[2]
    assert main(["search", "--open-test", number, "--detach", "--json"]) == 0
    assert last(capsys)["value"]["spec"]["search"] == finished


def test_results_that_are_not_there_are_missed_in_words(daemon: TrialDaemon, tmp_path: Path) -> None:
    with Client() as client:
        job = client.search(SPEC)
        with pytest.raises(JobError, match="has no results yet"):
            client.results(job.id)
        folder = daemon.home.root / "searches" / job.id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text("{")
        with pytest.raises(JobError, match="cannot be read"):
            client.results(job.id)
        for other in ("[]", '{"schema": 2}'):
            (folder / "results.json").write_text(other)
            with pytest.raises(JobError, match="is not what this version reads"):
                client.results(job.id)
