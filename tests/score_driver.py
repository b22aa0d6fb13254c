"""Runs one score job in a process that tests may kill: ``python score_driver.py HOME SPEC.json [trial]``.

With ``trial`` the throw-away runner answers, slowly; else a real one. The result is printed as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec

from alloyd.jobs import Finished, ScoreSpec
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.runner import RUNNERS
from alloyd_daemon.settings import Settings


def main(home: str, file: str, how: str = "") -> None:
    if how == "trial":
        from trial_runner import TrialRunner

        RUNNERS.open()
        RUNNERS._found["resident"] = TrialRunner(pause=0.02).runner()
    spec = msgspec.json.decode(Path(file).read_bytes(), type=ScoreSpec)
    for report in JOBS.get("score").run(spec, Context(Path(home), Settings(), "score-1")):
        if isinstance(report, Finished):
            print(json.dumps(report.result, sort_keys=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
