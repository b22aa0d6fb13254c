"""What the store forgets: never what is needed; numbers are given once, gaps show, and no clock makes up days."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alloyd.errors import JobNotFound
from alloyd.jobs import JobState, MergeSpec, OpenTestSpec, SearchSpec, Spec, VerifySpec
from alloyd_daemon.service.store import Store
from alloyd_daemon.service.store_prune import DAY, Removal, Rule
from alloyd_daemon.service.store_schema import MIGRATIONS

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> datetime:
        return self.now

    def later(self, days: float) -> None:
        self.now += timedelta(days=days)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    one = Store(tmp_path / "jobs.sqlite", now=clock)
    yield one
    one.close()


def spec(number: int) -> MergeSpec:
    return MergeSpec(recipe="merge_method: linear\n", base_dir="/", out=f"/out-{number}")


def job(store: Store, what: Spec, *states: JobState, after: tuple[str, ...] = (), token: str = "") -> str:
    name = store.submit(what, token or os.urandom(8).hex(), at_most=9999, after=after).id
    for state in states:
        store.move(name, state)
    return name


ENDS = {
    "done": (JobState.RUNNING, JobState.DONE),
    "failed": (JobState.RUNNING, JobState.FAILED),
    "cancelled": (JobState.CANCELLED,),
    "queued": (),
    "running": (JobState.RUNNING,),
    "paused": (JobState.PAUSED,),
}


def forget(store: Store, names: list[str]) -> list[str]:
    return store.pruning.forget([Removal(each) for each in names], reason="test")


def test_only_what_has_ended_goes_and_numbers_are_never_given_again(store: Store) -> None:
    names = {state: job(store, spec(n), *moves) for n, (state, moves) in enumerate(ENDS.items())}
    going = store.pruning.ended(Rule())
    assert list(going.values()) == [names["done"], names["failed"], names["cancelled"]]
    assert sorted(forget(store, list(names.values()))) == sorted(going.values())
    assert [each.id for each in store.jobs()] == [names["queued"], names["running"], names["paused"]]
    with pytest.raises(JobNotFound, match="the job 'merge-1' was pruned"):
        store.job("merge-1")
    with pytest.raises(JobNotFound, match="there is no job 'merge-99'"):
        store.job("merge-99")
    last = store.last_event()
    forget(store, [job(store, spec(9), JobState.CANCELLED)])
    assert job(store, spec(10)) == "merge-8"
    assert store.last_event() > last + 2


def test_the_rule_bounds_age_by_the_clock_and_by_events_and_keeps_the_newest(
    store: Store, clock: Clock
) -> None:
    old = [job(store, spec(n), *ENDS["done"]) for n in range(3)]
    upto = store.last_event()
    clock.later(10)
    new = [job(store, spec(n), *ENDS["done"]) for n in range(3, 6)]
    check = job(store, VerifySpec("/x"), *ENDS["done"])

    def ended(**rule: object) -> list[str]:
        return list(store.pruning.ended(Rule(**rule)).values())  # type: ignore[arg-type]

    assert ended() == [*old, *new, check]
    assert ended(before=clock.now) == old
    assert ended(before=clock.now + timedelta(days=999), upto=upto) == old
    assert ended(upto=upto - 1) == old[:2]
    assert ended(keep=3) == [*old, new[0]]
    assert ended(keep=99) == []
    assert ended(kinds=("verify",)) == [check]
    assert ended(kinds=("merge",), keep=6) == []


def test_what_others_need_stays(store: Store) -> None:
    first = job(store, spec(1), *ENDS["done"])
    search = job(store, SearchSpec("recipe: {}", "/"), *ENDS["done"])
    named = job(store, SearchSpec("a: 2", "/"), *ENDS["done"])
    broken = job(store, spec(2), *ENDS["failed"])
    follows = job(store, spec(3), after=())
    waiting = job(store, spec(4), after=(first,))
    testing = job(store, OpenTestSpec(search))
    other = job(store, SearchSpec(f"previous: [{named}]", "/"), *ENDS["paused"])
    free = job(store, spec(5), *ENDS["done"])
    going = list(store.pruning.ended(Rule()))
    needed = store.pruning.needed(going)
    assert {f"{n}" for n in needed} == {each.rpartition("-")[2] for each in (first, search, named)}
    assert needed[1] == int(waiting.rpartition("-")[2])
    assert forget(store, [first, search, named, broken, free, follows]) == [broken, free]
    assert {testing, other, follows} <= {each.id for each in store.jobs()}


def test_a_job_that_may_be_tried_again_keeps_those_it_was_to_follow(store: Store) -> None:
    first = job(store, spec(1), *ENDS["queued"])
    second = job(store, spec(2), after=(first,))
    third = job(store, spec(3), after=(second,))
    for each in (first, second, third):
        store.move(each, JobState.RUNNING)
        store.move(each, JobState.FAILED)
    assert store.pruning.needed([1, 2]) == {2: 3, 1: 2}
    assert store.pruning.needed([1, 2, 3]) == {}


def test_a_job_that_was_tried_again_meanwhile_stays(store: Store) -> None:
    name = job(store, spec(1), *ENDS["failed"])
    assert store.pruning.ended(Rule()) == {1: name}
    store.retry(name)
    assert forget(store, [name]) == []
    assert store.job(name).state is JobState.QUEUED
    assert not store.pruning.has_removals()


def test_quarantine_and_discards_are_not_forgotten(store: Store) -> None:
    shut = job(store, spec(1), JobState.RUNNING)
    store.move(shut, JobState.FAILED, quarantined=True)
    staged = job(store, spec(2), JobState.RUNNING)
    store.move(staged, JobState.CANCELLED, discard=True)
    assert store.pruning.ended(Rule()) == {}
    assert forget(store, [shut, staged]) == []
    store.discarded(staged)
    store.move(shut, JobState.CANCELLED)
    assert forget(store, [shut, staged]) == [shut, staged]


def test_a_callers_key_stays_spent(store: Store) -> None:
    name = job(store, spec(1), *ENDS["done"], token="key:mine")
    forget(store, [name])
    with pytest.raises(JobNotFound, match=f"the key 'mine' was used for {name}, which has been pruned"):
        store.submit(spec(1), "key:mine", at_most=9)
    assert store.submit(spec(1), "key:mine", at_most=9, owner="anna").id == "merge-2"


def test_a_gap_is_told_wherever_one_reads(store: Store) -> None:
    one = job(store, spec(1), *ENDS["done"])  # events 1 to 3
    two = job(store, spec(2))  # 4
    three = job(store, spec(3), *ENDS["done"])  # 5 to 7
    forget(store, [one, three])  # 8 tells of it

    def told(since: int, limit: int = 1000) -> list[tuple[int, str]]:
        return [(event.seq, event.kind) for event in store.events(since, limit=limit)]

    assert told(0) == [(3, "gap"), (4, "state"), (7, "gap"), (8, "daemon")]
    assert store.events(0)[0].body == {"first": 1, "last": 3}
    assert store.events(1)[0].body == {"first": 2, "last": 3}
    assert told(3) == [(4, "state"), (7, "gap"), (8, "daemon")]
    assert told(5) == [(7, "gap"), (8, "daemon")]
    assert store.events(5)[0].body == {"first": 6, "last": 7}
    assert told(8) == []
    assert told(-7) == told(0)
    assert told(0, 1) == [(3, "gap")]
    assert told(3, 2) == [(4, "state"), (7, "gap")]
    assert store.events(7)[0].body == {"what": "pruned", "jobs": 2, "events": 6, "reason": "test"}
    assert [event.seq for event in store.events(0, two)] == [4]
    # What tells of a pruning may be pruned in its turn; then the one that did tells of it.
    assert not store.pruning.forget_events(store.last_event(), reason="test")
    assert told(0) == [(3, "gap"), (4, "state"), (8, "gap"), (9, "daemon")]


def test_a_day_is_a_day_however_the_clock_jumps(store: Store, clock: Clock) -> None:
    pruning = store.pruning
    assert pruning.count_day(0.0)
    assert not pruning.count_day(60.0)
    name = job(store, spec(1), *ENDS["done"])
    clock.later(5000)  # a jump of years is one day
    assert pruning.count_day(120.0)
    assert not pruning.count_day(180.0)
    assert pruning.event_before(1) < store.last_event()
    assert pruning.event_before(90) == 0
    clock.later(-9000)  # back to before everything: no day, and days go on from there
    assert not pruning.count_day(240.0)
    assert not pruning.count_day(300.0)
    clock.later(1)
    assert pruning.count_day(360.0)
    assert pruning.count_day(DAY)  # a clock that stands still, and a daemon that lived a day
    for _ in range(89):
        clock.later(1)
        pruning.count_day(0.0)
    assert pruning.event_before(90) >= 3
    assert pruning.ended(Rule(upto=pruning.event_before(90))) == {1: name}


def test_numbers_that_orphans_bear_are_never_given(tmp_path: Path) -> None:
    for first in (True, False):
        store = Store(tmp_path / f"{first}.sqlite")
        if not first:
            job(store, spec(1))
        store.pruning.keep_removals([Removal("merge-41"), Removal("search-7")])
        assert job(store, spec(2)) == "merge-42"
        store.pruning.keep_removals([Removal("merge-3"), Removal("merge-42")])
        assert job(store, spec(3)) == "merge-43"
        assert store._db.execute("SELECT COUNT(*) FROM removals").fetchone()[0] == 3
        store.close()


def fill(store: Store, count: int = 400) -> list[str]:
    names = []
    for number in range(count):
        what = MergeSpec(recipe="x" * 3000, base_dir="/", out=f"/{number}")
        names.append(job(store, what, JobState.CANCELLED))
    return names


def test_the_file_gives_back_what_was_forgotten_in_steps(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    names = fill(store)
    store.pruning.settle()
    full = store.path.stat().st_size
    assert len(forget(store, names)) == 400
    steps = 1
    while store.pruning.shrink():
        steps += 1
    store.pruning.settle()
    assert store.path.stat().st_size < full / 5
    assert not store.pruning.shrink()
    store.close()


def test_a_store_of_an_earlier_version_can_shrink_too(tmp_path: Path) -> None:
    file = tmp_path / "jobs.sqlite"
    Store(file, migrations=MIGRATIONS[:2]).close()
    db = sqlite3.connect(file)
    db.execute("PRAGMA auto_vacuum = NONE")
    db.execute("VACUUM")
    assert db.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    db.close()
    store = Store(file)
    assert store._db.execute("PRAGMA auto_vacuum").fetchone()[0] == 2
    store.close()


def test_a_reader_does_not_keep_the_loop(store: Store) -> None:
    fill(store, 5)
    reader = sqlite3.connect(store.path)
    reader.execute("BEGIN")
    assert reader.execute("SELECT COUNT(*) FROM jobs").fetchone() == (5,)
    forget(store, list(store.pruning.ended(Rule()).values()))
    store.pruning.settle()  # at once, and without the reader's leave the log stays as it is
    assert reader.execute("SELECT COUNT(*) FROM jobs").fetchone() == (5,)
    reader.close()
