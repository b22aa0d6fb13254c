"""SIGKILL the daemon and its child, together or the daemon alone, at any moment: the merge ends with the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from alloyd_daemon.checkpoints.checkpoint import open_checkpoint
from alloyd_daemon.checkpoints.journal import read_journal
from alloyd_daemon.gguf.checkpoint import is_gguf, open_gguf
from benchmarks.shapes import of_size, write
from extras import need
from trial_daemon import eventually

ROOT = Path(__file__).parents[2]


@dataclass
class House:
    """One home, its daemon, and a merge of three models that is slow enough to be hit."""

    folder: Path
    recipe: Path
    form: tuple[str, ...] = ()

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def staging(self) -> Path:
        return self.folder / ".out.partial"

    def alloy(self, *words: str, timeout: float = 280) -> Any:
        """The result of a command, as ``--json`` gives it."""
        command = [sys.executable, "-m", "alloyd.cli", "--home", str(self.home), "--json", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        results = [line for line in lines if line["type"] == "result"]
        assert len(results) == 1, done.stdout + done.stderr
        assert results[0]["ok"] == (done.returncode == 0)
        return results[0]

    def start(self) -> str:
        words = (str(self.recipe), str(self.out), *self.form, "--threads", "1", "--detach")
        job: str = self.alloy("merge", *words)["value"]["id"]
        return job

    def daemon(self) -> psutil.Process:
        """The daemon, started if need be (``ps`` starts one, ``status`` does not)."""
        self.alloy("ps")
        return psutil.Process(self.alloy("status")["value"]["pid"])

    def owns(self, process: psutil.Process) -> bool:
        """Whether a process (of ``process_iter(["cmdline"])``) belongs to this home."""
        return str(self.home) in " ".join(process.info["cmdline"] or ())

    def entries(self) -> int:
        """Journalled blocks of the merge that is under way."""
        try:
            return len(read_journal(self.staging / ".alloyd" / "journal")[1])
        except OSError:
            return 0


def loadable(folder: Path) -> bool:
    try:
        open_gguf(folder) if is_gguf(folder) else open_checkpoint(folder)
    except Exception:
        return False
    return True


def digests(folder: Path) -> dict[str, str]:
    """A digest of every file, whatever its name."""
    found = {}
    for each in sorted(folder.iterdir()):
        with each.open("rb") as file:
            found[each.name] = hashlib.file_digest(file, "blake2b").hexdigest()
    return found


def kill(processes: list[psutil.Process]) -> None:
    for each in processes:
        try:
            each.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=20)


@pytest.fixture
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    size = getattr(request, "param", "60M")
    models = write(tmp_path / "models", of_size(size), models=3)
    recipe = tmp_path / "recipe.yaml"
    lines = [f"merge_method: dare_ties\nbase_model: {models[0]}\ndtype: bfloat16\nmodels:"]
    lines += [f"- model: {each}\n  parameters: {{weight: 0.6, density: 0.4}}" for each in models[1:]]
    recipe.write_text("\n".join(lines) + "\n")
    made = House(tmp_path, recipe)
    yield made
    for each in psutil.process_iter(["cmdline"]):
        if made.owns(each):
            each.kill()


def undisturbed(house: House) -> tuple[dict[str, str], float]:
    """The merge as nobody disturbs it, and how long it takes; removes it again."""
    job = house.start()
    started = time.monotonic()
    assert house.alloy("wait", job)["ok"]
    seconds = time.monotonic() - started
    wanted = digests(house.out)
    remove(house.out)
    return wanted, seconds


def remove(folder: Path) -> None:
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()


def finish(house: House, job: str, wanted: dict[str, str]) -> None:
    """Let the merge end; its bytes are the wanted ones, and nothing else is left."""
    assert house.alloy("wait", job)["ok"], house.alloy("show", job)
    assert digests(house.out) == wanted
    assert not list(house.folder.glob(".out*"))


def kill_at_random(house: House, *, kills: int, seed: int, alone: bool) -> int:
    """Kill ``kills`` times, in as many merges as that takes; returns how many fell between two journal entries."""
    wanted, seconds = undisturbed(house)
    moments = random.Random(seed)
    inside = 0
    job = house.start()
    for _ in range(kills):
        if house.out.exists():
            finish(house, job, wanted)
            remove(house.out)
            job = house.start()
        daemon = house.daemon()
        had = house.entries()
        started = time.monotonic()
        # Most moments are to fall into the stream of blocks, which begins once the libraries are loaded.
        while moments.random() < 0.9 and house.entries() <= had and time.monotonic() - started < 10:
            time.sleep(0.02)
            if house.out.exists():
                break
        time.sleep(moments.uniform(0, seconds / 4))
        children = daemon.children(recursive=True)
        inside += house.entries() > 0
        kill([daemon] if alone else [daemon, *children])
        assert loadable(house.out) == house.out.exists()
    finish(house, job, wanted)
    house.alloy("stop")
    # The daemon's helpers end when they find it gone.
    eventually(lambda: not [each for each in psutil.process_iter(["cmdline"]) if house.owns(each)])
    return inside


@pytest.mark.parametrize("alone", [False, True], ids=["group", "daemon-alone"])
def test_a_killed_merge_goes_on_to_identical_bytes(house: House, alone: bool) -> None:
    kill_at_random(house, kills=3, seed=11, alone=alone)


@pytest.mark.parametrize("house", ["20M"], indirect=True)
def test_a_killed_merge_into_gguf_goes_on_to_identical_bytes(house: House) -> None:
    need("gguf", "llama_cpp", "gguf")
    house.form = ("--gguf", "Q4_K_M")
    kill_at_random(house, kills=3, seed=5, alone=False)
    assert house.alloy("verify", str(house.out))["ok"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("house", ["0.85B"], indirect=True)
@pytest.mark.parametrize("alone", [False, True], ids=["group", "daemon-alone"])
def test_twenty_kills_of_a_long_merge(house: House, alone: bool) -> None:
    inside = kill_at_random(house, kills=20, seed=int(os.environ.get("ALLOYD_SEED", "1")), alone=alone)
    print(f"{inside} of 20 kills fell between the first and the last journal entry")
    assert inside >= 10
