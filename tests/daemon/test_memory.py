"""What a daemon does all day long leaves nothing behind, not even in Python's own tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alloyd_daemon.service.machine import Machine
from alloyd_daemon.service.processes import resident_memory, usage

SAMPLES = """
import gc, os, sys
from alloyd_daemon.service.processes import Usage, usage

def sample(together=Usage()):
    return together.plus(usage(os.getpid()).at_least(together).since(together))

gc.disable()
for _ in range(5):
    blocks = sys.getallocatedblocks()
    for _ in range(100):
        sample()
    print(sys.getallocatedblocks() - blocks)
"""


def test_samples_of_what_a_job_uses_leave_nothing() -> None:
    """In a process of its own: there Python's store of used tuples is as empty as a daemon's.

    What is kept is kept in each hundred; a hundred in which Python is still getting warm says nothing.
    """
    done = subprocess.run([sys.executable, "-c", SAMPLES], capture_output=True, text=True, check=True)
    assert min(map(int, done.stdout.split())) < 20, done.stdout


def test_no_look_at_the_machine_fills_the_table_of_interned_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    interned: list[str] = []

    def intern(text: str) -> str:
        interned.append(text)
        return text

    monkeypatch.setattr(sys, "intern", intern)
    str(Path("of-pathlib"))
    assert interned == ["of-pathlib"], "this no longer sees what pathlib interns"
    machine = Machine()
    for look in (machine.memory, machine.available, machine.memory_kills, resident_memory):
        look()
    usage(os.getpid())
    assert interned == ["of-pathlib"]
