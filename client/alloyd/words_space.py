"""The words about room on the disk: ``alloy df``, ``alloy prune``."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from .errors import UsageError
from .units import parse_age


def add(verb: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    """Add the verbs."""
    verb("df", "cli_space", "Say what takes room in the daemon's home and beside it.")
    one = verb(
        "prune", "cli_space", "Forget jobs that ended long ago, and remove what they left in the home."
    )
    one.add_argument(
        "--older-than",
        type=_age,
        metavar="AGE",
        help="jobs that ended so long ago: 30d, 12h, 2w (default: 30d; with --keep: any)",
    )
    one.add_argument("--keep", type=_count, metavar="N", help="but not the newest N ended jobs")
    one.add_argument(
        "--outputs",
        action="store_true",
        help="also the weights of what these jobs published, where 'alloy rebuild' can make them again",
    )
    one.add_argument(
        "--trust-clock",
        action="store_true",
        help="believe the clock, also where the home has not lived through so many days",
    )
    one.add_argument("--dry-run", "-n", action="store_true", help="only say what would go")
    one.add_argument("--yes", "-y", action="store_true", help="do not ask")


def _age(text: str) -> float:
    try:
        return parse_age(text)
    except UsageError as wrong:
        raise argparse.ArgumentTypeError(f"{wrong.message}; write 30d, 12h or 2w") from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"expected a number of jobs, not '{text}'")
    return int(text)
