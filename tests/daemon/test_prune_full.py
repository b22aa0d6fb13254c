"""Pruning on a disk without a free byte, where the store itself cannot be written."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from trial_daemon import PATIENCE, TrialDaemon, trial


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here, so a full one is not tested")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_what_jobs_left_makes_the_room_to_forget_them(small_disk: Path, tmp_path: Path) -> None:
    with TrialDaemon(small_disk / "home") as daemon, daemon.client() as client:
        for number in range(3):
            job = client.submit(trial(tmp_path / f"{number}", 1)).id
            client.wait(job, timeout=PATIENCE)
            folder = daemon.home.root / "searches" / job
            folder.mkdir(parents=True)
            (folder / "history.db").write_bytes(bytes(1_000_000))
        with contextlib.suppress(OSError), open(small_disk / "ballast", "wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        assert os.statvfs(small_disk).f_bavail == 0
        told = client.prune(older_than=0.0)
        assert len(told.jobs) == 3
        assert client.jobs() == []
        assert os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize > 2_500_000
