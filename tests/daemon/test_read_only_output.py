"""Outputs, homes and watched folders on a file system that is read-only: one clear error, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import real_merges
from alloyd.errors import OutputError
from alloyd.jobs import JobState
from mounted import remount, tmpfs
from trial_daemon import PATIENCE, TrialDaemon, eventually


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path / "disk", "size=500m") as place:
        yield place


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrialDaemon]:
    monkeypatch.setattr(TrialDaemon, "child", real_merges.CHILD)
    with TrialDaemon(tmp_path / "home") as running:
        yield running


def test_it_is_refused_before_work_and_in_the_middle_and_goes_on_when_it_is_writable(
    daemon: TrialDaemon, disk: Path, tmp_path: Path
) -> None:
    models, out = tmp_path / "models", disk / "out"
    real_merges.write_models(models)
    with daemon.client() as client:
        remount(disk, "ro")
        job = client.submit(real_merges.spec(models, out)).id
        with pytest.raises(OutputError, match=r"disk.*[Rr]ead-only") as caught:
            client.wait(job, timeout=PATIENCE)
        assert caught.value.hint
        assert not list(disk.iterdir())

        remount(disk, "rw")
        client.retry(job)
        with real_merges.held(daemon, out):
            client.pause(job)
        eventually(lambda: client.job(job).state is JobState.PAUSED)
        remount(disk, "ro")
        client.resume(job)
        with pytest.raises(OutputError, match=r"disk.*[Rr]ead-only"):
            client.wait(job, timeout=PATIENCE)
        assert not out.exists()

        remount(disk, "rw")
        client.retry(job)
        done = client.wait(job, timeout=PATIENCE)
        assert done.result is not None
        assert done.result["resumed_blocks"] > 0
    assert real_merges.digests(out) == real_merges.undisturbed(models)
    assert [each.name for each in disk.iterdir()] == ["out"]


def test_a_home_that_cannot_be_written_is_one_error(disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from alloyd_daemon.main import main

    remount(disk, "ro")
    assert main(["--home", str(disk / "home")]) != 0
    said = capfd.readouterr().err
    assert "Read-only" in said
    assert "hint:" in said
    assert "Traceback" not in said


def test_a_watched_folder_says_why_it_takes_nothing_and_takes_it_later(
    daemon: TrialDaemon, disk: Path
) -> None:
    (disk / "wrong.yaml").write_text("merge_method: linear\nmodells: []\n")
    remount(disk, "ro")
    with daemon.client() as client:
        client.watch_add(disk, settle=0.1, rescan=1)
        eventually(lambda: client.watches()[0].waiting)
        eventually(lambda: "ead-only" in client.watches()[0].waiting[0].why)
        assert client.jobs() == []
        remount(disk, "rw")
        eventually(lambda: (disk / "failed" / "wrong.yaml.error.json").exists())
