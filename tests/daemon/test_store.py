"""The store: moves, events, duplicates, recovery, migrations, and files it refuses."""

from __future__ import annotations

import itertools
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd import file_systems
from alloyd.errors import JobError, JobNotFound, RecipeError, ServiceError, StoreError
from alloyd.jobs import JobState, MergeSpec, VerifySpec
from alloyd_daemon.service.job_moves import MOVES
from alloyd_daemon.service.store import Store
from alloyd_daemon.service.store_schema import MIGRATIONS

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def clock() -> Iterator[datetime]:
    return (BEGIN + timedelta(seconds=second) for second in itertools.count())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    ticks = clock()
    with_clock = Store(tmp_path / "jobs.sqlite", now=lambda: next(ticks))
    yield with_clock
    with_clock.close()


def spec(out: str = "/out") -> MergeSpec:
    return MergeSpec(recipe="merge_method: linear\n", base_dir="/", out=out)


def test_a_job_is_kept_with_all_that_was_asked(store: Store) -> None:
    job = store.submit(spec(), "t1", at_most=9)
    assert job.id == "merge-1"
    assert job.created == BEGIN
    assert job.spec["recipe"] == "merge_method: linear\n"
    assert store.job("1") == store.job("merge-1") == job
    for name in ("2", "verify-1", "merge-x", "", "-", "merge-", "9" * 30, "merge-१"):
        with pytest.raises(JobNotFound):
            store.job(name)


def test_a_life_in_events(store: Store) -> None:
    name = store.submit(spec(), "t1", at_most=9).id
    store.move(name, JobState.RUNNING)
    store.plan(name, {"bytes_read": 3})
    store.plan(name, {"bytes_read": 3})
    store.note(name, "warning", "beware")
    store.move(name, JobState.DONE, result={"out": "/out"})
    job = store.job(name)
    assert job.started == BEGIN + timedelta(seconds=1)
    assert job.ended is not None
    assert job.ended > job.started
    assert (job.attempts, job.result, job.summary) == (1, {"out": "/out"}, {"bytes_read": 3})
    events = store.events(0)
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [event.kind for event in events] == ["state", "state", "planned", "note", "state"]
    assert store.events(3, name, 1) == events[3:4]
    assert store.last_event() == 5


def test_an_error_is_kept_whole(store: Store) -> None:
    name = store.submit(spec(), "t1", at_most=9).id
    store.move(name, JobState.RUNNING)
    error = RecipeError("wrong", hint="do this", key="weight")
    store.move(name, JobState.FAILED, error=error)
    assert store.job(name).error == error.to_dict()
    store.move(name, JobState.QUEUED)
    assert (store.job(name).error, store.job(name).ended) == (None, None)


@given(st.lists(st.sampled_from(JobState), max_size=8))
@settings(max_examples=60, deadline=None)
def test_only_moves_on_the_map_are_made(path: list[JobState]) -> None:
    store = _fresh()
    try:
        name = store.submit(spec(), "t", at_most=9).id
        state = JobState.QUEUED
        for target in path:
            before = store.last_event()
            if target in MOVES[state]:
                store.move(name, target)
                state = target
                assert store.last_event() == before + 1
            else:
                with pytest.raises(JobError):
                    store.move(name, target)
                assert store.last_event() == before
            assert store.job(name).state is state
    finally:
        store.close()
        store.path.unlink()


def _fresh() -> Store:
    handle, name = tempfile.mkstemp(suffix=".sqlite")
    os.close(handle)
    return Store(Path(name))


def test_a_token_is_submitted_once_and_a_merge_is_not_doubled(store: Store) -> None:
    first = store.submit(spec(), "t1", at_most=9)
    assert store.submit(spec("/elsewhere"), "t1", at_most=9) == first
    assert store.submit(spec(), "t2", at_most=9).id == first.id
    assert store.submit(spec("/other"), "t3", at_most=9).id == "merge-2"
    checks = {store.submit(VerifySpec("/x"), f"v{n}", at_most=9).id for n in range(2)}
    assert len(checks) == 2
    store.move(first.id, JobState.PAUSED)
    assert store.submit(spec(), "t4", at_most=9).state is JobState.QUEUED
    store.move(first.id, JobState.RUNNING)
    store.want(first.id, "cancel", reason="")
    assert store.submit(spec(), "t5", at_most=9).id != first.id


def test_a_full_queue_takes_no_more(store: Store) -> None:
    store.submit(spec("/a"), "a", at_most=1)
    with pytest.raises(ServiceError, match="busy"):
        store.submit(spec("/b"), "b", at_most=1)
    assert store.counts() == {"queued": 1}


