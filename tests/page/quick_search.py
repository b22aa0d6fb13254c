"""Searches over the zoo whose candidates are really asked for, merged in thought and judged, but answer at once.

A runner of the daemon under test stands in for the models: how often a candidate is right follows from its number,
later ones being better, and on the second task worse. It goes no further than the file that the option ``gate`` names
says: the last trial that may answer on the search split, or a word for ever after.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Generator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from alloyd.errors import SourceError
from alloyd.jobs import Progress
from alloyd_daemon.candidate import Subject
from alloyd_daemon.jobs import search
from alloyd_daemon.runner import RUNNERS, Answered, Lost, Outcome, Runner, RunOptions
from alloyd_daemon.scoring.requests import Continuation, Likelihood, Request
from trial_daemon import RealDaemon

MODELS: Final = Path(__file__).parents[2] / "zoo" / "models"
BASELINES: Final = 11
"""Trials that come before the optimiser's."""
ALL: Final = "all"
SEARCHED: Final = "searched"


class Gate:
    """Says how far a search may go; ``validation`` waits for ``open``."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.until(0)

    def until(self, trial: int | str) -> None:
        """Let trials up to this number answer; SEARCHED lets all of them, ALL also those of the validation split."""
        fresh = self.file.with_name(f".{self.file.name}")
        fresh.write_text(str(trial))
        fresh.replace(self.file)


def spec(folder: Path, gate: Gate, *, candidates: int, goal: str = "one", items: int = 40) -> Path:
    """A spec in ``folder``, with its task files."""
    tasks: dict[str, list[str]] = {}
    for split in ("search", "validation"):
        for task in ("sums", "words")[: 2 if goal == "pareto" else 1]:
            file = folder / f"{task}.{split}.jsonl"
            lines = [{"context": f"{task} {split} {place} =", "answer": "4"} for place in range(items)]
            file.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
            tasks.setdefault(split, []).append(str(file))
    knob = {"weight": {"low": -0.5, "high": 1.5, "start": 0.8, "layers": 2}}
    models = [{"model": str(MODELS / name), "parameters": knob} for name in ("math_wide", "lang_wide")]
    found: dict[str, Any] = {
        "name": "quick",
        "recipe": {
            "merge_method": "task_arithmetic",
            "base_model": str(MODELS / "base"),
            "models": models,
            "dtype": "float32",
        },
        "tasks": tasks,
        "goal": goal,
        "objectives": [{"task": number, "metric": "greedy"} for number in range(1, len(tasks["search"]) + 1)],
        "rungs": [{"items": items // 2}, {"race": True, "block": items // 4}] if goal == "one" else [{}],
        "finalists": 3,
        "most_failed": 5,
        "budget": {"candidates": candidates},
        # One that has parents: it learns nothing of losses.
        "optimiser": {"name": "nsga2", "batch": 8, "options": {"model": "none", "population": 8}}
        if goal == "pareto"
        else "cma-es",
        "runner": "quick",
        "options": {"gate": str(gate.file)},
        "seed": 1,
    }
    path = folder / f"{goal}.yaml"
    path.write_text(json.dumps(found))
    return path


def run(
    candidates: Sequence[Subject], requests: Sequence[Request], options: RunOptions
) -> Generator[Outcome, None, None]:
    """Answer when the gate is open."""
    gate = Path(options.settings["gate"])
    done, total = 0, len(candidates) * len(requests)
    for place, candidate in enumerate(candidates):
        for number, request in enumerate(requests):
            assert isinstance(request, Continuation)
            while not _open(gate, candidate.name, request):
                yield Progress(done, total, "items", candidate.name)
                time.sleep(0.05)
            if gate.read_text() == "broken":
                yield Lost(place, SourceError(f"{candidate.name} is broken", hint="Mend it."))
                break
            done += 1
            yield Answered(place, number, _answer(candidate.name, request.context))
        yield Progress(done, total, "items", candidate.name)


def _open(gate: Path, name: str, request: Continuation) -> bool:
    until = gate.read_text()
    if "validation" in request.context:
        return until != SEARCHED and not until.isdigit()
    return not until.isdigit() or _number(name) <= int(until)


def _number(name: str) -> int:
    """Of a trial; baselines have names instead."""
    found = re.fullmatch(r"trial (\d+)", name)
    return int(found[1]) if found else 1


def _answer(name: str, asked: str) -> Likelihood:
    number = _number(name)
    luck = _draw(name) - 0.5
    skill = 0.75 - 0.45 * math.exp(-number / 60) + 0.2 * luck
    if asked.startswith("words"):
        skill = 0.85 - 0.6 * skill * (1 + luck)
    right = _draw(asked) * 0.7 + _draw(f"{name} {asked}") * 0.3 < skill
    return Likelihood(logprob=-1.0, greedy=right, tokens=1)


def _draw(text: str) -> float:
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32


def register() -> None:
    """Add the runner to those of this process, which says soon how its search stands."""
    search.TELL_EVERY = 0.3  # type: ignore[misc]
    reads = {"gate": "a file that says how far to go"}
    RUNNERS.register("quick", Runner(name="quick", summary="trial", run=run, generates=False, reads=reads))


class QuickDaemon(RealDaemon):
    """One whose jobs are real ones, and whose searches may name the runner ``quick``."""

    child = (
        sys.executable,
        "-c",
        "from page.quick_search import register; from alloyd_daemon.child import main; register(); main()",
    )
