"""What a home forgets by itself: by age and number, once a day, never because a clock jumped, never what matters."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alloyd.errors import JobNotFound, ServiceError, StoreError, UsageError
from alloyd.jobs import JobState, MergeSpec, ScoreSpec, Subject
from alloyd.paths import Home
from alloyd.space_schema import Prune, Pruned
from alloyd_daemon import settings as settings_file
from alloyd_daemon.service.housekeeping import Housekeeping
from alloyd_daemon.service.store import Store
from alloyd_daemon.service.store_prune import DAY, Removal
from alloyd_daemon.settings import RetentionSettings, Settings
from trial_daemon import PATIENCE, TrialDaemon, eventually, trial

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class House:
    """A home that is looked after by hand; its clocks stand still."""

    def __init__(self, root: Path, **retention: object) -> None:
        self.home = Home(root)
        self.home.create()
        self.wall, self.boot = BEGIN, 1000.0
        self.store = Store(self.home.store, now=lambda: self.wall)
        self.settings = Settings(
            retention=RetentionSettings(**{"keep": 0, "jobs": "5d", "logs": "5d", **retention})
        )  # type: ignore[arg-type]
        self.quiet = True
        self.busy: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """A daemon starts."""
        self.keeping = Housekeeping(
            self.store,
            self.home,
            self.settings,
            quiet=lambda: self.quiet,
            busy=lambda: self.busy,
            shielded=lambda: (),
            clock=lambda: self.boot,
        )

    def job(self, *, score: bool = False, ends: bool = True) -> str:
        """A job with what it leaves."""
        subject = Subject("m", path="/m")
        spec = ScoreSpec((subject,), ("t",)) if score else MergeSpec("r", "/", os.urandom(4).hex())
        job = self.store.submit(spec, os.urandom(8).hex(), at_most=99999).id
        if ends:
            self.store.move(job, JobState.CANCELLED)
        self.home.log(job).write_text("said")
        self.home.resources(job).write_text("{}")
        (self.home.root / "scores").mkdir(exist_ok=True)
        (self.home.root / "scores" / f"{job}.jsonl").write_text("{}")
        return job

    def backup(self, name: str = "jobs.sqlite.v1") -> Path:
        """A copy of the store, made now."""
        file = self.home.root / name
        file.write_bytes(b"x" * 5000)
        os.utime(file, (self.wall.timestamp(),) * 2)
        return file

    def prune(self, **order: Any) -> Pruned:
        """What somebody asks for."""
        task = self.keeping.prune(Prune(**order), None)
        self.settle()
        assert isinstance(task.value, Pruned), task.error
        return task.value

    def settle(self) -> None:
        """Let everything be done that is due."""
        while (wait := self.keeping.step()) < 60:
            time.sleep(wait)

    def days(self, count: int) -> None:
        """Days pass, and the daemon lives."""
        for _ in range(count):
            self.wall += timedelta(days=1)
            self.boot += DAY
            self.settle()

    def left(self, job: str) -> set[str]:
        """The classes of what is left of a job, its record included."""
        found = {each.parent.name for each in self.home.root.rglob(f"{job}.*")}
        try:
            self.store.job(job)
        except JobNotFound:
            return found
        return found | {"record"}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    one = House(tmp_path / "home")
    yield one
    one.store.close()


ALL = {"record", "logs", "resources", "scores"}


def test_old_jobs_go_and_scores_stay(house: House) -> None:
    old, score, waits = house.job(), house.job(score=True), house.job(ends=False)
    house.store.tell("watch", {"what": "seen"})
    house.days(4)
    new = house.job()
    house.days(1)
    assert house.left(old) == house.left(score) == ALL
    house.days(1)
    assert house.left(old) == set()
    assert house.left(score) == {"record", "scores"}
    assert house.left(waits) == house.left(new) == ALL
    kinds = [event.kind for event in house.store.events(0)]
    assert "watch" not in kinds
    assert kinds.count("daemon") == 2
    assert house.store.events(0)[-1].body["reason"] == "retention"


def test_a_clock_that_jumps_makes_nothing_old(house: House) -> None:
    job = house.job()
    house.settle()
    for years in (5, -9, 30):
        house.wall += timedelta(days=365 * years)
        house.boot += 3700  # an hour or so for each
        house.settle()
        house.begin()
        house.settle()
    assert house.left(job) == ALL
    house.days(5)
    assert house.left(job) == set()


def test_a_clock_that_stands_still_keeps_everything(house: House) -> None:
    job = house.job()
    for _ in range(10):
        house.boot += DAY
        house.settle()
    assert house.left(job) == ALL


def test_a_machine_that_is_mostly_off_counts_the_days_it_is_on(house: House) -> None:
    job = house.job()
    for _ in range(4):
        house.wall += timedelta(days=30)
        house.begin()
        house.settle()
    assert house.left(job) == ALL
    house.wall += timedelta(days=30)
    house.begin()
    house.settle()
    assert house.left(job) == ALL
    house.wall += timedelta(days=30)
    house.begin()
    house.settle()
    assert house.left(job) == set()


def test_numbers_bound_what_is_kept(tmp_path: Path) -> None:
    house = House(tmp_path / "home", keep=2, most=4)
    jobs = [house.job() for _ in range(6)]
    scores = [house.job(score=True) for _ in range(6)]
    house.settle()
    assert [house.left(each) for each in jobs] == [set()] * 2 + [ALL] * 4
    assert all(house.left(each) == ALL for each in scores)
    house.days(6)
    assert [house.left(each) for each in jobs] == [set()] * 4 + [ALL] * 2  # logs of the newest too
    house.store.close()


def test_scores_go_where_it_is_said(tmp_path: Path) -> None:
    house = House(tmp_path / "home", results="10d", jobs="never", logs="never")
    job, score = house.job(), house.job(score=True)
    house.days(11)
    assert (house.left(job), house.left(score)) == (ALL, set())
    house.store.close()


def test_it_waits_for_a_quiet_moment_but_not_for_ever(house: House) -> None:
    house.days(1)
    job = house.job()
    house.busy = {job}
    house.days(7)
    assert house.left(job) == ALL  # somebody is still to be told of its end
    house.busy = set()
    house.quiet = False
    house.boot += 3601
    house.wall += timedelta(days=1)
    house.settle()
    assert house.left(job) == ALL
    house.boot += DAY + 1
    house.settle()
    assert house.left(job) == set()


def test_what_an_earlier_daemon_left_is_removed_at_the_start(house: House) -> None:
    house.settle()
    job = house.job()
    house.store.pruning.forget([Removal(job)], reason="asked")
    assert house.left(job) == {"logs", "resources", "scores"}
    house.begin()
    house.settle()
    assert house.left(job) == set()


def test_nothing_is_started_where_there_is_nothing_to_do(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.settle()
    house.job()
    house.keeping._process._command = ("/absent",)
    task = house.keeping.space()
    house.settle()
    assert task.error is not None
    caplog.clear()
    house.days(3)
    assert not caplog.records


def test_work_that_is_left_when_the_daemon_stops_is_told(house: House) -> None:
    task = house.keeping.prune(Prune(), None)
    house.keeping.step()
    house.keeping.stop()
    assert task.done
    assert isinstance(task.error, ServiceError)


def test_a_process_that_dies_or_talks_nonsense_is_told(house: House) -> None:
    house.settle()
    for command, why in ((("/absent",), "could be started"), (("/bin/echo",), "ended with status 0")):
        house.keeping._process._command = command
        task = house.keeping.space()
        house.settle()
        assert task.error is not None
        assert why in task.error.message


def test_a_job_that_lives_again_while_it_is_weighed_stays(house: House) -> None:
    house.settle()
    job, other = house.job(), house.job()
    house.wall += timedelta(seconds=1)
    task = house.keeping.prune(Prune(older_than=0.0), None)
    house.keeping.step()  # it was decided
    house.store.retry(job)
    house.settle()
    assert isinstance(task.value, Pruned)
    assert task.value.jobs == (other,)
    assert house.left(job) == ALL


def test_backups_of_the_store_grow_old_too(house: House) -> None:
    house.settings = Settings(retention=RetentionSettings(backups="5d"))
    house.begin()
    whole, torn, foreign = map(house.backup, ("jobs.sqlite.v1", "jobs.sqlite.v2.new", "jobs.sqlite.mine"))
    house.days(4)
    house.wall += timedelta(days=3650)  # a jump is one day
    house.begin()
    house.settle()
    house.wall -= timedelta(days=3650)
    assert whole.exists()
    assert torn.exists()
    fresh = house.backup("jobs.sqlite.v3")
    house.days(2)
    assert not whole.exists()
    assert not torn.exists()
    assert foreign.exists()
    assert fresh.exists()


def test_backups_are_pruned_by_hand(house: House) -> None:
    house.settle()
    file = house.backup()
    house.wall += timedelta(seconds=1)
    told = house.prune(older_than=0.0, dry_run=True)
    assert told.parts["backups"].files == 1
    assert file.exists()
    assert house.prune(older_than=0.0).parts["backups"] == told.parts["backups"]
    assert not file.exists()


def test_an_age_that_only_the_clock_tells_is_not_believed(house: House) -> None:
    house.settle()
    job, backup = house.job(), house.backup()
    house.wall += timedelta(days=3650)
    told = house.prune(older_than=30 * DAY)
    assert told.jobs == ()
    assert [each.job or Path(each.path).name for each in told.kept] == [job, "jobs.sqlite.v1"]
    assert {each.note for each in told.kept} == {
        "old by the clock alone: this home has not seen 30 days pass since then (--trust-clock)"
    }
    assert house.left(job) == ALL
    assert house.prune(older_than=30 * DAY, trust_clock=True).jobs == (job,)
    assert not backup.exists()
    other = house.job()
    house.wall += timedelta(seconds=1)
    assert house.prune(older_than=0.0).jobs == (other,), "an age below a day is the clock's"


def test_an_age_that_the_home_has_lived_is_believed(tmp_path: Path) -> None:
    house = House(tmp_path / "home", jobs="never", logs="never")
    job = house.job()
    house.days(4)
    new = house.job()
    assert house.prune(older_than=5 * DAY).jobs == ()
    house.days(2)
    assert house.prune(older_than=5 * DAY).jobs == (job,)
    assert house.left(new) == ALL
    house.store.close()


def test_the_record_of_watched_folders_is_pruned_at_the_same_age(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    asked: list[tuple[datetime, bool]] = []

    def claims(before: datetime, *, dry_run: bool) -> Iterator[int]:
        asked.append((before, dry_run))
        yield from (2, 3)

    house.keeping._claims = claims
    house.days(6)
    assert asked[-1] == (BEGIN + timedelta(days=1), False)
    assert all(before <= house.wall - timedelta(days=5) for before, _ in asked)
    assert house.prune(older_than=0.0, dry_run=True).claims == 5
    assert asked[-1] == (house.wall, True)

    def broken(before: datetime, *, dry_run: bool) -> Iterator[int]:
        raise StoreError("the record is damaged")
        yield

    house.keeping._claims = broken
    (kept,) = house.prune(older_than=0.0).kept
    assert kept.note == "the record is damaged"
    house.store.close()


@pytest.mark.parametrize("value", ["soon", "90", "-3d", "1s", "0", ""])
def test_ages_that_make_no_sense_are_refused(value: str) -> None:
    with pytest.raises(UsageError, match=r"retention\.jobs"):
        settings_file.load(environ={"ALLOYD_RETENTION_JOBS": value})
    with pytest.raises(UsageError, match=r"retention\.keep"):
        settings_file.load(environ={"ALLOYD_RETENTION_KEEP": "-1"})


def test_ages_and_never(tmp_path: Path) -> None:
    environ = {
        "ALLOYD_RETENTION_JOBS": "never",
        "ALLOYD_RETENTION_RESULTS": "2w",
        "ALLOYD_RETENTION_KEEP": "0",
    }
    found = settings_file.load(environ=environ).settings.retention
    assert (found.jobs, found.results, found.keep) == ("never", "2w", 0)


def test_a_daemon_applies_it_at_its_start(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home", ALLOYD_RETENTION_KEEP="0", ALLOYD_RETENTION_MOST="1") as daemon:
        with daemon.client() as client:
            jobs = [client.submit(trial(tmp_path / f"{n}", 1)).id for n in range(3)]
            for each in jobs:
                client.wait(each, timeout=PATIENCE)
        assert daemon.terminate() == 0
        daemon.start()
        with daemon.client() as client:
            eventually(lambda: [each.id for each in client.jobs()] == jobs[-1:])
            eventually(lambda: not daemon.home.log(jobs[0]).exists())