def test_recovery_honours_what_was_wanted(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    names = [store.submit(spec(f"/{n}"), f"t{n}", at_most=9).id for n in range(4)]
    for name in names[:3]:
        store.move(name, JobState.RUNNING)
    store.want(names[1], "pause", reason="")
    store.want(names[2], "cancel", reason="")
    store.close()
    store = Store(tmp_path / "jobs.sqlite")
    store.recover()
    states = [store.job(name).state for name in names]
    assert states == [JobState.QUEUED, JobState.PAUSED, JobState.CANCELLED, JobState.QUEUED]
    assert [job.id for job in store.to_discard()] == [names[2]]
    assert store.wanted(names[1]) == ""
    store.discarded(names[2])
    assert store.to_discard() == []
    store.close()


def test_what_is_to_be_removed_stays_to_be_removed_wherever_the_job_goes(store: Store) -> None:
    name = store.submit(spec(), "t1", at_most=9).id
    store.move(name, JobState.RUNNING)
    store.move(name, JobState.FAILED, discard=True)
    for state in (
        JobState.QUEUED,
        JobState.PAUSED,
        JobState.QUEUED,
    ):  # resumed, paused and resumed by somebody
        store.move(name, state)
        assert [job.id for job in store.to_discard()] == [name]
    assert store.queue()[0].discarding
    store.discarded(name)
    assert not store.queue()[0].discarding


def test_jobs_are_listed_newest_last(store: Store) -> None:
    for n in range(5):
        store.submit(spec(f"/{n}"), f"t{n}", at_most=9)
    store.move("3", JobState.RUNNING)
    assert [job.id for job in store.jobs(limit=2)] == ["merge-4", "merge-5"]
    assert [job.id for job in store.jobs([JobState.RUNNING, JobState.PAUSED])] == ["merge-3"]
    assert [job.id for job in store.queue()] == ["merge-1", "merge-2", "merge-4", "merge-5"]


def test_changes_are_on_disk_when_they_are_told(store: Store) -> None:
    assert store._db.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert store._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    name = store.submit(spec(), "t", at_most=9).id
    reader = sqlite3.connect(store.path)
    assert reader.execute("SELECT COUNT(*) FROM jobs").fetchone() == (1,)
    reader.close()
    assert name == "merge-1"


def test_the_store_is_private(store: Store) -> None:
    assert store.path.stat().st_mode & 0o077 == 0


def test_an_older_store_is_migrated_after_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    store = Store(path)
    store.submit(spec(), "t", at_most=9)
    store.close()
    newer = (
        *MIGRATIONS,
        "ALTER TABLE jobs ADD COLUMN extra INTEGER NOT NULL DEFAULT 0; CREATE TABLE extra (a);",
    )
    store = Store(path, migrations=newer)
    assert store.job("1").id == "merge-1"
    assert store._db.execute("PRAGMA user_version").fetchone()[0] == len(newer)
    store.close()
    backup = Store(tmp_path / f"jobs.sqlite.v{len(MIGRATIONS)}")
    assert backup.job("1").id == "merge-1"
    backup.close()
    told = f"is of version {len(newer)}; this program knows up to {len(MIGRATIONS)}"
    with pytest.raises(StoreError, match=told):
        Store(path)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    Store(path).close()
    with pytest.raises(StoreError):
        Store(path, migrations=(*MIGRATIONS, "CREATE TABLE extra (a); CREATE TABLE jobs (b);"))
    store = Store(path)
    assert store._db.execute("SELECT COUNT(*) FROM sqlite_schema WHERE name = 'extra'").fetchone()[0] == 0
    store.close()


def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    path.write_bytes(b"this is not a database, it is a text that somebody put here" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="damaged or cannot be read"):
        Store(path)
    assert path.read_bytes() == before
    path.unlink()
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE bookmarks (a)")
    foreign.commit()
    foreign.close()
    with pytest.raises(StoreError, match="another program"):
        Store(path)


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    store = Store(path)
    for n in range(200):
        store.submit(spec(f"/{n}"), f"t{n}", at_most=999)
    store.close()
    data = bytearray(path.read_bytes())
    data[4096:16384] = b"\xff" * 12288
    path.write_bytes(data)
    with pytest.raises(StoreError):
        Store(path)


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_systems.network_file_system(tmp_path) == ""
    monkeypatch.setattr(file_systems, "file_system_type", lambda path: 0x6969)
    with pytest.raises(StoreError, match=r"network file system \(NFS\)"):
        Store(tmp_path / "jobs.sqlite")


def test_the_type_of_a_file_system_is_seen() -> None:
    assert file_systems.file_system_type(Path("/proc")) == 0x9FA0
    assert file_systems.file_system_type(Path("/no/such/place")) is None
