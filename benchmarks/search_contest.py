"""An equal-budget contest: our search against mergekit-evolve's genome and CMA-ES, and mergenetic's genetic algorithm.

    .venv/bin/python benchmarks/search_contest.py --work WORK [--seeds 5] [--items 20000]

Ground, papers and our searches are those of search_zoo.py (same WORK, same searches). Each rival is re-implemented
from its documented settings (rivals.py) and gets, seed by seed, as many scored items as our search spent, validation
included. It scores every candidate on the whole search paper, as its original does, and hands in its best. The same
warm runner scores all, so that items are compared and not engines; `--time` says what a fresh candidate of each takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rivals
from search_zoo import arguments, ours, papers, share
from zoo_ground import Ground, PlainRecipe, check_leaks, paired, wide_pair

Make = Callable[[Ground, int, int], rivals.Rival]

RIVALS: dict[str, Make] = {
    "mergekit-evolve task_arithmetic": lambda ground, seed, _: rivals.MergekitEvolve(
        ground, "task_arithmetic", seed
    ),
    "mergekit-evolve ties": lambda ground, seed, _: rivals.MergekitEvolve(ground, "ties", seed),
    "mergekit-evolve ties, normalize off": lambda ground, seed, _: rivals.MergekitEvolve(
        ground, "ties", seed, normalize=False
    ),
    "mergenetic GA task_arithmetic": lambda ground, seed, count: rivals.Mergenetic(
        ground, "task_arithmetic", seed, count
    ),
    "mergenetic GA dare_ties": lambda ground, seed, count: rivals.Mergenetic(
        ground, "dare_ties", seed, count
    ),
}
TIMED = 12


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rivals", nargs="+", default=list(RIVALS), help="some of them")
    parser.add_argument(
        "--budget", type=int, help="run the rivals alone, with so many items: to fill WORK beforehand"
    )
    parser.add_argument(
        "--time", action="store_true", help="seconds of fresh candidates: wants a quiet machine"
    )
    options = arguments(parser)
    models, base = wide_pair(options.work, distractor=True)
    ground = Ground(options.work, models, base, options.threads)
    search, _, locked = papers(ground, options)
    print(check_leaks([search, locked]))
    if options.time:
        _time(ground, search)
        return
    figures: list[dict[str, Any]] = []
    wins = dict.fromkeys(options.rivals, 0)
    values: dict[str, list[float]] = {"ours": [], **{name: [] for name in options.rivals}}
    for seed in range(options.seeds):
        one = None if options.budget else ours(ground, options, seed, "ps")
        budget = options.budget or (one.items if one else 0)
        found = {
            name: rivals.run(RIVALS[name](ground, seed, budget // search.items), ground, [search], budget)
            for name in options.rivals
        }
        if one is None:
            continue
        rows = ground.table([one.recipe, *(each.recipe for each in found.values())], locked)
        values["ours"].append(float(rows[0].mean()))
        print(
            f"\nseed {seed}, {budget} items: ours {share(rows[0])}, {one.candidates} candidates, {one.seconds:.0f} s"
        )
        for (name, each), row in zip(found.items(), rows[1:], strict=True):
            gain = paired(rows[0], row)
            wins[name] += gain.better
            values[name].append(float(row.mean()))
            print(
                f"  {name:36} {share(row)}, search {100 * (1 - each.loss):.1f}, {each.candidates} candidates;"
                f" ours is {gain}{'' if gain.better else '   <-- not shown'}"
            )
            figures.append(
                {
                    "seed": seed,
                    "rival": name,
                    "budget": budget,
                    "ours": float(rows[0].mean()),
                    "theirs": float(row.mean()),
                    "search": 1 - each.loss,
                    "difference": gain.difference,
                    "low": gain.low,
                    "high": gain.high,
                    "p": gain.p,
                }
            )
    if values["ours"]:
        print(f"\nlocked paper, {options.seeds} seeds\n")
        print(
            f"| search | mean | {' | '.join(f'seed {each}' for each in range(options.seeds))} | beaten in |"
        )
        print("|---" * (options.seeds + 3) + "|")
        for name, each in values.items():
            said = "" if name == "ours" else f"{wins[name]} of {options.seeds}"
            cells = " | ".join(f"{100 * value:.1f}" for value in each)
            print(f"| {name} | {100 * np.mean(each):.1f} | {cells} | {said} |")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _time(ground: Ground, search: Any) -> None:
    """Seconds of candidates that nobody scored before, one after the other in a warm process."""
    fresh = time.time_ns() % 1_000_000
    for name, make in RIVALS.items():
        recipes: list[PlainRecipe] = []
        rival = make(ground, fresh, 1000)
        while len(recipes) < TIMED + 1:
            asked = list(rival.ask())
            recipes += asked
            rival.tell(list(np.linspace(0, 1, len(asked))))
        ground.seconds.clear()
        for recipe in recipes[: TIMED + 1]:
            ground.table([recipe], search)
        took = ground.seconds[1:]  # the first one loads libraries and kernels
        if not took:
            print(f"  {name:36} all of its candidates are known: use a fresh --work")
            continue
        print(
            f"  {name:36} {statistics.median(took):.2f} s ({min(took):.2f}-{max(took):.2f}), {search.items} items"
        )


if __name__ == "__main__":
    main()
