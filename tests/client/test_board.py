"""What stands on the board and in which order, and what a window of any size shows of it."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from alloyd.board import Board
from alloyd.jobs import Event, Job, JobState, Pace
from alloyd.page import queue
from alloyd.render_board import picture
from alloyd.wire import Status

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def job(number: int, state: JobState, **more: object) -> Job:
    fields: dict[str, object] = {"created": NOW - timedelta(hours=1), "out": f"out-{number}", "rank": number}
    if state.ended:
        fields["ended"] = NOW - timedelta(minutes=number)
    return Job(id=f"merge-{number}", kind="merge", state=state, **(fields | more))  # type: ignore[arg-type]


def tick(number: int, done: int) -> Event:
    body = {"done": done, "total": 10, "unit": "bytes", "what": "layers.0", "rate": 2.0, "eta": 3.0}
    return Event(0, f"merge-{number}", "progress", NOW, body)


def drawn(board: Board, width: int = 100, height: int = 20, most: int = 50) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(picture(board, now=NOW, width=width, height=height, most=most))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_order_is_running_paused_waiting_ended() -> None:
    board = Board(ended=2)
    board.fill(
        [
            job(1, JobState.DONE),
            job(2, JobState.DONE),
            job(3, JobState.FAILED),
            job(4, JobState.QUEUED),
            job(5, JobState.QUEUED, priority=7),
            job(6, JobState.RUNNING),
            job(7, JobState.PAUSED),
        ]
    )
    assert [each.id for each in board.jobs()] == [f"merge-{n}" for n in (6, 7, 5, 4, 1, 2)]
    board.put(job(6, JobState.DONE, ended=NOW))
    assert [each.id for each in board.jobs()] == [f"merge-{n}" for n in (7, 5, 4, 6, 1)]
    board.drop("merge-7")
    board.drop("merge-700")
    assert board.get("merge-7") is None


def waiting(most: int, total: int) -> Board:
    """A board of a queue of ``total`` that was cut after the first ``most``."""
    board = Board(ended=2)
    board.status = Status("1", 1, "/", NOW, 1.0, 1, {"queued": total, "running": 1}, 1, 0, False, "")
    board.fill([job(1, JobState.RUNNING), *(job(n, JobState.QUEUED) for n in range(2, most + 2))], cut=True)
    return board


def test_a_queue_that_was_cut_shows_what_is_next_and_says_how_much_is_left_out() -> None:
    board = waiting(6, 4000)
    assert board.left_out == 3994
    board.put(job(5000, JobState.QUEUED))
    assert board.get("merge-5000") is None, "it stands behind jobs that the board does not know"
    board.put(job(5001, JobState.QUEUED, priority=1))
    assert [each.id for each in board.jobs()][:3] == ["merge-1", "merge-5001", "merge-2"]
    board.put(job(7000, JobState.RUNNING))
    assert board.get("merge-7000") is not None
    assert not board.thin
    for number in range(2, 7):
        board.put(job(number, JobState.RUNNING))
    assert board.thin, "it is time to ask for the next ones"
    board.fill([job(7, JobState.QUEUED)])
    assert board.left_out == 0
    assert not board.thin


def test_a_queue_that_grows_job_by_job_is_cut_too() -> None:
    board = Board(ended=2, waiting=4)
    board.status = Status("1", 1, "/", NOW, 1.0, 1, {"queued": 9}, 1, 0, False, "")
    board.fill([job(n, JobState.QUEUED) for n in range(1, 4)])
    for number in range(4, 10):
        board.put(job(number, JobState.QUEUED))
    assert [each.id for each in board.jobs()] == ["merge-1", "merge-2", "merge-3", "merge-4"]
    assert board.left_out == 5


def test_what_is_left_out_of_a_long_queue_is_told_in_the_window_and_on_the_page() -> None:
    board = waiting(6, 4000)
    assert "3,994 more" in drawn(board)
    assert "3,999 more" in drawn(board, height=7)
    rows, more = queue.rows(board)
    assert len(rows) + more == 4001


def test_progress_counts_for_jobs_that_run() -> None:
    board = Board(ended=2)
    board.fill([job(1, JobState.RUNNING), job(2, JobState.DONE)])
    assert board.tick(tick(1, 4))
    assert not board.tick(tick(2, 4)), "a late tick of a job that has ended"
    assert not board.tick(tick(3, 4)), "a job that nobody knows"
    (first, second) = board.jobs()
    assert first.progress == Pace(4, 10, "bytes", "layers.0", 2.0, 3.0)
    assert second.progress is None


def test_a_window_shows_bar_speed_time_and_reason() -> None:
    board = Board(ended=2)
    board.fill([job(1, JobState.RUNNING), job(2, JobState.QUEUED, reason="needs 38 GB disk, 12 GB free")])
    board.tick(tick(1, 4))
    text = "\n".join(drawn(board, 120))
    for part in ("40.0%", "2 B/s", "3.0 s", "layers.0", "━", "needs 38 GB disk, 12 GB free · out-2"):
        assert part in text


@pytest.mark.parametrize("width", [12, 30, 59, 60, 99, 100, 300])
@pytest.mark.parametrize("height", [1, 5, 6, 12, 40])
def test_no_window_is_too_small(width: int, height: int) -> None:
    board = Board(ended=10)
    board.fill(
        [
            *(job(n, JobState.RUNNING, reason="so " * 50) for n in range(1, 30)),
            *(job(n, JobState.DONE) for n in range(40, 50)),
        ]
    )
    lines = drawn(board, width, height)
    assert all(len(line) <= width for line in lines)
    assert len(lines) <= max(height, 6)
    if height >= 12:
        text = "\n".join(lines)
        assert "merge-40" in text or width < 20, "what has ended keeps its place"
        assert " more" in text or height == 40


def test_a_hostile_name_moves_no_cursor_and_is_no_markup() -> None:
    board = Board(ended=10)
    board.fill([job(1, JobState.RUNNING, out="[red]x[/red]\x1b[2J\r\u202e", reason="[/]")])
    text = "\n".join(drawn(board, 160))
    assert "[/] · [red]x[/red]\\x1b[2J\\r\\u202e" in text


def test_a_daemon_that_is_away_is_said_to_be() -> None:
    board = Board(ended=10)
    board.away = "no daemon runs"
    assert drawn(board)[0] == "alloyd  the daemon is away, waiting for it: no daemon runs"
