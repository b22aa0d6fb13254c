"""Speaks to the user's systemd, where there is one and alloyd's unit is installed."""

from __future__ import annotations

import shutil
import subprocess

from .errors import ServiceError
from .paths import Home
from .service_unit import NAME, unit_file, unit_is_for


def answers() -> bool:
    """Whether a systemd of this user answers."""
    return shutil.which("systemctl") is not None and _run("show", "--property=Version").returncode == 0


def ask(question: str) -> str:
    """What ``systemctl QUESTION`` says of the unit."""
    return _run(question, NAME).stdout.strip() or "unknown"


def systemctl(*words: str) -> None:
    """Have ``systemctl`` do something.

    Raises
    ------
    ServiceError
        It refuses.
    """
    done = _run(*words)
    if done.returncode:
        raise ServiceError(
            f"'systemctl --user {' '.join(words)}' failed: {done.stderr.strip()}",
            hint=f"'systemctl --user status {NAME}' and 'journalctl --user -u alloyd' tell more.",
        )


def forget_failures() -> None:
    """Let the unit be started again, however often it was before; one that has not failed is left as it is."""
    _run("reset-failed", NAME)


def start(home: Home) -> bool:
    """Have systemd start the daemon of ``home`` when that is what its unit is for; whether it runs now.

    A daemon started beside an installed unit would keep the home from it, and end with the session that started it.
    """
    if not unit_is_for(home, unit_file()) or not answers():
        return False
    forget_failures()
    return _run("start", NAME).returncode == 0


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", "--user", *words], capture_output=True, text=True, check=False)
