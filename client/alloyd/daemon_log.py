"""``alloy logs --daemon``: the daemon's log for people, from its file: it is wanted most when no daemon runs."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .console import Console
from .paths import find_home


def daemon_log(options: argparse.Namespace, console: Console) -> int:
    """Print the log, with ``--follow`` also what is added to it."""
    file = find_home(getattr(options, "home", None)).log("daemon")
    number = 0
    for line in _lines(file, follow=options.follow):
        number += 1
        console.line("log", {"record": _record(line)})
        console.show(_plain(_record(line)))
    console.result({"lines": number})
    return 0


def _lines(file: Path, *, follow: bool) -> Iterator[str]:
    """The lines of the log, and of the one that takes its place when it is rotated."""
    while True:
        try:
            log = open(file, encoding="utf-8", errors="replace")  # noqa: SIM115  (closed below)
        except FileNotFoundError:
            if not follow:
                return
            time.sleep(0.5)
            continue
        with log:
            held = ""
            while True:
                held += log.readline()
                if held.endswith("\n"):
                    yield held
                    held = ""
                    continue
                if not follow:
                    return
                if _replaced(file, log.fileno()):
                    break
                time.sleep(0.5)


def _replaced(file: Path, descriptor: int) -> bool:
    try:
        return not file.samefile(f"/dev/fd/{descriptor}")
    except OSError:
        return True


def _record(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    return record if isinstance(record, dict) else {"message": line.rstrip("\n")}


def _plain(record: dict[str, Any]) -> str:
    """A record as a line for people; its settings are for ``--json``."""
    head = (
        f"{str(record.get('at', ''))[:19].replace('T', ' ')} {str(record.get('level', '')).upper()}".strip()
    )
    usual = ("at", "level", "message", "job", "settings", "output", "traceback")
    more = ", ".join(f"{name}={value}" for name, value in record.items() if name not in usual)
    below = "\n".join(str(record[name]) for name in ("output", "traceback") if record.get(name))
    # Words of others may hold line breaks: what follows one is not to look like a record of its own.
    words = f"{record.get('message', '')}{f' ({more})' if more else ''}".splitlines() or [""]
    told = "\n".join(f"{head} {line}".strip() for line in words)
    return f"{told}\n{below}" if below else told
