"""Whatever strangers write is read, or refused in one clear line: never a crash, a hang or memory without bound.

A slice of each target runs with every test, the whole by ``make soak``. A case that fails is made again from what the
failure tells: ``case(TARGETS[name](), name, seed, number)``.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from house.tree import ROOT

from .targets import TARGETS

SLICE: Final = 100
WHOLE: Final = 100_000


def run(folder: Path, seed: int, count: int, *names: str) -> list[dict[str, Any]]:
    """What came of ``count`` cases of each of these targets, in a process of their own."""
    command = [sys.executable, "-m", "fuzz.volume", str(seed), "0", str(count), *names]
    path = os.pathsep.join([str(ROOT / "tests"), *(part for part in sys.path if part)])
    environ = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder)}
    done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stdout[-2000:]}\n{done.stderr[-8000:]}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(told: dict[str, Any], seed: int, count: int) -> None:
    """That every case was judged well, and that the cases were neither all good nor all bad."""
    failures = "\n\n".join(
        f"case {each['number']} of seed {seed}, and {each['times'] - 1} more:\n{each['told']}"
        for each in told["failures"].values()
    )
    assert not failures, f"{told['target']}:\n{failures}"
    assert told["cases"] == count
    assert len(told["codes"]) > 1
    assert "valid" in told["codes"]


def test_a_slice_of_every_target(tmp_path: Path) -> None:
    for told in run(tmp_path, 0, SLICE, *TARGETS):
        check(told, 0, SLICE)


@pytest.mark.soak
@pytest.mark.parametrize("name", TARGETS)
def test_every_target_whole(name: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    (told,) = run(tmp_path, seed, WHOLE, name)
    print({key: each for key, each in told.items() if key != "failures"})
    check(told, seed, WHOLE)
