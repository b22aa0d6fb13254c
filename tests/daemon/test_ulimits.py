"""Limits of a shell that are too small to work in: told by name, with what would do, before or when they bite."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from trial_daemon import TrialDaemon, eventually, trial

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
from alloyd_daemon.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_daemon_that_may_open_hardly_a_file_says_so(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", LIMITED, "--home", str(tmp_path / "home"), "--once"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 9
    assert "at most 24 files may be open" in told.stderr
    assert "ulimit -n" in told.stderr


@pytest.mark.parametrize("happening", ["bug", "exit"])
def test_a_job_that_fails_where_little_is_allowed_names_the_limits(tmp_path: Path, happening: str) -> None:
    """Libraries that get no memory die of it in ways of their own."""
    with TrialDaemon(tmp_path / "home") as daemon, daemon.client() as client:
        resource.prlimit(daemon.pid, resource.RLIMIT_AS, (1_500_000_000, resource.RLIM_INFINITY))
        resource.prlimit(daemon.pid, resource.RLIMIT_NPROC, (1000, 1000))
        job = client.submit(trial(tmp_path / "out", 3, at={1: happening}))
        eventually(lambda: client.job(job.id).state.ended, seconds=60)
        error = client.job(job.id).error
    assert error is not None
    assert "1.5 GB of addresses (ulimit -v) and 1000 processes and threads (ulimit -u)" in error["hint"]
