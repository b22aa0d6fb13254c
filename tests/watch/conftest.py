"""A daemon whose jobs only make their output and note down that they did, or the real one's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trial_daemon import TrialDaemon

QUICK = (
    sys.executable,
    "-c",
    "from trial_recipes import DOOR; from alloyd_daemon.child import main; main(DOOR)",
)


@pytest.fixture
def daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[TrialDaemon]:
    """One with a home of its own; a parameter is the command of its jobs."""
    monkeypatch.setattr(TrialDaemon, "child", getattr(request, "param", QUICK))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with TrialDaemon(tmp_path / "home") as running:
        yield running
