"""Runs one hook: ``python -m alloyd_daemon.hook_process SECONDS WORD...``; prints the end of what it said.

It kills the hook with all that this started when its time is over or when stdin ends, which means that the daemon is
dead. A process of its own, so that a hook that hangs or talks for ever costs the daemon nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from typing import Final

MOST_SAID: Final = 8192
"""Bytes of a hook's output that are kept, the last ones."""
TIMED_OUT: Final = 124
NOT_STARTED: Final = 127


def main() -> int:
    """Run the hook; returns its exit status, as a shell gives it."""
    limit, *command = sys.argv[1:]
    deadline = time.monotonic() + float(limit)
    try:
        hook = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    except OSError as wrong:
        print(f"it cannot be run: {wrong}")
        return NOT_STARTED
    assert hook.stdout is not None
    said, status = b"", TIMED_OUT
    listening = [0, hook.stdout.fileno()]
    try:
        while time.monotonic() < deadline:
            # What the hook leaves behind may hold its output open: its own end counts.
            ready, _, _ = select.select(listening, [], [], 0.05)
            if 0 in ready and not os.read(0, 4096):
                return TIMED_OUT
            if listening[-1] in ready:
                data = os.read(listening[-1], 65536)
                said = (said + data)[-MOST_SAID:]
                if not data and len(listening) > 1:
                    listening.pop()
            elif hook.poll() is not None:
                status = hook.returncode if hook.returncode >= 0 else 128 - hook.returncode
                break
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(hook.pid, signal.SIGKILL)
        hook.wait()
        sys.stdout.buffer.write(said)
        sys.stdout.buffer.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
