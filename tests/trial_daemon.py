"""A real daemon process whose children run the throw-away jobs of trial_jobs."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from alloyd import Client
from alloyd.jobs import MergeSpec
from alloyd.paths import Home
from alloyd_daemon.service import child_process

PATIENCE = 60.0
"""Seconds that a test waits for what has to happen: a machine that is busy or slow takes its time."""
TESTS = str(Path(__file__).parent)
CHILD = (
    sys.executable,
    "-c",
    "from trial_jobs import DOOR; from alloyd_daemon.child import main; main(DOOR)",
)
DAEMON = (
    "import sys; from alloyd_daemon.main import main; sys.exit(main(sys.argv[2:], child=eval(sys.argv[1])))"
)


class TrialDaemon:
    """Starts on entry; may be killed and started again; what is left at the end is killed."""

    child: Sequence[str] = CHILD

    def __init__(self, root: Path, **environ: str) -> None:
        self.home = Home(Path(os.path.realpath(root)))
        # Sockets in a folder of its own with a short name, so that a killed daemon leaves nothing in the user's.
        self.runtime = tempfile.mkdtemp(prefix="alloyd-", dir="/tmp")
        self.environ = {"XDG_RUNTIME_DIR": self.runtime, **environ}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill_all()
        if self.process is not None:
            self.process.wait(PATIENCE)
        shutil.rmtree(self.runtime)

    def start(self, **environ: str) -> None:
        """Start the daemon and wait until it is ready."""
        reading, writing = os.pipe()
        path = os.pathsep.join([TESTS, *(part for part in sys.path if part)])
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                DAEMON,
                repr(tuple(self.child)),
                "--home",
                str(self.home.root),
                "--ready-fd",
                str(writing),
            ],
            env={**os.environ, "PYTHONPATH": path, **self.environ, **environ},
            pass_fds=[writing],
            start_new_session=True,
        )
        os.close(writing)
        try:
            assert select.select([reading], [], [], PATIENCE)[0], "the daemon is not ready"
            said = os.read(reading, 65536)
        finally:
            os.close(reading)
        assert not said or b'"ready"' in said, said

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL to the daemon alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE)

    def kill_all(self) -> None:
        """SIGKILL to the daemon and every child at once."""
        assert self.process is not None
        try:
            root = psutil.Process(self.process.pid)
            everyone = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for each in everyone:
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(PATIENCE)

    def children(self) -> list[psutil.Process]:
        """The living children."""
        return [each for each in psutil.Process(self.pid).children() if each.status() != psutil.STATUS_ZOMBIE]

    def terminate(self) -> int:
        """SIGTERM, and the exit status that follows."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def client(self, **options: Any) -> Client:
        """A client of this daemon that does not start another."""
        return Client(home=self.home.root, autostart=False, **options)


class RealDaemon(TrialDaemon):
    """One whose jobs are real ones."""

    child = child_process.CHILD


def trial(out: Path, steps: int = 5, *, pause: float = 0.0, at: dict[int, str] | None = None) -> MergeSpec:
    """The spec of a throw-away merge."""
    happenings = {str(step): what for step, what in (at or {}).items()}
    recipe = json.dumps({"steps": steps, "pause": pause, "at": happenings})
    return MergeSpec(recipe=recipe, base_dir=str(out.parent), out=str(out))


def let_go(out: Path, step: int | None = None) -> None:
    """Let a throw-away merge go on where ``at`` says "hold", or only from ``step``: now and whenever it comes there."""
    out.with_name(f"{out.name}.go" + (f"-{step}" if step else "")).touch()


def lines(steps: int) -> str:
    """What a throw-away merge of so many steps writes."""
    return "".join(f"{step}\n" for step in range(steps))


def eventually(check: Callable[[], object], *, seconds: float = PATIENCE) -> None:
    """Wait until ``check`` is true."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
