"""The verbs service and metrics: what systemd and Prometheus are given."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from . import systemd
from .cli_service import stop_daemon
from .connecting import client_of
from .console import Console
from .errors import UsageError
from .paths import find_home, lock_holder
from .service_unit import MARK, NAME, unit_file, unit_text


def metrics(options: argparse.Namespace, console: Console) -> int:
    """Print the daemon's figures; one is not started for them."""
    with client_of(options, autostart=False) as client:
        text = client.metrics()
    console.show(text.rstrip("\n"), as_it_is=True)
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
    changed = file.exists() and file.read_text(encoding="utf-8", errors="replace") != text
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, file)
    console.show(str(file))
    started = False
    if systemd.answers():
        systemd.systemctl("daemon-reload")
        runs = systemd.ask("is-active") == "active"
        # One that a command started holds the home; its jobs go on under the service.
        if not runs and lock_holder(home) is not None:
            stop_daemon(home, now=False)
        systemd.forget_failures()
        systemd.systemctl("enable", "--now", NAME)
        if runs and changed:
            systemd.systemctl("restart", NAME)
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
        if systemd.answers():
            systemd.systemctl("disable", "--now", NAME)
        file.unlink()
        if systemd.answers():
            systemd.systemctl("daemon-reload")
    console.say(f"{file} is removed; its jobs are kept" if there else "no service is installed")
    console.result({"unit": str(file), "removed": there})
    return 0


def _status(options: argparse.Namespace, console: Console) -> int:
    file = unit_file()
    told = {
        "unit": str(file) if file.exists() else None,
        "active": systemd.ask("is-active") if systemd.answers() else None,
        "enabled": systemd.ask("is-enabled") if systemd.answers() else None,
    }
    console.show(f"unit     {told['unit'] or 'not installed'}")
    if systemd.answers():
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
