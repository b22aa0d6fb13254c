"""The verbs of the page: ``alloy report``, one file of all that is known of a job."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from .connecting import client_of
from .console import Console
from .errors import OutputError
from .page.plotly_script import plotly_file
from .page.report import write_report
from .page.story import gather
from .units import format_size


def report(options: argparse.Namespace, console: Console) -> int:
    """Write a job's page and print where it is."""
    plotly_file()  # before a daemon is asked, or started
    with client_of(options) as client:
        story = gather(client, options.job)
    path = Path(options.out or f"{story.job.id}.html").absolute()
    try:
        if path.is_dir():
            path /= f"{story.job.id}.html"
        write_report(story, path)
    except OSError as wrong:
        raise OutputError(
            f"the report cannot be written to {path}: {wrong.strerror or wrong}",
            hint="Name another file with --out.",
            path=str(path),
        ) from None
    console.show(str(path))
    console.say(f"{format_size(path.stat().st_size)}, complete in itself: open it in any browser")
    console.result({"job": story.job.id, "path": str(path), "bytes": path.stat().st_size})
    if options.open:
        webbrowser.open(path.as_uri())
    return 0
