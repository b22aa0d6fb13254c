"""A streamed run that was killed goes on at the end of a layer, with the same scores; a damaged file is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alloyd.errors import DiskFull
from alloyd.jobs import Note
from alloyd_daemon.runner import RUNNERS, Answered, Lost
from alloyd_daemon.streaming import sweep
from alloyd_daemon.streaming.activations import Activations
from alloyd_daemon.streaming.resume import NAME, keep, kept
from checkpoint_factory import Model, write_family
from stream_driver import candidate, options, requests, run, ties

ASKED = requests()
DRIVER = """
import sys
from pathlib import Path
from alloyd_daemon.streaming import sweep
from alloyd_daemon.runner import Answered, Lost, RUNNERS
from alloyd.jobs import Note
from stream_driver import candidate, options, requests, ties
sweep.KEEP_AFTER = 0.0
folder = Path(sys.argv[1])
family = [folder / "models" / name for name in ("base", "tune-0", "tune-1")]
population = [candidate(family, ties(family, number)) for number in range(3)]
for each in RUNNERS.get("stream").run(population, requests(), options(folder / "scratch")):
    if isinstance(each, Answered):
        print("answer", each.candidate, each.request, each.answer.logprob.hex(), each.answer.greedy)
    elif isinstance(each, Note):
        print("note", each.text)
"""


def drive(folder: Path, fault: str = "") -> tuple[int, list[str]]:
    paths = os.pathsep.join([*sys.path, str(Path(__file__).resolve().parents[1])])
    environment = os.environ | {"ALLOYD_FAULT": fault, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout.splitlines()


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    family = write_family(tmp_path / "models", Model(layers=4), tunes=2, step=0.5)
    # A step is the end of a layer: the third of five, then the second of the two that are left.
    for fault in ("stream-step:3", "stream-step:2"):
        status, _ = drive(tmp_path, fault)
        assert status == -signal.SIGKILL
        assert [each.name for each in (tmp_path / "scratch").iterdir()] == [NAME]
    status, said = drive(tmp_path)
    assert status == 0
    assert "note going on after 4 layers, where an earlier run was stopped" in said
    whole, _ = run(
        [candidate(family, ties(family, each)) for each in range(3)], ASKED, options(tmp_path / "whole")
    )
    answers = {
        f"answer {number} {request} {each.logprob.hex()} {each.greedy}"
        for (number, request), each in whole.items()
    }
    assert {each for each in said if each.startswith("answer")} == answers


@pytest.fixture
def held(tmp_path: Path) -> Activations:
    found = Activations(room=200, spill=0, folder=tmp_path)
    for key in ("a", "b"):
        for batch in range(2):
            found.put(key, batch, torch.full((2, 3, 8), float(batch), dtype=torch.bfloat16))
    return found


def test_activations_beyond_memory_are_read_back(held: Activations, tmp_path: Path) -> None:
    assert held.written == 2 * 96
    assert list(held.entries()) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert torch.equal(held.take("b", 1), torch.ones(2, 3, 8, dtype=torch.bfloat16))
    with pytest.raises(KeyError):
        held.get("b", 1)
    held.drop("a")
    held.put("c", 0, torch.full((2, 3, 8), 7.0, dtype=torch.bfloat16))
    assert torch.equal(held.get("b", 0), torch.zeros(2, 3, 8, dtype=torch.bfloat16))
    assert float(held.get("c", 0).mean()) == 7.0
    assert not list(tmp_path.iterdir())
    held.close()


def test_what_is_kept_is_read_back(held: Activations, tmp_path: Path) -> None:
    keep(tmp_path, held, identity="me", step=4, lost={2: {"code": "E_JOB", "message": "gone"}})
    found = kept(tmp_path, "me")
    assert found is not None
    assert found.table.step == 4
    assert found.table.lost[2]["message"] == "gone"
    read = {(key, batch): hidden for key, batch, hidden in found.tensors()}
    assert set(read) == set(held.entries())
    assert all(torch.equal(hidden, held.get(*place)) for place, hidden in read.items())
    assert kept(tmp_path, "another") is None


@pytest.mark.parametrize("place", [0, 100, -1, -30, -200])
def test_a_damaged_file_is_as_good_as_none(place: int, tmp_path: Path) -> None:
    family = write_family(tmp_path / "models", Model(layers=2), tunes=2, step=0.5)
    population = [candidate(family, ties(family, number)) for number in range(2)]
    whole, _ = run(population, ASKED, options(tmp_path / "whole"))
    scratch = tmp_path / "scratch"
    how = options(scratch)
    running = RUNNERS.get("stream").run(population, ASKED, how)
    before = sweep.KEEP_AFTER
    sweep.KEEP_AFTER = 0.0
    try:
        for _ in running:
            if (scratch / NAME).exists():
                break
    finally:
        sweep.KEEP_AFTER = before
    running.close()
    data = bytearray((scratch / NAME).read_bytes())
    data[place] ^= 0x55
    (scratch / NAME).write_bytes(data)
    found, _ = run(population, ASKED, how)
    assert found == whole
    (scratch / NAME).write_bytes(data[: len(data) // 2])
    found, _ = run(population, ASKED, how)
    assert found == whole


def test_a_full_disk_costs_the_way_back_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise DiskFull("no room left for activations.kept", hint="")

    monkeypatch.setattr(sweep, "keep", full)
    monkeypatch.setattr(sweep, "KEEP_AFTER", 0.0)
    family = write_family(tmp_path / "models", Model(layers=3), tunes=2)
    outcomes = list(
        RUNNERS.get("stream").run([candidate(family, ties(family, 0))], ASKED, options(tmp_path / "s"))
    )
    warnings = [each for each in outcomes if isinstance(each, Note) and each.level == "warning"]
    assert len(warnings) == 1
    assert "no room left" in warnings[0].text
    assert sum(isinstance(each, Answered) for each in outcomes) == len(ASKED)
    assert not any(isinstance(each, Lost) for each in outcomes)
