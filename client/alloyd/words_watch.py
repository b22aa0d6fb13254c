"""The words of watched folders: ``alloy watch add``, ``list`` and ``rm``."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add(verb: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    """Register the verb ``watch`` with its own verbs."""
    one = verb("watch", "cli_watch", "Run recipes and search specs that are dropped into a folder.")
    actions = one.add_subparsers(dest="action", metavar="add|list|rm", required=True)
    more = actions.add_parser("add", help="watch a folder, or watch it otherwise", allow_abbrev=False)
    more.add_argument("folder", metavar="DIR")
    more.add_argument("--out", metavar="FOLDER", help="where outputs go (default: DIR/out)")
    more.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder that recipes may name; again for more",
    )
    more.add_argument(
        "--priority", type=int, default=0, metavar="N", help="of its jobs: -100 to 100 (default: 0)"
    )
    more.add_argument(
        "--settle", type=float, metavar="S", help="seconds without a change before a file is taken"
    )
    more.add_argument(
        "--rescan", type=float, default=60.0, metavar="S", help="look at least so often (default: 60)"
    )
    more.add_argument(
        "--mode", choices=("auto", "inotify", "polling"), default="auto", help="how changes are noticed"
    )
    more.add_argument("--in-flight", type=int, default=16, metavar="N", help="jobs at a time (default: 16)")
    more.add_argument(
        "--duplicates",
        choices=("skip", "run"),
        default="skip",
        help="what becomes of content that was done before",
    )
    actions.add_parser("list", help="show watched folders and what waits in them", allow_abbrev=False)
    less = actions.add_parser("rm", help="watch a folder no longer", allow_abbrev=False)
    less.add_argument("folder", metavar="DIR")
    for each in actions.choices.values():
        each.add_argument("--home", default=argparse.SUPPRESS, help="the daemon's folder")
        each.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object a line"
        )
