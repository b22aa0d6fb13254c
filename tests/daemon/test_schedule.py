"""The schedule while workers overtake each other: a tensor is settled once, whoever comes to it last."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

import pytest

from alloyd_daemon.engine.schedule import Schedule
from alloyd_daemon.engine.tensor_run import Cursor, TensorRun


class OneBlock:
    """A tensor of one block and so many sweeps; another worker does a whole sweep as soon as it is filled."""

    def __init__(self, sweeps: int, overtaken: int) -> None:
        self.plan = self
        self.name = "a"
        self.cost = 10
        self.counted = 0
        self.pending: deque[int] = deque()
        self.outstanding = 0
        self.finished = False
        self.left = sweeps
        self.overtaken = overtaken
        self.schedule: Any = None

    @property
    def uncounted(self) -> int:
        return self.cost - self.counted

    def cost_of(self, first: int) -> int:
        self.counted += 1
        return 1

    def next(self) -> int | None:
        return self.pending.popleft() if self.pending else None

    def begin(self) -> None:
        self.advance()

    def advance(self) -> None:
        if self.left == 0:
            self.finished = True
            return
        self.left -= 1
        self.outstanding = 1
        self.pending.append(0)
        if self.left == self.overtaken:
            self.schedule.finish(self.schedule.take())


@pytest.mark.parametrize("overtaken", [0, 1, 2])
def test_a_tensor_that_others_finish_first_is_settled_once(overtaken: int) -> None:
    run = OneBlock(3, overtaken)
    run.schedule = schedule = Schedule([cast(TensorRun, run)], 1)
    while (task := schedule.take()) is not None:
        schedule.finish(task)
    assert schedule.complete
    assert schedule.bytes_done == schedule.bytes_total == run.cost


def test_a_cursor_lets_no_block_run_far_ahead_and_names_each_element_behind_it_once() -> None:
    cursor = Cursor()
    assert cursor.take(0, 20)
    assert cursor.take(10, 20)
    assert cursor.take(20, 20)
    assert not cursor.take(30, 20)
    assert cursor.finish(10, 20) == (0, 0)
    assert cursor.finish(0, 10) == (0, 20)
    assert cursor.take(30, 20)
    assert cursor.finish(30, 35) == (20, 20)
    assert cursor.finish(20, 30) == (20, 35)
