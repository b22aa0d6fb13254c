"""The verbs about room on the disk: df, prune."""

from __future__ import annotations

import argparse
import sys

from . import render_space
from .connecting import client_of
from .console import Console
from .errors import UsageError
from .space_schema import MONTH, Pruned


def df(options: argparse.Namespace, console: Console) -> int:
    """Say what takes room."""
    with client_of(options) as client:
        found = client.space()
    for line in render_space.space_lines(found):
        console.show(line)
    console.result(found)
    return 0


def prune(options: argparse.Namespace, console: Console) -> int:
    """Forget old jobs: say what would go, ask, and only then do it."""
    asking = not (options.yes or options.dry_run)
    if asking and (console.json or not sys.stdin.isatty()):
        raise UsageError(
            "there is nobody to ask whether to prune",
            hint="Say --dry-run to see what would go, then --yes to do it.",
        )
    older = options.older_than
    if older is None:
        older = MONTH if options.keep is None else 0.0
    how = {
        "older_than": older,
        "keep": options.keep,
        "outputs": options.outputs,
        "trust_clock": options.trust_clock,
    }
    with client_of(options) as client:
        found = client.prune(**how, dry_run=not options.yes)
        _show(found, console)
        if asking and (found.jobs or found.parts or found.claims):
            if not _agreed():
                console.say("nothing was pruned")
                return 1
            found = client.prune(**how, before=found.before)
            _show(found, console)
    console.result(found)
    return 0


def _show(found: Pruned, console: Console) -> None:
    for line in render_space.pruned_lines(found):
        console.show(line)


def _agreed() -> bool:
    sys.stderr.write("Prune? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
