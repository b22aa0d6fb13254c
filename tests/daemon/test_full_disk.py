"""A real merge on a file system of limited size that is full: it waits, keeps what it has, and goes on by itself."""

from __future__ import annotations

from pathlib import Path

from alloyd import Client
from alloyd.jobs import JobState
from benchmarks.shapes import of_size, write
from mounted import tmpfs
from trial_daemon import eventually


def test_a_merge_waits_for_room_and_goes_on(tmp_path: Path) -> None:
    models = write(tmp_path / "models", of_size("60M"), models=2)
    recipe = {
        "merge_method": "linear",
        "models": [{"model": str(each), "parameters": {"weight": 0.5}} for each in models],
        "dtype": "bfloat16",
    }
    with tmpfs(tmp_path / "disk") as small_disk, Client(home=tmp_path / "home") as client:
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(150_000_000))
        try:
            job = client.merge(recipe, small_disk / "out", threads=1)
            eventually(lambda: "waits: needs" in client.job(job.id).reason)
            waiting = client.job(job.id)
            assert waiting.state is JobState.QUEUED
            assert str(small_disk / "out") in waiting.reason
            assert not (small_disk / "out").exists()
            ballast.unlink()
            assert client.wait(job.id, timeout=240).state is JobState.DONE
            assert client.verify(small_disk / "out")["manifest"]
        finally:
            client.shutdown(now=True)
