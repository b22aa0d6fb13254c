"""How the process of a job is started; loads nothing, so that it can be started before anything else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

CHILD = (sys.executable, "-P", "-m", "alloyd_daemon.child")


def spawn(command: Sequence[str] = CHILD) -> subprocess.Popen[bytes]:
    """A child that loads its libraries, then waits for its job on stdin; it ends when stdin does."""
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, process_group=0
    )
