"""alloyd as a service of the user: the unit that systemd reads, and where it lies."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .paths import Home, config_home

NAME: Final = "alloyd.service"
MARK: Final = "# Written by 'alloy service install'; 'alloy service remove' removes it."


def unit_file(environ: Mapping[str, str] | None = None) -> Path:
    """``$XDG_CONFIG_HOME/systemd/user/alloyd.service``, else below ``~/.config``."""
    return config_home(environ) / "systemd" / "user" / NAME


def unit_text(home: Home, *, config: str = "", python: str = sys.executable) -> str:
    """The unit for the daemon of ``home``; ``config`` is the configuration file that it should read, if not the usual.

    Only what works without rights of the system is in it: what needs a namespace would hide the sockets' folder.
    """
    words = [python, "-P", "-m", "alloyd_daemon", "--home", str(home.root)]
    if config:
        words += ["--config", config]
    return f"""\
{MARK}
[Unit]
Description=alloyd, the daemon that merges language models
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
ExecStart={" ".join(map(_quoted, words))}
SyslogIdentifier=alloyd
ExecReload=kill -HUP $MAINPID
WatchdogSec=60
Restart=on-failure
RestartSec=5
# A configuration that is wrong, or a home that another daemon owns, does not get better by itself.
RestartPreventExitStatus=2 9
# Jobs finish their block first (jobs.stop_grace), and hooks; only the daemon is asked, it asks its jobs.
TimeoutStopSec=90
KillMode=mixed
# A job that the kernel killed for want of memory is named by the daemon, which goes on.
OOMPolicy=continue
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native

[Install]
WantedBy=default.target
"""


def unit_is_for(home: Home, file: Path) -> bool:
    """Whether ``file`` is a unit that alloy wrote for the daemon of ``home``."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.startswith(MARK) and f" {_home_words(home)} " in text.replace("\n", " ")


def _home_words(home: Home) -> str:
    return f"{_quoted('--home')} {_quoted(str(home.root))}"


def _quoted(word: str) -> str:
    """One word of a command as systemd reads it: specifiers, variables and quotes mean themselves."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{word}"'
