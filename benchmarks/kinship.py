"""Time `alloy kinship` beside the floor: reading the same files once.

    .venv/bin/python benchmarks/kinship.py --size 0.85B --models 2 3 --runs 3

Every run is a whole process, interpreter and imports included, in a fresh home, so that nothing is known from the run
before. The page cache is warm. Ratios are of medians; memory is sampled in a run of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from measure import megabytes, run
from shapes import of_size, write
from tools import alloy, weights


def command(models: Sequence[Path], options: argparse.Namespace) -> list[str]:
    """The command line of a kinship; the first model is the base."""
    base, *others = (str(each) for each in models)
    line = [str(alloy()), "kinship", "--base", base, *others, "--no-daemon"]
    for name in ("memory", "threads"):
        if getattr(options, name):
            line += [f"--{name}", str(getattr(options, name))]
    return line


def measure(models: Sequence[Path], options: argparse.Namespace) -> dict[str, Any]:
    """Floor and kinship, alternated."""
    inputs = weights(models)
    floor = ["sh", "-c", 'cat "$@" > /dev/null', "sh", *map(str, inputs)]
    commands = {"floor": floor, "alloyd": command(models, options)}
    run(floor)
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    cpu: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.runs):
        for name, line in commands.items():
            found = run(line)
            if found.status:
                raise SystemExit(f"{name} failed with {found.status}:\n{found.said[-3000:]}")
            seconds[name].append(round(found.seconds, 3))
            cpu[name].append(round(found.cpu, 3))
    watched = run(commands["alloyd"], memory=True)
    return {
        "models": len(models) - 1,
        "bytes_read": sum(each.stat().st_size for each in inputs),
        "seconds": seconds,
        "cpu": cpu,
        "to_floor": round(median(seconds["alloyd"]) / median(seconds["floor"]), 3),
        "anonymous": watched.anonymous,
    }


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="0.85B", help="parameters of each model")
    parser.add_argument("--models", type=int, nargs="+", default=[2, 3], help="models beside the base")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", help="alloyd's --memory")
    parser.add_argument("--threads", type=int, help="alloyd's --threads")
    parser.add_argument("--folder", type=Path, help="where the models are kept (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alloyd-benchmark-", dir=options.folder) as workspace:
        store = (options.folder or Path(workspace)) / f"models-{options.size}"
        every = write(store, of_size(options.size), models=max(options.models) + 1)
        print(f"{options.size} a model, {len(os.sched_getaffinity(0))} cores, warm cache")
        rows = []
        for count in options.models:
            found = measure(every[: count + 1], options)
            rows.append(found)
            times = {name: median(found["seconds"][name]) for name in ("floor", "alloyd")}
            print(
                f"  {count} models ({found['bytes_read'] / 1e9:.2f} GB): floor {times['floor']:.2f} s, "
                f"alloyd {times['alloyd']:.2f} s ({median(found['cpu']['alloyd']):.2f} s of processors), "
                f"x {found['to_floor']:.2f}, anonymous {megabytes(found['anonymous'])}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps({"size": options.size, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
