"""The words of the verbs about the daemon as a service: service, metrics."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add(verb: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    """Add the verbs."""
    one = verb("service", "cli_systemd", "Run the daemon as a service of yours, by systemd.")
    one.add_argument("act", choices=("install", "remove", "status"))
    one.add_argument("--force", action="store_true", help="replace a unit that something else wrote")
    verb("metrics", "cli_systemd", "Print the daemon's figures in Prometheus' text format.")
