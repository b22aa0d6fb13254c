"""Time whole merges side by side: alloyd, mergekit (where installed), and the floor, with peak memory.

    .venv/bin/python benchmarks/merge.py --size 0.85B --runs 3

The floor is what copying costs: a fresh process reads the same inputs and writes an output of the same size
through to the disk, with the page cache in the same state. Every tool is a whole process, interpreter and
imports included, and runs are alternated so that a slow minute of the machine strikes all. Ratios are of
medians. Memory is sampled in one more run of its own, because sampling slows what it watches. mergekit does
not wait for the disk; alloyd does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from measure import Measured, forget, megabytes, run
from shapes import of_size, write
from tools import RECIPES, alloy, floor, mergekit, recipe, weights

DTYPES = ("bfloat16", "float16", "float32")
METHODS = ("linear", "slerp", "ties", "dare_ties")


@dataclass(frozen=True, slots=True)
class Contest:
    """One method: what each tool runs, and what it reads."""

    method: str
    inputs: list[Path]
    commands: dict[str, list[str]]
    out: Path


def contest(method: str, models: Sequence[Path], workspace: Path, options: argparse.Namespace) -> Contest:
    """The command lines of all tools for one method."""
    text, used = recipe(method, models, options.dtype, options.out_dtype)
    file = workspace / f"{method}.yaml"
    file.write_text(text)
    out = workspace / "out"
    inputs = weights(used)
    width = {"bfloat16": 2, "float16": 2, "float32": 4}[options.out_dtype or options.dtype]
    size = sum(path.stat().st_size for path in weights(models[:1])) * width // 2
    ours = [
        str(alloy()),
        "merge",
        str(file),
        "--out",
        str(out),
        "--no-daemon",
        "--home",
        str(workspace / "home"),
    ]
    if options.memory:
        ours += ["--memory", options.memory]
    if options.threads:
        ours += ["--threads", str(options.threads)]
    commands = {"floor": floor(inputs, out, size), "alloyd": ours}
    theirs = mergekit()
    if theirs and not options.no_mergekit:
        commands["mergekit"] = [str(theirs), str(file), str(out)]
    return Contest(method, inputs, commands, out)


def once(held: Contest, tool: str, *, cold: bool, memory: bool = False) -> Measured:
    """One run of one tool, with the output removed before and after."""
    _remove(held.out)
    if cold:
        forget(held.inputs)
    else:
        run(["sh", "-c", 'cat "$@" > /dev/null', "sh", *map(str, held.inputs)])
    os.sync()
    found = run(held.commands[tool], memory=memory)
    if found.status:
        raise SystemExit(f"{tool} failed with {found.status} on {held.method}:\n{found.said[-3000:]}")
    _remove(held.out)
    return found


def measure(held: Contest, *, runs: int, cold: bool) -> dict[str, Any]:
    """All tools on one method: seconds of each run, medians, ratios, peaks."""
    cpu: dict[str, list[float]] = {tool: [] for tool in held.commands}
    seconds: dict[str, list[float]] = {tool: [] for tool in held.commands}
    for number in range(runs):
        for tool in held.commands:
            if tool == "mergekit" and number:
                continue
            found = once(held, tool, cold=cold)
            seconds[tool].append(found.seconds)
            cpu[tool].append(found.cpu)
    rows: dict[str, Any] = {}
    for tool in held.commands:
        watched = None if tool == "floor" else once(held, tool, cold=cold, memory=True)
        rows[tool] = {
            "seconds": [round(value, 3) for value in seconds[tool]],
            "median": round(median(seconds[tool]), 3),
            "cpu": [round(value, 3) for value in cpu[tool]],
            "median_cpu": round(median(cpu[tool]), 3),
            "to_floor": round(median(seconds[tool]) / median(seconds["floor"]), 3),
            "to_alloyd": round(median(seconds[tool]) / median(seconds["alloyd"]), 3),
            "resident": watched and watched.resident,
            "private": watched and watched.private,
            "anonymous": watched and watched.anonymous,
        }
    return {
        "method": held.method,
        "bytes_read": sum(path.stat().st_size for path in held.inputs),
        "tools": rows,
    }


def show(found: dict[str, Any]) -> None:
    print(f"\n{found['method']}  ({found['bytes_read'] / 1e9:.2f} GB in)")
    print(
        f"  {'':10}{'seconds':>10}{'cpu':>10}{'x floor':>10}{'x alloyd':>10}"
        f"{'resident':>12}{'private':>12}{'anonymous':>12}"
    )
    for tool, row in found["tools"].items():
        sizes = (megabytes(row[name]) for name in ("resident", "private", "anonymous"))
        figures = (
            f"{row['median']:10.2f}{row['median_cpu']:10.2f}{row['to_floor']:10.2f}{row['to_alloyd']:10.2f}"
        )
        print(f"  {tool:10}{figures}" + "".join(f"{size:>12}" for size in sizes), flush=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="0.85B", help="parameters of each of the three models")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=RECIPES)
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each (mergekit: one)")
    parser.add_argument("--cold", action="store_true", help="inputs out of the page cache before each run")
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES, help="mergekit computes in it")
    parser.add_argument("--out-dtype", choices=DTYPES, help="what is written, where it is not the dtype")
    parser.add_argument("--memory", help="alloyd's --memory")
    parser.add_argument("--threads", type=int, help="alloyd's --threads")
    parser.add_argument("--no-mergekit", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the models are kept (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alloyd-benchmark-", dir=options.folder) as name:
        workspace = Path(name)
        store = (options.folder or workspace) / f"models-{options.size}"
        models = write(store, of_size(options.size), models=3)
        cores = len(os.sched_getaffinity(0))
        cache = "cold" if options.cold else "warm"
        print(f"3 x {options.size}, {cores} cores, {cache} cache, Python {platform.python_version()}")
        if not mergekit():
            print("mergekit is not installed: `make mergekit` installs it")
        results = []
        for method in options.methods:
            found = measure(contest(method, models, workspace, options), runs=options.runs, cold=options.cold)
            show(found)
            results.append(found)
    if options.json:
        facts = {
            "size": options.size,
            "cores": cores,
            "cache": cache,
            "dtype": options.dtype,
            "out_dtype": options.out_dtype or options.dtype,
            "results": results,
        }
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
