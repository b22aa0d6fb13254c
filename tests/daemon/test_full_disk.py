"""A real merge on a file system of limited size that is full: it waits, keeps what it has, and goes on by itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alloyd import Client
from alloyd.jobs import JobState
from benchmarks.shapes import of_size, write
from trial_daemon import eventually


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here, so a full one is not tested")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
def test_a_merge_waits_for_room_and_goes_on(small_disk: Path, tmp_path: Path) -> None:
    models = write(tmp_path / "models", of_size("60M"), models=2)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(150_000_000))
    recipe = {
        "merge_method": "linear",
        "models": [{"model": str(each), "parameters": {"weight": 0.5}} for each in models],
        "dtype": "bfloat16",
    }
    with Client(home=tmp_path / "home") as client:
        try:
            job = client.merge(recipe, small_disk / "out", threads=1)
            eventually(lambda: "waits: needs" in client.job(job.id).reason, seconds=60)
            waiting = client.job(job.id)
            assert waiting.state is JobState.QUEUED
            assert str(small_disk / "out") in waiting.reason
            assert not (small_disk / "out").exists()
            ballast.unlink()
            assert client.wait(job.id, timeout=120).state is JobState.DONE
            assert client.verify(small_disk / "out")["manifest"]
        finally:
            client.shutdown(now=True)
