"""A source that goes, shrinks or moves in the middle of a real merge: one error that names it, and nothing is left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import real_merges
from alloyd.errors import AlloydError
from alloyd.jobs import JobState
from trial_daemon import PATIENCE, TrialDaemon, eventually


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    real_merges.write_models(folder)
    return folder


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrialDaemon]:
    monkeypatch.setattr(TrialDaemon, "child", real_merges.CHILD)
    with TrialDaemon(tmp_path / "home") as running:
        yield running


def deleted(model: Path) -> None:
    (model / "model.safetensors").unlink()


def truncated(model: Path) -> None:
    os.truncate(model / "model.safetensors", 100_000)


def moved(model: Path) -> None:
    model.rename(model.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("vanish", "reader"),
    [(deleted, "mmap"), (truncated, "mmap"), (truncated, "pread"), (moved, "pread")],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_it_fails_by_name_and_goes_on_when_the_source_is_back(
    daemon: TrialDaemon, models: Path, tmp_path: Path, vanish: Callable[[Path], None], reader: str
) -> None:
    out, staging = tmp_path / "out", tmp_path / ".out.partial"
    model = models / "tune-1"
    file = model / "model.safetensors"
    kept = file.read_bytes()
    with daemon.client() as client:
        job = client.submit(real_merges.spec(models, out, reader=reader))
        with real_merges.held(daemon, out):
            vanish(model)
        try:
            with pytest.raises(AlloydError) as caught:
                client.wait(job.id, timeout=PATIENCE)
            assert caught.value.code in ("E_SOURCE_CHANGED", "E_SOURCE_NOT_FOUND")
            assert str(model) in caught.value.message
            assert caught.value.hint
            assert client.job(job.id).state is JobState.FAILED
            assert not out.exists()
            eventually(lambda: not staging.exists())
        finally:
            if not model.exists():
                model.with_name("elsewhere").rename(model)
            else:
                file.write_bytes(kept)
        client.retry(job.id)
        client.wait(job.id, timeout=PATIENCE)
    assert real_merges.digests(out) == real_merges.undisturbed(models)


def test_a_source_that_was_away_for_a_moment_is_not_missed(
    daemon: TrialDaemon, models: Path, tmp_path: Path
) -> None:
    with daemon.client() as client:
        job = client.submit(real_merges.spec(models, tmp_path / "out"))
        with real_merges.held(daemon, tmp_path / "out"):
            moved(models / "tune-1")
            (models / "elsewhere").rename(models / "tune-1")
        assert client.wait(job.id, timeout=PATIENCE).attempts == 1
