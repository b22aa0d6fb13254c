"""The words of watched folders: ``alloy watch add``, ``list`` and ``rm``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from .words_queue import priority


def add(
    verb: Callable[[str, str, str], argparse.ArgumentParser],
    nested: Callable[[Any, str, str], argparse.ArgumentParser],
) -> None:
    """Register the verb ``watch``, and by ``nested`` what may be said behind it."""
    one = verb(
        "watch",
        "cli_watch",
        "Run what is dropped into a folder: recipes, search specs, and models that rules wait for.",
    )
    actions = one.add_subparsers(dest="action", metavar="add|list|rm", required=True)
    more = nested(actions, "add", "watch a folder, or watch it otherwise")
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
        "--priority", type=priority, default=0, metavar="N", help="of its jobs: -100 to 100 (default: 0)"
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
    more.add_argument("--rules", metavar="FILE", help="what is done with new models (docs/watch-folders.md)")
    more.add_argument(
        "--existing",
        action="store_true",
        help="models that are there already count as new, and what failed is tried again",
    )
    nested(actions, "list", "show watched folders and what waits in them")
    less = nested(actions, "rm", "watch a folder no longer")
    less.add_argument("folder", metavar="DIR")
