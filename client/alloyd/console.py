"""Where a command's words go: results to stdout, everything else to stderr, or NDJSON to stdout with ``--json``."""

from __future__ import annotations

import sys
import unicodedata
from typing import Any

from .errors import AlloydError, Problems


def printable(text: str) -> str:
    """``text`` with an escape for every control character but line break and tab.

    Names of tensors, models and files come from elsewhere, and a terminal obeys what they hold.
    """
    return "".join(
        each if each in "\n\t" or not unicodedata.category(each).startswith("C") else ascii(each)[1:-1]
        for each in text
    )


class Console:
    """One command's output. With ``json`` stdout holds one JSON object a line and exactly one, last, is the result."""

    def __init__(self, *, json: bool = False) -> None:
        self.json = json

    def say(self, text: str) -> None:
        """A line for the person who waits, on stderr; nothing with ``--json``."""
        if not self.json:
            print(printable(text), file=sys.stderr, flush=True)

    def show(self, text: str) -> None:
        """The answer as text, on stdout; nothing with ``--json``."""
        if not self.json:
            print(printable(text), flush=True)

    def line(self, kind: str, value: object) -> None:
        """One line of NDJSON; nothing without ``--json``."""
        if self.json:
            import msgspec

            fields = msgspec.to_builtins(value)
            self._write({"type": kind, **(fields if isinstance(fields, dict) else {"value": fields})})

    def result(self, value: object) -> None:
        """The one final line of a command that went well; nothing without ``--json``."""
        if self.json:
            import msgspec

            self._write({"type": "result", "ok": True, "value": msgspec.to_builtins(value)})

    def fail(self, error: AlloydError) -> None:
        """The error on stderr, and as the one final line with ``--json``."""
        for one in error.problems if isinstance(error, Problems) else (error,):
            print(f"error: {printable(one.message)}", file=sys.stderr)
            if one.hint:
                print(f"hint: {printable(one.hint)}", file=sys.stderr)
        sys.stderr.flush()
        if self.json:
            self._write({"type": "result", "ok": False, "error": error.to_dict()})

    def _write(self, fields: dict[str, Any]) -> None:
        # The standard library's encoder: an error must be told even where msgspec cannot be loaded.
        import json

        print(json.dumps(fields, default=str, ensure_ascii=False), flush=True)
