"""What a command that waits for its job says meanwhile: what the job waits for, and a bar that keeps its share."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console as Terminal

from alloyd import cli_work
from alloyd.console import Console
from alloyd.errors import WaitTimedOut
from alloyd.jobs import Event, Job, JobState
from alloyd.near import near
from alloyd.render_live import Bar

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


class Slow:
    """A client whose job waits until it has been looked at three times."""

    def __init__(self) -> None:
        self.looks: list[float | None] = []

    def events(self, job: str, *, since: int, follow: bool, timeout: float | None) -> Iterator[Event]:
        self.looks.append(timeout)
        if len(self.looks) < 4:
            raise WaitTimedOut("not yet")
        yield Event(9, job, "state", NOW, {"state": "running", "reason": ""})

    def job(self, name: str) -> Job:
        queued = len(self.looks) < 4
        reason = "waits for search-1" if len(self.looks) < 3 else "waits for search-1, merge-2"
        return Job(name, "merge", JobState.QUEUED, NOW, reason=reason) if queued else self.done(name)

    @staticmethod
    def done(name: str) -> Job:
        return Job(name, "merge", JobState.DONE, NOW)


def test_a_job_that_waits_says_for_what_once_for_each_reason(capfd: pytest.CaptureFixture[str]) -> None:
    client: Any = Slow()
    begun = Job("merge-3", "merge", JobState.QUEUED, NOW)
    ended = cli_work._follow(client, Console(), begun, 0, private=False)
    assert ended.state is JobState.DONE
    assert capfd.readouterr().err.splitlines() == [
        "merge-3",
        "merge-3 waits for search-1; 'alloy ps' shows the queue",
        "merge-3 waits for search-1, merge-2; 'alloy ps' shows the queue",
    ]
    assert client.looks == [cli_work.LOOK] * 4


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_bar_keeps_its_share_whatever_is_said_beside_it(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console", lambda **_: Terminal(file=said, width=width, force_terminal=True)
    )
    bar = Bar()
    what = "17 of 24 candidates; best trial 22: score 0.7733 (0.7227 to 0.8170)"
    body = {"done": 8425, "total": 10500, "unit": "items", "rate": 86.6, "eta": 24.0, "what": what}
    bar.update(body)
    bar.close()
    lines = [line for line in said.getvalue().replace("\r", "\n").split("\n") if "8425" in line]
    assert lines
    assert all("80.2%" in line and "━━━" in line for line in lines)
    assert ("0.8170" in said.getvalue()) == (width == 200)


def test_paths_are_short_below_the_working_folder_and_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getcwd", lambda: "/home/you/clone")
    monkeypatch.setenv("HOME", "/home/you")
    assert near("/home/you/clone/merged") == "merged"
    assert near("/home/you/models/a") == "~/models/a"
    for elsewhere in ("/data/merged", "/home/you/clone2"[:6], "sums.yaml", "/home/you/clone"[:9]):
        assert near(elsewhere) == elsewhere
    assert near("/home/you/clone-2/m") == "~/clone-2/m"
