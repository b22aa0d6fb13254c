"""Which queued jobs may begin, and what the others wait for: admission alone, on a machine that the test makes up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from alloyd_daemon.service.admission import FIRST_PAUSE, LIGHT_AT_ONCE, MOST_PASSED, Admission, Running
from alloyd_daemon.service.machine import Disk, Machine
from alloyd_daemon.service.store_rows import Lack, Waiting
from alloyd_daemon.settings import JobSettings, Settings

GB = 10**9


class Made(Machine):
    """A machine of 16 GB with a disk and devices as the test says."""

    def __init__(self, *, disk: Disk | None = None, gpus: int = 0, available: int = 16 * GB) -> None:
        self.room, self.devices, self.left = disk, gpus, available

    def memory(self) -> int:
        return 16 * GB

    def available(self) -> int:
        return self.left

    def disk(self, path: Path) -> Disk | None:
        return self.room

    def gpus(self) -> int:
        return self.devices


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


def admission(machine: Made, *, parallel: int = 8, clock: Clock | None = None) -> Admission:
    settings = Settings(jobs=JobSettings(memory="4GB", parallel=parallel))
    return Admission(settings, machine, clock=clock or Clock())


def waiting(
    number: int,
    kind: str = "merge",
    *,
    memory: int | None = None,
    after: tuple[int, ...] = (),
    lacks: Lack | None = None,
) -> Waiting:
    return Waiting(f"{kind}-{number}", kind, memory, after, lacks, False)


def nothing(_: Sequence[int]) -> list[str]:
    return []


def test_jobs_run_side_by_side_while_their_budgets_fit() -> None:
    one = admission(Made())
    queue = [waiting(number) for number in range(1, 7)]  # 4 GB each, of 16
    assert one.choose(queue, [], nothing) == ["merge-1", "merge-2", "merge-3", "merge-4"]
    assert one.reason("merge-5") == (
        "waits: needs 4.0 GB of memory, 0 B are free beside merge-1, merge-2, merge-3, merge-4"
    )
    assert one.reason("merge-1") == ""


def test_no_more_run_than_may_and_light_ones_do_not_wait_for_them() -> None:
    one = admission(Made(), parallel=1)
    queue = [waiting(1), waiting(2), *(waiting(number, "plan") for number in range(3, 9))]
    chosen = one.choose(queue, [], nothing)
    assert chosen == ["merge-1", *(f"plan-{number}" for number in range(3, 3 + LIGHT_AT_ONCE))]
    assert one.reason("merge-2") == "waits for merge-1"


def test_one_that_is_alone_begins_however_much_it_asks_for() -> None:
    one = admission(Made(available=GB))
    assert one.choose([waiting(1, memory=64 * GB), waiting(2)], [], nothing) == ["merge-1"]


def test_a_big_one_lets_a_few_small_ones_pass_and_no_more() -> None:
    one = admission(Made())
    running = [Running("merge-1", "merge", 8 * GB)]
    passed = []
    for number in range(3, 20):
        queue = [waiting(2, memory=12 * GB), waiting(number, memory=GB)]
        passed += one.choose(queue, running, nothing)
    assert passed == [f"merge-{number}" for number in range(3, 3 + MOST_PASSED)]
    assert one.reason("merge-19") == "waits for merge-2, whose turn it is once there is memory"
    assert one.choose([waiting(2, memory=12 * GB), waiting(20, memory=GB)], [], nothing) == [
        "merge-2",
        "merge-20",
    ]


def test_one_waits_for_those_it_is_to_follow_and_others_pass() -> None:
    one = admission(Made())
    queue = [waiting(2, after=(1,)), waiting(3)]
    assert one.choose(queue, [], lambda jobs: [f"merge-{number}" for number in jobs]) == ["merge-3"]
    assert one.reason("merge-2") == "waits for merge-1"


def test_room_on_a_disk_is_waited_for_and_told() -> None:
    clock, machine = Clock(), Made(disk=Disk(12 * GB, 100 * GB))
    one = admission(machine, clock=clock)
    lack = Lack("disk", 38 * GB, 12 * GB, "/data/out")
    one.gave_way("merge-1")
    assert one.choose([waiting(1, lacks=lack), waiting(2)], [], nothing) == ["merge-2"]
    assert one.reason("merge-1") == "waits: needs 38.0 GB on /data/out, 12.0 GB are free"
    machine.room = Disk(40 * GB, 100 * GB)
    assert one.choose([waiting(1, lacks=lack)], [], nothing) == []  # seen a moment ago
    clock.at += FIRST_PAUSE
    assert one.choose([waiting(1, lacks=lack)], [], nothing) == ["merge-1"]


def test_a_disk_that_is_full_again_and_again_is_tried_ever_less_often() -> None:
    clock, machine = Clock(), Made(disk=Disk(40 * GB, 100 * GB))
    one = admission(machine, clock=clock)
    job = waiting(1, lacks=Lack("disk", 38 * GB, 12 * GB, "/data/out"))
    tries = []
    for second in range(200):
        clock.at = float(second)
        if one.choose([job], [], nothing):
            tries.append(second)
            one.gave_way("merge-1")
    pauses = [late - early for early, late in pairwise(tries)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 60
    one.forgive("merge-1")
    assert one.choose([job], [], nothing) == ["merge-1"]


def test_one_that_was_killed_for_memory_waits_for_it_even_alone() -> None:
    machine = Made(available=GB)
    one = admission(machine)
    job = waiting(1, lacks=Lack("memory", 4 * GB, GB))
    assert one.choose([job], [], nothing) == []
    assert one.reason("merge-1") == "waits: needs 4.0 GB of memory, 1.0 GB are free"
    machine.left = 8 * GB
    assert one.choose([job], [], nothing) == ["merge-1"]


def test_a_gpu_is_taken_by_one_at_a_time() -> None:
    one = admission(Made(gpus=1))
    queue = [waiting(1, "score", memory=GB), waiting(2, "search", memory=GB), waiting(3, memory=GB)]
    assert one.choose(queue, [], nothing) == ["score-1", "merge-3"]
    assert one.reason("search-2") == "waits for the GPU that score-1 uses"


@given(
    st.lists(st.tuples(st.sampled_from(["merge", "plan", "score"]), st.integers(1, 40)), max_size=12),
    st.integers(1, 6),
)
def test_what_begins_fits(jobs: list[tuple[str, int]], parallel: int) -> None:
    one = admission(Made(), parallel=parallel)
    queue = [waiting(number, kind, memory=size * GB) for number, (kind, size) in enumerate(jobs)]
    chosen = set(one.choose(queue, [], nothing))
    heavy = [each for each in queue if each.id in chosen and each.kind != "plan"]
    assert len(heavy) <= parallel
    assert len(heavy) == 1 or sum(each.memory or 0 for each in heavy) <= 16 * GB
    assert not queue or chosen  # somebody always goes on
    assert all(one.reason(each.id) for each in queue if each.id not in chosen)


def test_a_big_one_that_no_job_keeps_from_beginning_does_not_keep_others_from_it() -> None:
    machine = Made(available=2 * GB)  # other programs have the rest
    one = admission(machine)
    killed = waiting(1, memory=12 * GB, lacks=Lack("memory", 12 * GB, 2 * GB))
    passed = [
        name
        for number in range(2, 20)
        for name in one.choose([killed, waiting(number, memory=GB)], [], nothing)
    ]
    assert passed == [f"merge-{number}" for number in range(2, 20)]
    running = [Running("merge-19", "merge", GB)]
    assert one.choose([killed, waiting(20, memory=GB)], running, nothing) == [], "it is its turn"
    machine.left = 16 * GB
    assert one.choose([killed, waiting(20, memory=GB)], [], nothing) == ["merge-1", "merge-20"]
