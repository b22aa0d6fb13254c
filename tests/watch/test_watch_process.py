"""The daemon's side of the watcher: a watcher that hangs costs the daemon nothing."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from alloyd.paths import Home
from alloyd.watch_schema import WatchSettings
from alloyd_daemon.service.watch_process import WatchProcess

LONGER_THAN_A_PIPE = 70_000


def test_news_for_a_watcher_that_reads_nothing_does_not_stop_the_daemon(tmp_path: Path) -> None:
    """It may hang on a network mount for weeks, with a byte for every job that ends."""
    home = Home(tmp_path / "home")
    home.create()
    (tmp_path / "drop").mkdir()
    hung = (sys.executable, "-c", "import time; time.sleep(3600)")
    watching = WatchProcess(home, command=hung)
    try:
        watching.add(str(tmp_path / "drop"), WatchSettings())

        def stuck(*_: object) -> None:
            raise AssertionError("the daemon waits for its watcher")

        before = signal.signal(signal.SIGALRM, stuck)
        signal.alarm(20)
        try:
            for _ in range(LONGER_THAN_A_PIPE):
                watching.poke()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
    finally:
        watching.stop()
