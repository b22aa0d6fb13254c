"""The example client in JavaScript does as docs/protocol.md says, against a real daemon that is killed under it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import node_program
from node_program import told
from trial_daemon import TrialDaemon, eventually, let_go, lines


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return node_program.install(tmp_path / "node")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home") as running:
        yield running


def merge(script: Path, home: Path, **what: object) -> subprocess.CompletedProcess[str]:
    """Run ``merge.js`` on a throw-away recipe; it writes ``out`` beside it."""
    return node_program.merge(script, str(script.parent / "out"), recipe=what, ALLOYD_HOME=str(home))


def test_it_merges_and_tells_every_event_once(script: Path, daemon: TrialDaemon) -> None:
    done = merge(script, daemon.home.root, steps=5, pause=0.02, at={"2": "note"})
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{script.parent / 'out'}\n"
    with daemon.client() as client:
        assert told(done.stderr) == [event.seq for event in client.events("merge-1")]
    assert (script.parent / "out").read_text() == lines(5)


def test_it_reads_an_error_with_its_status_and_hint(script: Path, daemon: TrialDaemon) -> None:
    done = merge(script, daemon.home.root, steps=3, at={"1": "refuse"})
    assert done.returncode == 3
    assert "error: the recipe is wrong (E_RECIPE)\nhint: Write another.\n" in done.stderr


def test_it_says_that_no_daemon_runs(script: Path, tmp_path: Path) -> None:
    done = merge(script, tmp_path / "nobody", steps=1)
    assert done.returncode == 9
    assert "no daemon runs" in done.stderr


def test_it_misses_nothing_when_the_daemon_is_killed(script: Path, daemon: TrialDaemon) -> None:
    def kill() -> None:
        staging = script.parent / "out.partial"
        eventually(lambda: staging.exists() and staging.stat().st_size > 20)
        daemon.kill()
        let_go(script.parent / "out")
        daemon.start()

    killer = threading.Thread(target=kill)
    killer.start()
    done = merge(script, daemon.home.root, steps=100, at={"5": "note", "50": "hold", "90": "note"})
    killer.join()
    assert done.returncode == 0, done.stderr
    with daemon.client() as client:
        assert told(done.stderr) == [event.seq for event in client.events("merge-1")]
        assert client.job("merge-1").attempts == 2


def test_a_submission_under_one_token_is_one_job(script: Path, daemon: TrialDaemon, tmp_path: Path) -> None:
    code = """\
import { Client } from "./alloyd.js";
const client = new Client();
const spec = { kind: "verify", path: "/nowhere" };
const jobs = [await client.submit(spec, "one"), await client.submit(spec, "one"), await client.submit(spec, "two")];
console.log(jobs.map((job) => job.id).join(" "));
client.close();
"""
    (script.parent / "twice.js").write_text(code)
    environ = {**os.environ, "ALLOYD_HOME": str(daemon.home.root)}
    command = ["node", str(script.parent / "twice.js")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "verify-1 verify-1 verify-2\n", done.stderr
