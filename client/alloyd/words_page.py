"""The words of the page on the command line."""

from __future__ import annotations

from .words_queue import Verb


def add(verb: Verb) -> None:
    """The verb ``report``."""
    one = verb(
        "report", "cli_page", "Write all that is known of a job as one HTML file, for any browser, offline."
    )
    one.add_argument("job", metavar="JOB", help="an id such as search-12, or its number")
    one.add_argument(
        "--out", "-o", metavar="FILE", help="the file, replaced if it is there (default: JOB.html)"
    )
    one.add_argument("--open", action="store_true", help="show it in this machine's browser")
