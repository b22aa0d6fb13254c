"""Real merges under a trial daemon that a test can stop in the middle of their stream of blocks."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
from blake3 import blake3

from alloyd.jobs import MergeSpec
from alloyd_daemon.checkpoints.journal import read_journal
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.settings import Settings
from benchmarks.shapes import of_size, write
from trial_daemon import TrialDaemon

CHILD: Final = (sys.executable, "-P", "-m", "alloyd_daemon.child")
RECIPE: Final = """\
merge_method: dare_ties
base_model: base
dtype: bfloat16
models:
- {model: tune-0, parameters: {weight: 0.6, density: 0.4}}
- {model: tune-1, parameters: {weight: 0.6, density: 0.4}}
"""


def write_models(folder: Path) -> None:
    """The models of :data:`RECIPE`."""
    write(folder, of_size("20M"), models=3)


def spec(models: Path, out: Path, **options: object) -> MergeSpec:
    """A merge that takes long enough to be met."""
    return MergeSpec(RECIPE, str(models), str(out), threads=1, **options)  # type: ignore[arg-type]


def digests(folder: Path) -> dict[str, str]:
    """A digest of every file."""
    return {each.name: blake3(each.read_bytes()).hexdigest() for each in folder.iterdir()}


def undisturbed(models: Path) -> dict[str, str]:
    """The digests of what this process makes of ``models`` by itself."""
    out = models / "undisturbed"
    if not out.exists():
        for _ in JOBS.get("merge").run(spec(models, out), Context(models, Settings(), "merge-1")):
            pass
    return digests(out)


@contextlib.contextmanager
def held(daemon: TrialDaemon, out: Path) -> Iterator[psutil.Process]:
    """The process that merges into ``out``, asleep after its first blocks; it goes on when the block is left."""
    journal = out.with_name(f".{out.name}.partial") / ".alloyd" / "journal"
    deadline = time.monotonic() + 240
    while True:
        with contextlib.suppress(OSError):
            if len(read_journal(journal)[1]) > 0:
                break
        assert time.monotonic() < deadline, "the merge did not begin"
        time.sleep(0.002)
    (child,) = daemon.children()
    child.send_signal(signal.SIGSTOP)
    try:
        assert journal.exists(), "the merge was over before it was met"
        yield child
    finally:
        child.send_signal(signal.SIGCONT)
