"""Kill the sink at every named moment: a restart finishes to the same bytes, and nobody ever sees a loadable half."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alloyd_daemon.checkpoints import durable, journal, place, side_files, sink, staged_files, staging
from checkpoints import sink_driver

FLAVOURS = ("plain", "force", "force,no-exchange", "mount", "mount,force")
POINTS = sorted(
    {
        name
        for module in (sink, side_files, staged_files, staging, durable, journal)
        for name in re.findall(r'reach\("([^"]+)"\)', Path(str(module.__file__)).read_text())
    }
)
BEFORE_THE_SEAL = ("plain", "mount,force")
AFTER_THE_SEAL = {
    "after-exchange": ("force",),
    "after-rename-replaced": ("force",),
    "after-rename-old": ("force,no-exchange",),
    "after-rename": ("plain", "force,no-exchange"),
    "after-remove-replaced": ("force", "force,no-exchange"),
    "after-fsync-parent": ("plain", "force", "force,no-exchange"),
    "after-remove-old": ("mount,force",),
    "after-fsync-files": ("mount", "mount,force"),
    "after-rename-file": ("mount", "mount,force"),
    "after-rename-sealed": FLAVOURS,
    "after-fsync-sealed": FLAVOURS,
    "after-fsync-final": FLAVOURS,
    "after-unlink-state": FLAVOURS,
}
MOMENTS = [(point, each) for point in POINTS for each in AFTER_THE_SEAL.get(point, BEFORE_THE_SEAL)]
OLD = {"config.json": b"old", "model.safetensors": b"old weights", "old-tokenizer.json": b"old"}
DRIVER = Path(str(sink_driver.__file__))


def contents(folder: Path) -> dict[str, bytes]:
    if not folder.exists():
        return {}
    return {
        each.relative_to(folder).as_posix(): each.read_bytes()
        for each in folder.rglob("*")
        if each.is_file() and not each.relative_to(folder).parts[0].startswith(".")
    }


def start(final: Path, flavour: str) -> None:
    final.parent.mkdir(parents=True)
    if "mount" in flavour or "force" in flavour:
        final.mkdir()
    if "force" in flavour:
        for name, data in OLD.items():
            (final / name).write_bytes(data)


def run_and_kill(final: Path, flavour: str, fault: str) -> bool:
    """Whether the driver reached the fault and died there."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "ALLOYD_FAULT": fault,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(final), flavour], env=environment, capture_output=True, timeout=240
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode != 0


def check_no_half(final: Path, flavour: str) -> None:
    """What a loader finds at the final place is nothing, the whole old model, or the whole new one."""
    found = contents(final)
    entry = "config.json" in found and any(
        name in found for name in ("model.safetensors", "model.safetensors.index.json")
    )
    if "mount" in flavour:
        assert not entry or found == OLD or found == sink_driver.expected()
    else:
        assert found in ({}, OLD, sink_driver.expected())
        if "force" in flavour and not found:
            assert contents(final.with_name(f".{final.name}.replaced")) == OLD


def finish(final: Path, flavour: str, monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patch:
        patch.setattr(staging, "exchange", staging.exchange)
        patch.setattr(place, "is_mount_point", place.is_mount_point)
        return sink_driver.run(final, force=sink_driver.flavour(flavour, final))


def check_finished(final: Path) -> None:
    assert contents(final) == sink_driver.expected()
    assert sorted(os.listdir(final.parent)) == [final.name]
    assert not [name for name in os.listdir(final) if name.startswith(".")]


@pytest.mark.parametrize(("point", "flavour"), MOMENTS)
def test_killed_at_a_named_moment(
    point: str, flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "models" / "merged"
    start(final, flavour)
    assert run_and_kill(final, flavour, point), "this moment never came"
    check_no_half(final, flavour)
    finish(final, flavour, monkeypatch)
    check_finished(final)


@pytest.mark.soak
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_time_a_named_moment_comes(
    point: str, flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for time in range(2, 40):
        final = tmp_path / "models" / "merged"
        start(final, flavour)
        killed = run_and_kill(final, flavour, f"{point}:{time}")
        check_no_half(final, flavour)
        finish(final, flavour, monkeypatch)
        check_finished(final)
        shutil.rmtree(final.parent)
        if not killed:
            break


@pytest.mark.parametrize("flavour", ["force,no-exchange", "mount,force"])
def test_killed_again_and_again_while_recovering(
    flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "models" / "merged"
    start(final, flavour)
    for point in (
        "after-record:2",
        "after-fsync-shard",
        "after-fsync-sealed",
        "after-fsync-final",
        "after-unlink-state",
    ):
        run_and_kill(final, flavour, point)
        check_no_half(final, flavour)
    finish(final, flavour, monkeypatch)
    check_finished(final)


def test_a_restart_goes_on_after_the_last_recorded_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "models" / "merged"
    start(final, "plain")
    assert run_and_kill(final, "plain", "after-record:3")
    assert not final.exists()
    assert finish(final, "plain", monkeypatch) == 6 - 3
    check_finished(final)
    assert finish(final, "plain", monkeypatch) == 0
