"""`alloy report`: the story of a real merge, of one that failed, and of throw-away jobs in every state, as one file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from alloyd import Client
from alloyd.cli import main
from alloyd.errors import JobNotFound, OutputError, UsageError
from alloyd.jobs import JobState
from alloyd.page import plotly_script
from alloyd.page.sections import head, sections
from alloyd.page.story import gather
from alloyd_daemon.search.results import results
from extras import need
from page.real_stories import FOLDER, NAMES, figures, told
from search.finished_search import make, searched
from trial_daemon import TrialDaemon, eventually, trial

need("page", "plotly")

ROOT = Path(__file__).parents[2]
RECIPE = f"""
merge_method: task_arithmetic
base_model: {ROOT}/zoo/models/base
models:
  - model: {ROOT}/zoo/models/math
    parameters: {{weight: [0.2, 1.0]}}
  - model: {ROOT}/zoo/models/lang
    parameters: {{weight: 0.5}}
dtype: bfloat16
"""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, and an ordinary daemon that the command line starts."""
    with tempfile.TemporaryDirectory(prefix="alloyd-") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        monkeypatch.chdir(tmp_path)
        yield tmp_path
        main(["stop", "--now"])


def test_a_merge_and_one_that_failed_are_each_a_file(
    service: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (service / "sum.yaml").write_text(RECIPE)
    (service / "bad.yaml").write_text(RECIPE.replace("models/lang", "models/lamg"))
    assert main(["merge", "sum.yaml", "merged", "--threads", "1"]) == 0
    assert main(["merge", "bad.yaml", "other", "--threads", "1"]) != 0
    capsys.readouterr()

    assert main(["report", "merge-1"]) == 0
    path = service / "merge-1.html"
    assert capsys.readouterr().out.strip() == str(path)
    text = path.read_text(encoding="utf-8")
    assert "Merged from 3 models by task_arithmetic" in text
    assert "weight, layer by layer" in text
    assert not [each for each in os.listdir(service) if each.startswith(".")]

    assert main(["verify", "merged"]) == 0
    assert main(["plan", "sum.yaml"]) == 0
    with Client() as client:
        assert says(client, "verify-3").startswith("All of it (")
        assert "weight, layer by layer" in figures(gather(client, "plan-4"))
        assert says(client, "plan-4").startswith("It would read 14.6 MB and write ")
    capsys.readouterr()

    (service / "pages").mkdir()
    assert main(["report", "2", "--out", "pages", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["value"]
    assert told["path"] == str(service / "pages" / "merge-2.html")
    failed = Path(told["path"]).read_text(encoding="utf-8")
    assert len(failed.encode()) == told["bytes"]
    assert "E_SOURCE_NOT_FOUND" in failed
    assert "What helps: " in failed

    assert main(["report", "merge-1", "--out", "nowhere/page.html"]) == OutputError.exit_status
    assert "nowhere/page.html: No such file or directory" in capsys.readouterr().err
    assert main(["report", "merge-9"]) == JobNotFound.exit_status
    assert not (service / "merge-9.html").exists()


def test_a_story_is_told_in_every_state(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon, daemon.client() as client:
        running = client.submit(trial(tmp_path / "long", 10_000, pause=0.05))
        waiting = client.submit(trial(tmp_path / "after"), after=[running.id])
        eventually(
            lambda: client.job(running.id).state is JobState.RUNNING and client.job(running.id).progress
        )
        assert says(client, running.id).endswith(".")
        assert "% is done" in says(client, running.id)
        assert says(client, waiting.id).startswith("It waits")
        client.pause(running.id)
        eventually(lambda: client.job(running.id).state is JobState.PAUSED)
        assert f"'alloy resume {running.id}' goes on" in says(client, running.id)
        client.cancel(running.id)
        eventually(lambda: client.job(waiting.id).state is JobState.FAILED)
        assert says(client, running.id) == "It was cancelled."
        assert running.id in says(client, waiting.id)
        with pytest.raises(JobNotFound):
            gather(client, "merge-99")


def says(client: Client, job: str) -> str:
    """The sentence at the top of a job's page, all of which is made."""
    story = gather(client, job)
    assert sections(story)
    return head(story).says


def test_without_plotly_one_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plotly_script, "find_spec", lambda name: None)
    assert main(["report", "merge-1"]) == UsageError.exit_status
    said = capsys.readouterr().err
    assert "the page needs the library 'plotly', which is not installed" in said
    assert "pip install 'alloyd[page]'" in said


def test_the_stories_are_what_a_search_leaves_today(tmp_path: Path) -> None:
    """Keys that a real story lacks, or has too much, say that it is of another version."""
    need("search", "sklearn")
    with make(tmp_path / "history.db") as history:
        today = results(history, searched(), winner=5)
    kept = told("search").results or {}
    assert kept.keys() - {"recipes"} == today.keys()
    assert kept["winner"].keys() - {"by_layer"} == today["winner"].keys()
    assert kept["trials"][0].keys() | {"identity"} == today["trials"][0].keys()
    assert kept["convergence"][0].keys() == today["convergence"][0].keys()


def test_the_stories_hold_no_path_of_a_real_machine() -> None:
    for file in FOLDER.glob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert "/tmp/" not in text
        assert set(json.loads(text)) >= {"job", "told", "events", "samples"}
    assert {told(name).job.kind for name in NAMES} == {"merge", "score", "search", "open_test", "kinship"}
    assert figures(told("failed")).keys() <= {"Memory"}
