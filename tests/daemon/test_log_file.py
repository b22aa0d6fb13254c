"""The daemon's log: JSON lines that are rotated, plain ones for people, and logs of jobs that cannot fill a disk."""

from __future__ import annotations

import json
import logging
import os
import pty
import signal
from pathlib import Path

import pytest

from alloyd.jobs import JobState
from alloyd_daemon.service.log_file import LogFile, PlainLines, bound, under_journal
from trial_daemon import PATIENCE, TrialDaemon, eventually, trial


def record(message: str, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": message, "levelno": level, "levelname": logging.getLevelName(level)})
    vars(made).update(extra)
    return made


def read(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_record_is_one_line_of_json_whatever_is_in_it(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", 10**6, 2)
    log.handle(record('two\nlines "quoted" \udcff', job="merge-1", status=3, path=Path("/a")))
    log.handle(record("later", logging.WARNING))
    log.close()
    first, second = read(tmp_path / "log")
    assert (first["level"], first["job"], first["status"], first["path"]) == ("info", "merge-1", 3, "/a")
    assert str(first["message"]).startswith('two\nlines "quoted"')
    assert str(first["at"]).endswith("+00:00")
    assert set(second) == {"at", "level", "message"}
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_the_log_is_rotated_by_size_and_count(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", 1000, 2)
    for number in range(100):
        log.handle(record("x" * 100, number=number))
    log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert all(
        file.stat().st_size <= 1000 and file.stat().st_mode & 0o777 == 0o600 for file in tmp_path.iterdir()
    )
    numbers = [line["number"] for name in ("log.2", "log.1", "log") for line in read(tmp_path / name)]
    assert numbers == list(range(100 - len(numbers), 100))


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "absent" / "log", 1000, 2)
    log.handle(record("lost"))
    log.reopen()


def test_people_read_a_time_and_the_journal_none() -> None:
    told = record(
        "hook ended", logging.WARNING, job="merge-1", status=1, output="one\ntwo", settings={"a": 1}
    )
    first, second, third = PlainLines().format(told).splitlines()
    assert first.endswith("Z WARNING hook ended (status=1)")
    assert second.endswith("WARNING one")
    assert third.endswith("WARNING two")
    assert PlainLines(journal=True).format(told).splitlines() == [
        "<4>hook ended (status=1)",
        "<4>one",
        "<4>two",
    ]


def test_the_journal_is_known_by_its_stream(tmp_path: Path) -> None:
    with open(tmp_path / "stream", "w") as stream:
        facts = os.fstat(stream.fileno())
        assert under_journal({"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"}, stream.fileno())
        assert not under_journal({"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino + 1}"}, stream.fileno())
        assert not under_journal({}, stream.fileno())


def test_a_daemon_tells_its_settings_first_and_its_jobs_after(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home", ALLOYD_JOBS_QUEUE="99") as daemon, daemon.client() as client:
        client.wait(client.submit(trial(tmp_path / "out", 2)).id)
        eventually(lambda: len(read(daemon.home.log("daemon"))) == 3)
        first, began, ended = read(daemon.home.log("daemon"))
        assert first["settings"]["jobs"]["queue"] == 99  # type: ignore[index]
        assert first["changed"] == {"jobs.queue": "$ALLOYD_JOBS_QUEUE"}
        assert began["job"] == ended["job"] == "merge-1"
        piece = client.log("daemon")
        assert json.loads(piece.text.splitlines()[0]) == first
        assert not piece.end


def test_sighup_opens_the_log_again_and_stops_nothing(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon, daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", at={2: "hold"}))
        eventually(lambda: client.job(job.id).state is JobState.RUNNING)
        log = daemon.home.log("daemon")
        log.rename(log.with_name("moved"))
        os.kill(daemon.pid, signal.SIGHUP)
        eventually(lambda: log.exists() and "opened again" in log.read_text())
        assert client.job(job.id).state is JobState.RUNNING
        client.cancel(job.id)


def test_a_terminal_that_is_closed_ends_the_daemon_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, terminal = pty.openpty()
    kept = os.dup(0)
    os.dup2(terminal, 0)
    try:
        with TrialDaemon(tmp_path / "home") as daemon:
            os.kill(daemon.pid, signal.SIGHUP)
            assert daemon.process is not None
            assert daemon.process.wait(PATIENCE) == 0
    finally:
        os.dup2(kept, 0)
        for each in (kept, leader, terminal):
            os.close(each)


def test_a_jobs_log_is_cut_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "merge-1.log"
    with open(log, "ab", buffering=0) as job:
        job.write(b"a" * 600 + b"b" * 500)
        assert bound(log, 1000)
        job.write(b"more")
        assert log.read_bytes() == b"more"
    assert (tmp_path / "merge-1.log.1").read_bytes() == b"b" * 500
    assert not bound(log, 1000)
    assert not bound(tmp_path / "absent", 1000)


def test_a_job_that_prints_for_ever_fills_no_disk(tmp_path: Path) -> None:
    talk = dict.fromkeys(range(4000), "print")
    with TrialDaemon(tmp_path / "home", ALLOYD_DAEMON_LOG_SIZE="10kB") as daemon, daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 4000, pause=0.0006, at=talk))
        log = daemon.home.log(job.id)
        cut = log.with_name(f"{log.name}.1")
        eventually(cut.exists)
        seen = client.log(job.id, offset=10**9)
        assert seen.offset == 0, "a reader whose place was cut away begins again"
        assert client.wait(job.id).state is JobState.DONE
        assert log.stat().st_size + cut.stat().st_size < 150_000


def test_words_of_others_look_like_no_record_and_reach_no_terminal() -> None:
    forged = record("refused 'a\n2026-01-01 ERROR the disk is lost\x1b[2J'", path="b\n<0>c")
    first, second, third = PlainLines(journal=True).format(forged).splitlines()
    assert first == "<6>refused 'a"
    assert second == "<6>2026-01-01 ERROR the disk is lost\\x1b[2J' (path=b"
    assert third == "<6><0>c)"
