"""Named moments at which a test can kill this process, to show that nothing is lost."""

from __future__ import annotations

import os
import signal
import threading

VARIABLE = "ALLOYD_FAULT"

_lock = threading.Lock()
_times: dict[str, int] = {}


def reach(point: str) -> None:
    """Die here by SIGKILL when the environment says ``ALLOYD_FAULT=point:count`` and this is the count-th
    time.

    Several points are separated by commas; the count may be left out (1). Without the variable nothing
    happens.
    """
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    for each in wanted.split(","):
        name, _, count = each.partition(":")
        if name != point:
            continue
        with _lock:
            _times[point] = _times.get(point, 0) + 1
            due = _times[point] == int(count or 1)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
