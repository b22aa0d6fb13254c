"""Where a command's words go: results to stdout, everything else to stderr, or NDJSON to stdout with ``--json``."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO

from .errors import AlloydError, Problems
from .folding import fold
from .foreign import printable, printable_json


def fitted(text: str, stream: TextIO) -> str:
    """``text`` for ``stream``: printable, and folded to its width if that is a terminal."""
    told = printable(text)
    if not stream.isatty():
        return told
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        width = 0
    if width <= 0 or len(told) <= width:  # a terminal that does not know its width says 0
        return told
    return "\n".join(part for line in told.split("\n") for part in fold(line, width))


class Console:
    """One command's output. With ``json`` stdout holds one JSON object a line and exactly one, last, is the result."""

    def __init__(self, *, json: bool = False) -> None:
        self.json = json

    def say(self, text: str) -> None:
        """A line for the person who waits, on stderr; nothing with ``--json``."""
        if not self.json:
            print(fitted(text, sys.stderr), file=sys.stderr, flush=True)

    def show(self, text: str, *, as_it_is: bool = False) -> None:
        """The answer as text, on stdout; nothing with ``--json``. ``as_it_is`` is for what other programs read."""
        if not self.json:
            print(printable(text) if as_it_is else fitted(text, sys.stdout), flush=True)

    def line(self, kind: str, value: object) -> None:
        """One line of NDJSON; nothing without ``--json``."""
        if self.json:
            import msgspec

            fields = msgspec.to_builtins(value)
            self._write({"type": kind, **(fields if isinstance(fields, dict) else {"value": fields})})

    def result(self, value: object, *, wrong: AlloydError | None = None) -> None:
        """The one final line of a command that has something to show, even where something is ``wrong``; nothing
        without ``--json``."""
        if self.json:
            import msgspec

            said = {"ok": True} if wrong is None else {"ok": False, "error": wrong.to_dict()}
            self._write({"type": "result", **said, "value": msgspec.to_builtins(value)})

    def fail(self, error: AlloydError) -> None:
        """The error on stderr, and as the one final line with ``--json``."""
        for one in error.problems if isinstance(error, Problems) else (error,):
            print(fitted(f"error: {one.message}", sys.stderr), file=sys.stderr)
            if one.hint:
                print(fitted(f"hint: {one.hint}", sys.stderr), file=sys.stderr)
        sys.stderr.flush()
        if self.json:
            self._write({"type": "result", "ok": False, "error": error.to_dict()})

    def _write(self, fields: dict[str, Any]) -> None:
        # The standard library's encoder: an error must be told even where msgspec cannot be loaded.
        import json

        print(printable_json(json.dumps(fields, default=str, ensure_ascii=False)), flush=True)
