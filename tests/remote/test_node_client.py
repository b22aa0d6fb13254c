"""The example client in JavaScript over TCP, with the CURVE keys of a profile, as docs/remote.md has them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import node_program
from alloyd.roles import Role
from node_program import told
from remote.conftest import Far
from trial_daemon import eventually, let_go, lines


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return node_program.install(tmp_path / "node")


def test_it_merges_by_a_profile_and_tells_every_event_once(script: Path, far: Far) -> None:
    far.key("laptop", Role.SUBMIT)
    done = node_program.merge(script, "out", "--connect", "laptop", recipe={"steps": 5, "pause": 0.02})
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{far.root / 'out'}\n"
    assert (far.root / "out").read_text() == lines(5)
    with far.daemon.client() as client:
        assert told(done.stderr) == [event.seq for event in client.events("merge-1")]
        assert client.job("merge-1").owner == "laptop"


def test_it_misses_nothing_when_the_daemon_is_killed(script: Path, far: Far) -> None:
    far.key("laptop", Role.SUBMIT)

    def kill() -> None:
        eventually(lambda: (far.root / "out.partial").exists())
        far.daemon.kill_all()
        let_go(far.root / "out")
        far.daemon.start()

    killer = threading.Thread(target=kill)
    killer.start()
    recipe = {"steps": 60, "at": {"20": "hold", "50": "note"}}
    done = node_program.merge(script, "out", "--connect", "laptop", recipe=recipe)
    killer.join()
    assert done.returncode == 0, done.stderr
    with far.daemon.client() as client:
        assert told(done.stderr) == [event.seq for event in client.events("merge-1")]
        assert client.job("merge-1").attempts == 2


@pytest.mark.parametrize(
    ("role", "out", "said"),
    [
        (None, "out", "the daemon does not let this key in (E_ACCESS)"),
        (Role.READ, "out", "'submit' needs the role submit"),
        (Role.SUBMIT, "../out", "is outside the folders that this job may use (E_ACCESS)"),
    ],
    ids=["unknown", "reader", "outside"],
)
def test_what_is_refused_is_told_with_a_hint(
    script: Path, far: Far, role: Role | None, out: str, said: str
) -> None:
    far.key("laptop", role)
    done = node_program.merge(script, out, "--connect", "laptop", recipe={"steps": 1})
    assert done.returncode == 9, done.stderr
    assert said in done.stderr
    assert "\nhint: " in done.stderr


def test_a_profile_that_is_not_there(script: Path, here: Path) -> None:
    done = node_program.merge(script, "out", "--connect", "nobody", recipe={})
    assert done.returncode == 2
    assert "error: no profile 'nobody'" in done.stderr
