"""The words of the page on the command line."""

from __future__ import annotations

import argparse
from typing import Final

from .words_queue import Verb

PORT: Final = 8642


def add(verb: Verb) -> None:
    """The verbs ``report`` and ``ui``."""
    one = verb(
        "report", "cli_page", "Write all that is known of a job as one HTML file, for any browser, offline."
    )
    one.add_argument("job", metavar="JOB", help="an id such as search-12, or its number")
    one.add_argument(
        "--out", "-o", metavar="FILE", help="the file, replaced if it is there (default: JOB.html)"
    )
    one.add_argument("--open", action="store_true", help="show it in this machine's browser")
    one = verb("ui", "cli_ui", "Show the queue and every job live in the browser, for you alone.")
    one.add_argument(
        "--port",
        type=port,
        default=PORT,
        metavar="N",
        help="on 127.0.0.1; 0 is any that is free (default: %(default)s)",
    )
    one.add_argument(
        "--open",
        action=argparse.BooleanOptionalAction,
        help="show it in this machine's browser (default: where there is a screen)",
    )


def port(text: str) -> int:
    """A port as it is written on the command line."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"ports go from 0 to 65535, not '{text}'")
    return int(text)
