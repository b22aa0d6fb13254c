"""What happened to a job, in order: its states, notes and the end of its log. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..jobs import Event
from ..units import format_duration
from .parts import Block, Code, Rows, Table, Words
from .story import LOG_BYTES, Story
from .wording import counted, short, time

ROWS: Final = 300
NOTE: Final = 500
"""Characters of a note."""


def blocks(story: Story) -> Iterator[Block]:
    """A table of events, warnings before it, and the end of the log."""
    warnings = list(dict.fromkeys(_note(each) for each in story.events if _is_warning(each)))
    if warnings:
        yield Words([short(each, NOTE) for each in warnings[:20]], "warning")
    told = [(each, text) for each in story.events if (text := _text(each))]
    if told:
        rows = [(time(each.at), text) for each, text in told[-ROWS:]]
        left_out = story.earlier + max(0, len(told) - ROWS)
        yield Rows("States and notes", _says(story), Table(("when", "what"), rows, left_out=left_out))
    if story.log.strip():
        cut = f" (its last {LOG_BYTES // 1024} KiB)" if story.log_bytes > LOG_BYTES else ""
        yield Code(f"Log{cut}", story.log, folded=True)


def _is_warning(event: Event) -> bool:
    return event.kind == "note" and event.body.get("level") == "warning"


def _note(event: Event) -> str:
    return str(event.body.get("text", ""))


def _text(event: Event) -> str:
    match event.kind:
        case "state":
            reason, error = event.body.get("reason"), event.body.get("error") or {}
            said = str(event.body.get("state")) + (f": {reason}" if reason else "")
            return short(said + (f": {error['message']}" if error.get("message") else ""), NOTE)
        case "planned":
            return "planned"
        case "note":
            return short(f"{event.body.get('level')}: {_note(event)}", NOTE)
        case _:
            return ""


def _says(story: Story) -> str:
    job = story.job
    if job.started is None:
        return "It has not begun yet."
    said = f"It waited {format_duration(max(0.0, (job.started - job.created).total_seconds()))}"
    if job.ended is not None:
        said += f" and ended {format_duration(max(0.0, (job.ended - job.started).total_seconds()))} after it began"
    return f"{said}, in {counted(max(1, job.attempts), 'attempt')}."
