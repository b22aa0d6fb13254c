"""Progress while a person waits: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

from .foreign import printable
from .units import format_duration, format_size


class Live(Protocol):
    """What shows progress: bodies of progress events come in, ``close`` ends it."""

    def update(self, body: Mapping[str, Any]) -> None:
        """Show ``{"done", "total", "unit", "what", "rate", "eta"}``."""

    def close(self) -> None:
        """Leave the terminal as it was found."""


def live() -> Live:
    """The bar when stderr is a terminal that can move its cursor, else lines."""
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return Bar()
    return Lines()


class Lines:
    """A line whenever ``EVERY`` seconds have passed, and one at the end."""

    EVERY = 5.0

    def __init__(self) -> None:
        self._next = 0.0
        self._last = ""

    def update(self, body: Mapping[str, Any]) -> None:
        """Print a line when it is time for one."""
        line = describe(body)
        if time.monotonic() >= self._next or (body["done"] == body["total"] and line != self._last):
            self._next = time.monotonic() + self.EVERY
            self._last = line
            print(printable(line), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to put back."""


class Bar:
    """A bar of rich, which is loaded with the first progress."""

    LEAST = 10
    """Columns that the bar keeps, however long the text beside it is."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None

    def update(self, body: Mapping[str, Any]) -> None:
        """Move the bar."""
        if self._progress is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            console = Console(stderr=True)
            columns = [
                TextColumn("{task.fields[text]}", markup=False),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[rest]}", markup=False),
            ]
            self._progress = Progress(
                *columns, console=console, transient=True, auto_refresh=False, expand=True
            )
            self._task = self._progress.add_task("", total=body["total"], text="", rest="")
            self._progress.start()
        text = f"{100 * body['done'] / body['total']:5.1f}%" if body["total"] else "     -"
        # Where nothing moves, what it waits for; where items are counted, what they are of.
        rest = amounts(body)
        if not (body.get("rate") and body["unit"] == "bytes"):
            rest += f"  {printable(str(body.get('what', '')))}"
        room = max(1, self._progress.console.width - len(text) - self.LEAST - 2)
        self._progress.update(
            self._task,
            completed=body["done"],
            total=body["total"] or 1,
            text=text,
            rest=rest if len(rest) <= room else rest[: room - 1] + "…",
            refresh=True,
        )

    def close(self) -> None:
        """Remove the bar and show the cursor again."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def describe(body: Mapping[str, Any]) -> str:
    """Progress as one plain line."""
    share = f"{100 * body['done'] / body['total']:.1f}%" if body["total"] else "-"
    return "  ".join(filter(None, (share, amounts(body), str(body.get("what", "")))))


def amounts(body: Mapping[str, Any]) -> str:
    """How much, how fast, how long."""
    if body["unit"] == "bytes":
        parts = [f"{format_size(body['done'])} of {format_size(body['total'])}"]
        parts += [f"{format_size(body['rate'])}/s"] if body.get("rate") else []
    else:
        parts = [f"{body['done']} of {body['total']}"]
        parts += [f"{body['rate']:.1f}/s"] if body.get("rate") else []
    parts += [f"{format_duration(body['eta'])} left"] if body.get("eta") is not None else []
    return "  ".join(parts)
