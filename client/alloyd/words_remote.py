"""The words for keys and connection profiles: ``alloy keys``, ``alloy profile``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def add(
    verb: Callable[[str, str, str], argparse.ArgumentParser],
    nested: Callable[[Any, str, str], argparse.ArgumentParser],
) -> None:
    """Register the verbs, and by ``nested`` what may be said behind them."""
    one = verb(
        "keys", "cli_remote", "Make keys, and say which may come to this machine's daemon over the network."
    )
    what = one.add_subparsers(dest="what", metavar="WHAT", required=True)
    each = nested(what, "new", "make a key pair: this daemon's own, or with NAME one to come with")
    each.add_argument("name", metavar="NAME", nargs="?", help="what the pair is called")
    each = nested(what, "authorize", "let a key in; takes effect at once")
    each.add_argument("name", metavar="NAME", help="what the key is called here")
    each.add_argument("key", metavar="PUBLICKEY", help="as 'alloy keys new NAME' printed it there")
    each.add_argument(
        "--role", required=True, choices=("read", "submit", "admin"), help="what it may do: docs/remote.md"
    )
    each = nested(what, "revoke", "let a key in no longer; takes effect at once")
    each.add_argument("name", metavar="NAME")
    nested(what, "list", "list the keys that are let in")

    one = verb("profile", "cli_remote", "Say how daemons of other machines are reached, for --connect.")
    what = one.add_subparsers(dest="what", metavar="WHAT", required=True)
    each = nested(what, "add", "add a profile, or replace it")
    each.add_argument("name", metavar="NAME")
    each.add_argument("address", metavar="tcp://HOST:PORT", help="where the daemon takes requests")
    each.add_argument("--events", metavar="tcp://HOST:PORT", default="", help="(default: on the next port)")
    each.add_argument(
        "--server-key", metavar="KEY", required=True, help="the server's public key, or a file that holds it"
    )
    each.add_argument(
        "--key", metavar="NAME", default="", help="the pair to come with (default: the only one you have)"
    )
    nested(what, "list", "list the profiles")
    each = nested(what, "rm", "forget a profile")
    each.add_argument("name", metavar="NAME")
