"""`alloy ps` of a long queue: what runs is shown first, and what is left out is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alloyd.cli import main
from alloyd.jobs import JobState
from trial_daemon import TrialDaemon, eventually, trial


def test_a_long_queue_does_not_hide_what_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TrialDaemon(tmp_path / "home") as daemon, daemon.client() as client:
        done = client.submit(trial(tmp_path / "done", 1))
        client.wait(done.id)
        running = client.submit(trial(tmp_path / "running", 900, pause=0.1))
        eventually(lambda: client.job(running.id).state is JobState.RUNNING)
        waiting = [client.submit(trial(tmp_path / str(number), 1)).id for number in range(5)]
        paused = client.pause(waiting[1]).id

        def ps(*words: str) -> tuple[list[str], str]:
            assert main(["ps", "--home", str(daemon.home.root), *words]) == 0
            said = capsys.readouterr()
            return said.out.split(), said.err

        more = "and 2 more; 'alloy ps --limit N' shows N\n"
        assert ps("-q", "-n", "4") == ([running.id, paused, *waiting[3:]], more)
        assert ps("-q", "-n", "1") == ([running.id], more.replace("2", "5"))
        assert ps("-q", "-n", "6") == ([running.id, *waiting], "")
        assert ps("-q") == ([running.id, *waiting], "")
        assert ps("-q", "-a", "-n", "6") == ([running.id, *waiting], more.replace("2", "1"))
        words, said = ps("--json", "-n", "4")
        assert [job["id"] for job in json.loads(" ".join(words))["value"]] == [
            running.id,
            paused,
            *waiting[3:],
        ]
        assert said == ""
