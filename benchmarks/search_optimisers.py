"""Optimisers on closed-form functions: the least loss found, median over seeds, for two budgets.

``python benchmarks/search_optimisers.py [--seeds 11] [--budgets 100,400] [--only cma-es,de]`` prints a table in
Markdown: one function and budget a row, one optimiser a column, its median loss and its seconds a run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from alloyd_daemon.optimiser import OPTIMISERS
from optimisers.ground import (
    best_of,
    bits,
    ellipsoid,
    mixed,
    rastrigin,
    reals,
    rosenbrock,
    sphere,
)

FUNCTIONS = {
    "sphere, 6 reals": (sphere, reals(6)),
    "ellipsoid, 6 reals": (ellipsoid, reals(6)),
    "Rosenbrock, 6 reals": (rosenbrock, reals(6, -2, 2)),
    "Rastrigin, 6 reals": (rastrigin, reals(6)),
    "sphere, 24 reals": (sphere, reals(24)),
    "sphere + bits, 4 reals and 8 choices": (mixed, reals(4) + bits(8)),
    "bits, 40 choices": (mixed, bits(40)),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=11)
    parser.add_argument("--budgets", default="100,400")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    names = [
        name
        for name, kind in OPTIMISERS.items()
        if kind.space is None and (not given.only or name in given.only.split(","))
    ]
    print("| function | budget | " + " | ".join(names) + " |")
    print("| --- | --- |" + " --- |" * len(names))
    for title, (function, genome) in FUNCTIONS.items():
        for budget in map(int, given.budgets.split(",")):
            cells = []
            for name in names:
                start = time.perf_counter()
                found = [best_of(name, genome, function, budget, seed) for seed in range(given.seeds)]
                seconds = (time.perf_counter() - start) / given.seeds
                cells.append(f"{statistics.median(found):.3g} ({seconds:.2f} s)")
            print(f"| {title} | {budget} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
