"""``alloy`` as a shell starts it: Ctrl-C ends it quietly also in the moment in which the rest is still being loaded."""

from __future__ import annotations

import signal


def main() -> int:
    """Load the command line and run it; returns its exit status."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main as run

    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, before)
    return run()
