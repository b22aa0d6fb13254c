"""The runner that was named, or one that suits: what cannot be done is refused before work."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alloyd.errors import AlloydError, UsageError
from alloyd_daemon.candidate import GgufFile
from alloyd_daemon.runner import RUNNERS
from alloyd_daemon.scoring.choose import group
from trial_runner import TrialRunner

RECIPE: Any = SimpleNamespace(name="recipe", checkpoint=None)
FOLDER: Any = SimpleNamespace(name="folder", checkpoint=Path("/folder"))
FILE = GgufFile("file", Path("/file.gguf"))


@pytest.fixture(autouse=True)
def doors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resident runner that writes, a stream that does not, and one of GGUF files that quantises to other types."""
    trial = TrialRunner()
    found = {
        "resident": trial.runner("resident"),
        "stream": trial.runner("stream", generates=False),
        "gguf": trial.runner("gguf"),
    }
    object.__setattr__(found["gguf"], "quantises", ("Q4_K_M", "Q8_0"))
    RUNNERS.open()
    monkeypatch.setattr(RUNNERS, "_found", found)
    monkeypatch.setattr(RUNNERS, "_absent", {})


@pytest.mark.parametrize(
    ("subjects", "choice", "wanted"),
    [
        ([FOLDER], {}, "resident"),
        ([RECIPE], {}, "stream"),
        ([FOLDER, RECIPE], {}, "stream"),
        ([RECIPE], {"generates": True}, "resident"),
        ([FOLDER], {"quantise": "nf4"}, "resident"),
        ([RECIPE], {"quantise": "nf4"}, "stream"),
        ([RECIPE], {"quantise": "Q8_0"}, "gguf"),
        ([FILE], {"generates": True}, "gguf"),
        ([RECIPE], {"runner": "resident"}, "resident"),
        ([RECIPE, FILE], {"runner": "gguf", "quantise": "Q8_0"}, "gguf"),
    ],
)
def test_what_suits_is_chosen(subjects: list[Any], choice: dict[str, Any], wanted: str) -> None:
    asked = {"runner": "auto", "quantise": None, "generates": False, **choice}
    (one,) = group(subjects, **asked)
    assert (one.runner.name, one.subjects) == (wanted, tuple(subjects))


def test_files_and_models_go_to_two_runners() -> None:
    groups = group([FOLDER, FILE, RECIPE], runner="auto", quantise=None, generates=False)
    assert [(each.runner.name, each.subjects) for each in groups] == [
        ("stream", (FOLDER, RECIPE)),
        ("gguf", (FILE,)),
    ]


@pytest.mark.parametrize(
    ("subjects", "choice", "said", "hint"),
    [
        ([FOLDER], {"runner": "residnet"}, "unknown runner 'residnet'", "'resident'"),
        ([RECIPE], {"runner": "stream", "generates": True}, "writes no text", "gguf, resident"),
        ([RECIPE], {"runner": "stream", "quantise": "Q8_0"}, "does not quantise to 'Q8_0'", "nf4"),
        ([RECIPE], {"quantise": "nf5"}, "nothing quantises to 'nf5'", "'nf4'"),
        ([FILE], {"quantise": "nf4"}, "is a GGUF file", "--quantise"),
    ],
)
def test_what_cannot_be_done_is_refused(
    subjects: list[Any], choice: dict[str, Any], said: str, hint: str
) -> None:
    asked = {"runner": "auto", "quantise": None, "generates": False, **choice}
    with pytest.raises(AlloydError, match=said) as refused:
        group(subjects, **asked)
    assert hint in refused.value.hint


def test_where_nothing_writes_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = TrialRunner().runner("stream", generates=False)
    monkeypatch.setattr(RUNNERS, "_found", {"stream": trial})
    with pytest.raises(UsageError, match="no runner here can write"):
        group([RECIPE], runner="auto", quantise=None, generates=True)
