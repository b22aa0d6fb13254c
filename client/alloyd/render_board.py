"""A board in the terminal: the daemon, a line a job with its bar, cut to the window. Loads rich; pure otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from .board import Board
from .foreign import printable
from .jobs import Job, JobState
from .render import format_left, format_share, format_speed, what_of
from .units import format_duration

_STYLES: Final[Mapping[JobState, str]] = {
    JobState.RUNNING: "bold cyan",
    JobState.PAUSED: "yellow",
    JobState.QUEUED: "",
    JobState.DONE: "green",
    JobState.FAILED: "bold red",
    JobState.CANCELLED: "dim",
}
_WIDE: Final = 100
"""Columns from which on there is room for a long bar, and for speed and what is being read."""
_NARROW: Final = 60
"""Columns below which a job's bar goes too."""
_TINY: Final = 45
"""Columns below which a job's time goes too."""
_AROUND: Final = 5
"""Lines that are no job's: the head, a blank one, the table's head, what is left out, how to leave."""


def picture(
    board: Board,
    *,
    now: datetime,
    width: int,
    height: int,
    most: int,
    short: Callable[[str], str] = str,
) -> RenderableType:
    """What a window of ``width`` by ``height`` shows: as many of the jobs as fit, at most ``most``.

    ``short`` says a path as short as it can be said.
    """
    jobs = board.jobs()
    shown = _cut(jobs, max(1, min(most, height - _AROUND)))
    lines: list[RenderableType] = [_head(board), Text()]
    if jobs:
        lines.append(_table(shown, now, width, short))
    else:
        lines.append(Text("no jobs wait, run or are paused", style="dim"))
    if left_out := len(jobs) - len(shown) + board.left_out:
        lines.append(Text(f"{left_out:,} more", style="dim"))
    lines.append(Text("Ctrl-C leaves; the jobs go on.", style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*lines)


def head_text(board: Board) -> str:
    """The daemon in a few words."""
    if board.away:
        return f"the daemon is away, waiting for it: {board.away}"
    if board.status is None:
        return "asking the daemon"
    up = "stopping" if board.status.stopping else f"up {format_duration(board.status.uptime)}"
    return " · ".join([*(board.counts() or ["no jobs yet"]), up])


def _head(board: Board) -> Text:
    text = Text("alloyd  ", style="bold", no_wrap=True, overflow="ellipsis")
    return text.append(printable(head_text(board)), style="bold red" if board.away else "not bold")


def _cut(jobs: Sequence[Job], most: int) -> list[Job]:
    """The first ``most``; where many wait, a fourth of the lines is kept for those that have ended."""
    living = [job for job in jobs if not job.state.ended]
    ended = [job for job in jobs if job.state.ended]
    kept = max(most - len(living), min(len(ended), most // 4))
    return [*living[: most - min(kept, len(ended))], *ended[:kept]]


def _table(jobs: Sequence[Job], now: datetime, width: int, short: Callable[[str], str]) -> Table:
    wide, bar, time = width >= _WIDE, width >= _NARROW, width >= _TINY
    columns = [Column("JOB", no_wrap=True), Column("STATE", no_wrap=True)]
    columns += [Column("", width=24 if wide else 12)] if bar else []
    columns += [Column("DONE", justify="right", no_wrap=True)]
    columns += [Column("SPEED", justify="right", no_wrap=True)] if wide else []
    columns += [Column("LEFT", justify="right", no_wrap=True)] if time else []
    columns += [Column("WHAT", no_wrap=True, overflow="ellipsis", ratio=1)]
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim", pad_edge=False)
    for job in jobs:
        cells: list[RenderableType] = [Text(job.id), Text(job.state.value, style=_STYLES[job.state])]
        cells += [_bar(job)] if bar else []
        cells += [Text(format_share(job))]
        cells += [Text(format_speed(job))] if wide else []
        cells += [Text(_left(job, now))] if time else []
        cells += [Text(printable(_what(job, wide, short)))]
        table.add_row(*cells)
    return table


def _bar(job: Job) -> RenderableType:
    if job.progress is None or not job.progress.total or job.state is not JobState.RUNNING:
        return Text()
    return ProgressBar(
        total=job.progress.total, completed=job.progress.done, complete_style="cyan", finished_style="green"
    )


def _left(job: Job, now: datetime) -> str:
    """How long it still runs; of one that has ended, since when."""
    if job.state.ended and job.ended is not None:
        return f"{format_duration(max(0.0, (now - job.ended).total_seconds()))} ago"
    return format_left(job) if job.state is JobState.RUNNING else "-"


def _what(job: Job, wide: bool, short: Callable[[str], str]) -> str:
    """Why it is where it is before what it makes, for the end of the line may be cut off."""
    if job.state is JobState.FAILED:
        return what_of(job)
    doing = job.progress.what if wide and job.progress is not None and job.state is JobState.RUNNING else ""
    return " · ".join(filter(None, (job.reason, doing, what_of(job, short))))
