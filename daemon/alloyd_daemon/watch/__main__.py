"""``python -m alloyd_daemon.watch HOME``: the watcher, a child of the daemon that ends when its stdin does."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
from functools import partial
from pathlib import Path

from alloyd.errors import AlloydError
from alloyd.paths import Home

from ..recipes.models import resolve
from ..service.log_file import begin
from .bell import Bell
from .drops import Drops
from .ledger import FILE, Folder, Ledger
from .link import Link
from .newcomers import Newcomers
from .rules import Rules
from .watcher import Watcher

log = logging.getLogger("alloyd.watch")


def main(home: Path) -> None:
    """Watch until the daemon is gone; a byte on stdin says that folders were changed, or that jobs have ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_blocking(0, True)
    bell = Bell()
    link = Link(home)
    settings = link.settings()
    begin(Home(home), settings.daemon, "watch")
    places = (*settings.model_roots(), settings.hub())
    find = partial(resolve, roots=settings.model_roots(), hf_home=settings.hub())
    with Ledger(home / FILE) as ledger:

        def newcomers(folder: Folder, settle: float) -> Newcomers:
            return Newcomers(folder, ledger, places, find, settle)

        drops, rules = Drops(ledger, link, places), Rules(ledger, link, places, find)
        watcher = Watcher(ledger, drops, rules, newcomers, bell)
        while True:
            wait = watcher.step()
            ready, _, _ = select.select([0, bell.descriptor], [], [], min(wait, 60.0))
            if 0 in ready:
                if not os.read(0, 4096):
                    return
                watcher.wake()


def _run() -> int:
    """Watch; the status is 1 when that cannot go on now. The daemon tries again."""
    try:
        main(Path(sys.argv[1]))
    except AlloydError as wrong:
        log.error("%s", wrong.message, extra={"code": wrong.code})
        return 1
    return 0


if __name__ == "__main__":
    # watchdog's threads may wait for the kernel; nothing is lost by leaving them.
    os._exit(_run())
