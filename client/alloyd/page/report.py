"""A job's page as one file that needs nothing else: `alloy report JOB`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .document import document
from .sections import head, sections
from .story import Story


def report(story: Story) -> str:
    """The file's text; the same story gives the same. Raises UsageError where plotly is not installed."""
    return document(head(story), sections(story), live=False)


def write_report(story: Story, path: Path) -> None:
    """Write the page at ``path``: whoever looks there finds the old one or the new one, whole.

    Raises
    ------
    UsageError
        plotly is not installed.
    OSError
        The file cannot be written.
    """
    data = report(story).encode("utf-8", "backslashreplace")
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
