"""The command as a process: streams that are closed or full, a folder that is gone, Ctrl-C while it is loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from alloyd.cli import main
from trial_daemon import TrialDaemon, trial


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home") as daemon:
        yield daemon


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_stream_that_is_closed_is_missed_by_nobody(daemon: TrialDaemon, closed: int) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "alloyd.cli", "--home", str(daemon.home.root), *words]
        return subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {closed}>&-', "sh", *command],
            env={**os.environ, **daemon.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            check=False,
        )

    listed, wrong = run("ps", "--json"), run("nonsense")
    assert listed.returncode == 0
    assert wrong.returncode == 2
    assert bool(listed.stdout) == (closed != 1)
    assert not wrong.stdout
    assert (b"error: unknown command" in wrong.stderr) == (closed != 2)


@pytest.mark.parametrize("how", [["--json"], []])
def test_a_stdout_that_is_full_is_one_error(daemon: TrialDaemon, tmp_path: Path, how: list[str]) -> None:
    with daemon.client() as client:
        client.submit(trial(tmp_path / "out"))
    command = [sys.executable, "-m", "alloyd.cli", "--home", str(daemon.home.root), "ps", "--all", *how]
    path = os.pathsep.join(filter(None, sys.path))
    environ = {**os.environ, **daemon.environ, "PYTHONPATH": path}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, env=environ, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"error: a file cannot be used: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_folder_that_is_gone_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    here, gone = os.getcwd(), tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    try:
        gone.rmdir()
        assert main(["merge", "recipe.yaml", "out"]) == 1
    finally:
        os.chdir(here)
    assert capfd.readouterr().err.startswith("error: the folder in which this was said is gone\nhint: ")


def test_ctrl_c_while_the_command_is_being_loaded_is_quiet() -> None:
    program = """
        import builtins, os, signal
        load = builtins.__import__
        def interrupted(name, *rest):
            if name == "argparse":
                os.kill(os.getpid(), signal.SIGINT)
            return load(name, *rest)
        builtins.__import__ = interrupted
        from alloyd.command import main
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), "status"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
