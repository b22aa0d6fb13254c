"""The live page of the queue: what each job's row says, and the page around the rows. Pure."""

from __future__ import annotations

from typing import Any, Final

from .. import render
from ..board import Board
from ..foreign import printable
from ..jobs import Job, JobState
from ..units import format_duration
from . import markup
from .document import live_page
from .parts import Head

MOST: Final = 200
"""Living jobs that are shown; how many more there are is said."""
ENDED: Final = 30
GROUPS: Final = (
    ("running", "Running or paused", "Nothing runs."),
    ("waiting", "Waiting", "Nothing waits."),
    ("ended", "Ended", "Nothing has ended yet."),
)
_ORDERS: Final[dict[JobState, tuple[str, ...]]] = {
    JobState.RUNNING: ("pause", "cancel"),
    JobState.QUEUED: ("pause", "cancel"),
    JobState.PAUSED: ("resume", "cancel"),
    JobState.FAILED: ("retry",),
    JobState.CANCELLED: ("retry",),
    JobState.DONE: (),
}


def rows(board: Board) -> tuple[dict[str, dict[str, Any]], int]:
    """Rows by job, in order, and how many jobs have none."""
    jobs = board.jobs()
    living = [job for job in jobs if not job.state.ended]
    ended = [job for job in jobs if job.state.ended]
    shown = [*living[:MOST], *ended[:ENDED]]
    return {job.id: row(job) for job in shown}, len(living[MOST:]) + board.left_out


def row(job: Job) -> dict[str, Any]:
    """What is shown of a job: plain values, each ready to be put on the page as text."""
    pace = job.progress if job.state is JobState.RUNNING else None
    share = pace.done / pace.total if pace is not None and pace.total else None
    figures = (render.format_share(job), render.format_speed(job)) if pace is not None else ()
    left = f"{render.format_left(job)} left" if pace is not None and pace.eta is not None else ""
    took = (job.ended - job.started).total_seconds() if job.ended and job.started else None
    return {
        "group": "ended" if job.state.ended else "waiting" if job.state is JobState.QUEUED else "running",
        "state": job.state.value,
        "share": share,
        "figures": " · ".join([each for each in (*figures, left) if each not in ("", "-")]),
        "took": f"in {format_duration(max(0.0, took))}" if took is not None else "",
        "what": printable(render.what_of(job)),
        "why": "" if job.state is JobState.FAILED else printable(job.reason),
        "doing": printable(pace.what) if pace is not None else "",
        "ended": job.ended.isoformat() if job.ended is not None else "",
        "priority": job.priority,
        "orders": _ORDERS[job.state],
    }


def summary(board: Board) -> dict[str, Any]:
    """The daemon as a whole, and why it is not there, if so."""
    status = board.status
    return {
        "away": printable(board.away),
        "state": "away" if board.away else "stopping" if status is not None and status.stopping else "here",
        "says": " · ".join(board.counts()) or "no jobs yet",
        "home": printable(status.home) if status is not None else "",
    }


def page(order: str) -> str:
    """The page; a script fills it. ``order`` is what that adds to what it asks to be done."""
    body = (
        '<p id="lost" class="words error" role="status" hidden></p>'
        + "".join(_group(*each) for each in GROUPS)
        + '<p id="more" class="more" hidden></p><p id="said" class="unseen" role="status"></p>'
        + f'<script type="application/json" id="page-data">{markup.data({"order": order})}</script>'
    )
    return live_page(
        Head("alloyd", says="asking the daemon"),
        body,
        scripts=("page.js", "listen.js", "queue.js"),
        styles=("page.css", "queue.css"),
    )


def _group(key: str, title: str, empty: str) -> str:
    title_key = f"{key}-title"
    inside = (
        markup.tag("h2", f'{title} <span class="count"></span>', id=title_key)
        + markup.tag("p", empty, class_="empty")
        + markup.tag("ul", "", class_="jobs", aria_labelledby=title_key)
    )
    return markup.tag("section", inside, id=key, aria_labelledby=title_key)
