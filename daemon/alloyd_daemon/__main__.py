"""``python -m alloyd_daemon`` is ``alloyd``; the first child of a caller that waits loads while the daemon does."""

import sys

from .service.child_process import spawn


def _run() -> int:
    spare = spawn() if "--once" in sys.argv else None
    from .main import main

    return main(spare=spare)


sys.exit(_run())
