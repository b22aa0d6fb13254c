"""The verb ``alloy kinship``: how alike models of one base are."""

from __future__ import annotations

import argparse

from .cli_work import work
from .connecting import is_far
from .console import Console
from .specs import kinship_spec
from .units import parse_size


def kinship(options: argparse.Namespace, console: Console) -> int:
    """Print how alike the models are, as a whole and part by part."""
    settings = {"reader": options.reader, "threads": options.threads}
    if options.memory is not None:
        settings["memory"] = parse_size(options.memory)
    return work(options, console, kinship_spec(options.base, options.models, settings, far=is_far(options)))
