"""The words of the queue on the command line: where a job stands in it, and the verbs that change that."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Final

from .priority import LARGEST_PRIORITY

Verb = Callable[[str, str, str], argparse.ArgumentParser]
JOB_VERBS: Final = ("retry", "move")


def add_place(one: argparse.ArgumentParser) -> None:
    """The options that say where the job of a verb stands in the queue."""
    one.add_argument(
        "--priority",
        type=priority,
        default=0,
        metavar="N",
        help=f"higher is begun first: {-LARGEST_PRIORITY} to {LARGEST_PRIORITY} (default: 0)",
    )
    one.add_argument(
        "--after", action="append", default=[], metavar="JOB", help="begin when JOB is done; again for more"
    )
    one.add_argument("--key", metavar="KEY", help="the same KEY again is the same job, and is not done twice")


def add(verb: Verb) -> None:
    """The verbs ``retry`` and ``move``."""
    one = verb(
        "retry", "cli_jobs", "Try failed, quarantined or cancelled jobs again, from the start of their count."
    )
    one.add_argument("jobs", metavar="JOB", nargs="+")
    one = verb("move", "cli_jobs", "Change the place of jobs in the queue.")
    one.add_argument("jobs", metavar="JOB", nargs="+", help="several keep the order in which they are named")
    where = one.add_mutually_exclusive_group(required=True)
    where.add_argument("--top", dest="to", action="store_const", const="top", help="before all others")
    where.add_argument("--bottom", dest="to", action="store_const", const="bottom", help="behind all others")
    where.add_argument(
        "--priority",
        dest="to",
        type=priority,
        metavar="N",
        help=f"among those of this priority: {-LARGEST_PRIORITY} to {LARGEST_PRIORITY}",
    )


def priority(text: str) -> int:
    """A priority as it is written on the command line."""
    if not re.fullmatch(r"-?[0-9]{1,3}", text) or abs(int(text)) > LARGEST_PRIORITY:
        raise argparse.ArgumentTypeError(
            f"priorities go from {-LARGEST_PRIORITY} to {LARGEST_PRIORITY}, not '{text}'"
        )
    return int(text)
