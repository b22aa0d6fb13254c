"""alloy ps --watch: in a terminal, through a pipe, as NDJSON; over the daemon's death; until Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from alloyd.cli import main
from trial_daemon import PATIENCE, TrialDaemon, eventually, trial

LEAVE = "\x1b[?1049l"
"""Gives the window back as it was."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home") as found:
        yield found


class Watcher:
    """``alloy ps --watch``, whose output is read as it comes; in a terminal if ``rows`` and ``columns`` are given."""

    def __init__(self, daemon: TrialDaemon, *words: str, size: tuple[int, int] | None = None) -> None:
        self.said = bytearray()
        self.master, slave = pty.openpty() if size else os.pipe()
        if size:
            self.resize(*size)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "alloyd.cli", "--home", str(daemon.home.root), "ps", "--watch", *words],
            stdout=slave,
            stderr=slave,
            stdin=subprocess.DEVNULL,
            env={
                # The window's own size counts; these would stand in for it.
                **{key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")},
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "TERM": "xterm",
                **daemon.environ,
            },
            start_new_session=True,
        )
        os.close(slave)
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self.master, 65536)
            except OSError:  # the other end of a terminal is gone
                return
            if not piece:
                return
            self.said += piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        os.close(self.master)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def text(self) -> str:
        return self.said.decode(errors="replace")

    def sees(self, *parts: str, after: int = 0) -> Callable[[], bool]:
        return lambda: all(part in self.text()[after:] for part in parts)

    def leave(self) -> int:
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return status


def test_a_terminal_shows_the_queue_resizes_and_is_left_as_it_was(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    with daemon.client() as client, Watcher(daemon, size=(20, 120)) as watcher:
        eventually(watcher.sees("no jobs wait"))
        first = client.submit(trial(tmp_path / "first", 10_000, pause=0.05))
        client.submit(trial(tmp_path / "second"))
        eventually(watcher.sees("running", "━", "B/s", "queued", "waits for merge-1"))
        seen = len(watcher.text())
        watcher.resize(20, 50)
        watcher.process.send_signal(signal.SIGWINCH)
        eventually(lambda: "merge-1" in watcher.text()[seen:])
        client.cancel(first.id)
        eventually(watcher.sees("cancelled", "done"))
        assert watcher.leave() == 0
        left = watcher.text().partition(LEAVE)[2]
        assert "\x1b[?25h" in watcher.text(), "the cursor is to be seen again"
        assert "merge-2" in left, "the last picture stays"
        assert "Traceback" not in left


def test_a_terminal_says_that_the_daemon_died_and_came_back(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        client.submit(trial(tmp_path / "out", 10_000, pause=0.05))
    with Watcher(daemon, size=(20, 120)) as watcher:
        eventually(watcher.sees("running"))
        daemon.kill_all()
        eventually(watcher.sees("the daemon is away"))
        seen = len(watcher.text())
        daemon.start()
        eventually(watcher.sees("1 running", after=seen))
        assert watcher.leave() == 0


def test_a_pipe_gets_a_line_a_change(daemon: TrialDaemon, tmp_path: Path) -> None:
    with Watcher(daemon) as watcher, daemon.client() as client:
        client.wait(client.submit(trial(tmp_path / "out")).id)
        eventually(watcher.sees("merge-1      done  "))
        daemon.kill()
        eventually(watcher.sees("daemon       away: "))
        daemon.start()
        eventually(watcher.sees("daemon       here again"))
        assert watcher.leave() == 0
        assert "\x1b" not in watcher.text()


def test_scripts_get_records(daemon: TrialDaemon, tmp_path: Path) -> None:
    with Watcher(daemon, "--json") as watcher, daemon.client() as client:
        eventually(watcher.sees('"there": true'))
        client.wait(client.submit(trial(tmp_path / "out", 20, pause=0.05)).id)
        eventually(watcher.sees('"state": "done"'))
        daemon.kill()
        eventually(watcher.sees('"there": false'))
        daemon.start()
        eventually(lambda: watcher.text().count('"there": true') == 2)
        assert watcher.leave() == 0
        records = [json.loads(line) for line in watcher.text().splitlines()]
    kinds = [record["type"] for record in records]
    assert kinds.count("result") == 1
    assert records[-1]["ok"] is True
    assert [job["id"] for job in records[-1]["value"]] == ["merge-1"]
    states = [record["state"] for record in records if record["type"] == "job"]
    assert states[-1] == "done"
    assert "progress" in kinds


def test_ids_alone_are_not_watched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ps", "--watch", "--quiet"]) == 2
    assert "not allowed with" in capsys.readouterr().err
