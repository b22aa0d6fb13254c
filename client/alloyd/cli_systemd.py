"""The verbs service and metrics: what systemd and Prometheus are given."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from pathlib import Path

from .cli_service import stop_daemon
from .connecting import client_of
from .console import Console
from .errors import ServiceError, UsageError
from .paths import find_home, lock_holder
from .service_unit import MARK, NAME, unit_file, unit_text


def metrics(options: argparse.Namespace, console: Console) -> int:
    """Print the daemon's figures; one is not started for them."""
    with client_of(options, autostart=False) as client:
        text = client.metrics()
    console.show(text.rstrip("\n"))
    console.result(text)
    return 0


def service(options: argparse.Namespace, console: Console) -> int:
    """Install the user's unit, remove it, or say how it is."""
    return {"install": _install, "remove": _remove, "status": _status}[options.act](options, console)


def _install(options: argparse.Namespace, console: Console) -> int:
    home, file = find_home(getattr(options, "home", None)), unit_file()
    home.create()
    config = os.environ.get("ALLOYD_CONFIG", "")
    text = unit_text(home, config=os.path.abspath(config) if config else "")
    _refuse_foreign(file, force=options.force)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, file)
    console.show(str(file))
    started = False
    if _manager():
        _systemctl("daemon-reload")
        # One that a command started holds the home; its jobs go on under the service.
        if _ask("is-active") != "active" and lock_holder(home) is not None:
            stop_daemon(home, now=False)
        _systemctl("enable", "--now", NAME)
        started = True
        console.say("alloyd runs as a service, and starts when you log in")
        console.say("to let it run while you are logged out: loginctl enable-linger")
    else:
        console.say(f"no systemd answers for this user; there: systemctl --user enable --now {NAME}")
    console.result({"unit": str(file), "started": started})
    return 0


def _remove(options: argparse.Namespace, console: Console) -> int:
    file = unit_file()
    there = file.exists()
    if there:
        _refuse_foreign(file, force=options.force)
        if _manager():
            _systemctl("disable", "--now", NAME)
        file.unlink()
        if _manager():
            _systemctl("daemon-reload")
    console.say(f"{file} is removed; its jobs are kept" if there else "no service is installed")
    console.result({"unit": str(file), "removed": there})
    return 0


def _status(options: argparse.Namespace, console: Console) -> int:
    file = unit_file()
    told = {
        "unit": str(file) if file.exists() else None,
        "active": _ask("is-active") if _manager() else None,
        "enabled": _ask("is-enabled") if _manager() else None,
    }
    console.show(f"unit     {told['unit'] or 'not installed'}")
    if _manager():
        console.show(f"active   {told['active']}\nstarts   {told['enabled']}")
    else:
        console.show("systemd  does not answer for this user")
    console.result(told)
    return 0


def _refuse_foreign(file: Path, *, force: bool) -> None:
    if file.exists() and MARK not in file.read_text(encoding="utf-8", errors="replace") and not force:
        raise UsageError(
            f"{file} was not written by alloy",
            hint="Look at it; --force replaces or removes it.",
            path=str(file),
        )


def _manager() -> bool:
    """Whether a systemd of this user answers."""
    return shutil.which("systemctl") is not None and _run("show", "--property=Version").returncode == 0


def _ask(question: str) -> str:
    return _run(question, NAME).stdout.strip() or "unknown"


def _systemctl(*words: str) -> None:
    done = _run(*words)
    if done.returncode:
        raise ServiceError(
            f"'systemctl --user {' '.join(words)}' failed: {done.stderr.strip()}",
            hint=f"'systemctl --user status {NAME}' and 'journalctl --user -u alloyd' tell more.",
        )


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", "--user", *words], capture_output=True, text=True, check=False)
