"""Throw-away jobs for the tests of the service: a `merge` that writes lines and a `verify` that does as it is told.

The merge's recipe is JSON: ``steps`` lines are appended to ``out``.partial, one every ``pause`` seconds, then it is
renamed to ``out``. What is there already is not written again. ``at`` maps a step to something that happens there; step
-1 is the removal of what was staged. "hold" waits there until the test lets the job go on, so that no test has to be
quicker than a job; at the last step, when all is written, it waits with the result in place and its end untold. "stick"
hears nobody any more once ``out``.stuck is there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from alloyd.errors import DiskFull, RecipeError
from alloyd.jobs import Finished, MergeSpec, Note, Planned, Progress, Report, VerifySpec
from alloyd_daemon.job import Context, JobKind
from alloyd_daemon.plugins import Door


def merge(spec: MergeSpec, context: Context) -> Generator[Report, None, None]:
    what: dict[str, Any] = json.loads(spec.recipe)
    steps = what["steps"]
    staging = Path(spec.out + ".partial")
    begun = len(staging.read_bytes().splitlines()) if staging.exists() else 0
    yield Planned(
        {"out": spec.out, "method": "trial", "bytes_read": steps, "bytes_write": steps, "models": []}
    )
    yield Progress(begun, steps, "bytes", "lines")
    with open(staging, "ab", buffering=0) as file:
        for step in range(begun, steps):
            happening = what.get("at", {}).get(str(step))
            if happening == "note":
                yield Note("warning", "something to know")
            elif happening == "print":
                print("a library talks on stdout")
                print("and on stderr", file=sys.stderr)
            elif happening == "refuse":
                raise RecipeError("the recipe is wrong", hint="Write another.", key="steps")
            elif happening == "full" and Path(spec.out + ".full").exists():
                raise DiskFull("no room is left", hint="Make room.", path=spec.out, need=1)
            elif happening == "bug":
                raise ZeroDivisionError("a bug")
            elif happening == "exit":
                os._exit(3)
            elif happening == "die once":
                _die_once(spec)
            elif happening in ("SIGKILL", "SIGBUS", "SIGSEGV"):
                os.kill(os.getpid(), signal.Signals[happening])
            elif happening == "stick":
                Path(spec.out + ".stuck").touch()
                time.sleep(600)
            elif happening == "hold":
                while _held(spec, step):
                    yield Progress(step, steps, "bytes", "lines")
            time.sleep(what.get("pause", 0))
            file.write(f"{step}\n".encode())
            yield Progress(step + 1, steps, "bytes", "lines")
    staging.rename(spec.out)
    while what.get("at", {}).get(str(steps)) == "hold" and _held(spec, steps):
        pass
    yield Finished({"out": spec.out, "bytes_written": steps, "seconds": 0.0, "pid": os.getpid()})


def _held(spec: MergeSpec, step: int) -> bool:
    time.sleep(0.02)
    return not any(Path(f"{spec.out}.{go}").exists() for go in ("go", f"go-{step}"))


def _die_once(spec: MergeSpec) -> None:
    if not Path(spec.out + ".died").exists():
        Path(spec.out + ".died").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def discard(spec: MergeSpec, context: Context) -> None:
    if json.loads(spec.recipe).get("at", {}).get("-1") == "die once":
        _die_once(spec)
    Path(spec.out + ".partial").unlink(missing_ok=True)


def verify(spec: VerifySpec, context: Context) -> Generator[Report, None, None]:
    yield Progress(1, 1, "items", spec.path)
    yield Finished({"path": spec.path, "threads": context.settings.thread_count()})


DOOR: Door[JobKind] = Door("job", "trial_jobs_have_no_folder")
DOOR.register("merge", JobKind(MergeSpec, merge, discard))
DOOR.register("verify", JobKind(VerifySpec, verify))
DOOR.open = lambda: None  # type: ignore[method-assign]
