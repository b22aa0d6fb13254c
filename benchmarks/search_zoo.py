"""Sakana in miniature: does a search of recipes find what no parent, soup, untuned method, grid or chance finds?

    .venv/bin/python benchmarks/search_zoo.py --work WORK [--seeds 5] [--items 20000]

The parents are `math_wide` (solves word problems, taught in L1 alone) and `lang_wide` (fluent in L2, never shown a
solved problem) over the zoo's base; the goal is word problems asked in L2. Our search is `alloy search`'s own job with
its default optimiser, over one weight for each model, half of the layers and component. Whatever it scores, validation
included, counts as its budget, and every rival gets as many items in the same seed. All are then put to a locked paper.
Every run is reported.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import product
import rivals
from product import Searched, knob
from zoo_ground import Array, Ground, Paper, PlainRecipe, check_leaks, paired, paper, wide_pair

from alloyd_daemon.scoring.intervals import wilson_interval

TASK = "l2_arithmetic"
LOW, HIGH = 0.0, 1.5


def template(ground: Ground, models: tuple[str, ...], layers: int = 2) -> PlainRecipe:
    """Task arithmetic with a weight for each model, group of layers and component."""
    return ground.merge("task_arithmetic", {name: {"weight": knob(LOW, HIGH, layers)} for name in models})


def papers(ground: Ground, options: argparse.Namespace) -> tuple[Paper, Paper, Paper]:
    """Search, validation and locked papers."""
    return (
        paper(ground.work, TASK, "search", options.search),
        paper(ground.work, TASK, "validation", options.validation),
        paper(ground.work, TASK, "test", options.locked, locked=True),
    )


def ours(ground: Ground, options: argparse.Namespace, seed: int, arm: str) -> Searched:
    """One search of the product: `ps`, `ps+dfs` (the path after the weights, half the budget each) or `distractor`."""
    search, validation, _ = papers(ground, options)
    models = rivals.MODELS + (("distractor",) if arm == "distractor" else ())
    more: dict[str, Any] = {}
    if arm == "ps+dfs":
        more["path"] = {"after": True, "share": 0.5, "repeat": 1, "first": 1, "last": 1, "scale": [0.5, 1.5]}
    plain = product.spec(
        ground,
        template(ground, models),
        search=[search],
        validation=[validation],
        items=options.items,
        **more,
    )
    return product.run(ground, f"zoo-{arm}-{seed}-{options.items}", plain, seed=seed)


def arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What the scripts on this ground have in common."""
    parser.add_argument(
        "--work", type=Path, required=True, help="models, papers, searches and scores are kept there"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--items", type=int, default=20_000, help="items of the search split in each search")
    parser.add_argument("--search", type=int, default=300, help="items of the search paper")
    parser.add_argument("--validation", type=int, default=300)
    parser.add_argument("--locked", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    options.work = options.work.resolve()
    return options


def hold(
    ground: Ground, options: argparse.Namespace, seed: int, untuned: Mapping[str, Array]
) -> dict[str, Any]:
    """All arms and rivals of one seed on the locked paper: printed, and as plain data."""
    search, _, locked = papers(ground, options)
    found = {arm: ours(ground, options, seed, arm) for arm in options.arms}
    budget = found["ps"].items
    space = product.space({"recipe": template(ground, rivals.MODELS), **NO_TASKS})
    grid = rivals.grid(ground, rivals.MODELS, budget // search.items, LOW, HIGH)
    recipes = {
        "random": rivals.run(rivals.random(space, seed), ground, [search], budget).recipe,
        "TA grid": rivals.run(grid, ground, [search], budget).recipe,
        **{arm: each.recipe for arm, each in found.items()},
    }
    rows = dict(zip(recipes, ground.table(list(recipes.values()), locked), strict=True))
    best = rows.pop("ps")
    print(
        f"\nseed {seed}: PS {share(best)} on the locked paper ({found['ps'].results['optimiser'].get('name')})"
    )
    for arm, each in found.items():
        print(f"  {arm}: {each.candidates} candidates, {each.items} items, {each.seconds:.0f} s")
    told: dict[str, Any] = {
        "seed": seed,
        "ps": float(best.mean()),
        "budget": budget,
        "against": {},
        "wins": True,
    }
    for name, row in {**untuned, **rows}.items():
        gain = paired(best, row)
        told["wins"] &= gain.better or name in options.arms
        told["against"][name] = {"value": float(row.mean()), **asdict(gain)}
        print(
            f"  against {name:18} {share(row):24} difference {gain}{'' if gain.better else '   <-- not shown'}"
        )
    written = Paper(
        TASK, "locked", paper(ground.work, TASK, "test", 1000, locked=True).path, "exact_match", ("score",)
    )
    chosen = [recipes[each] for each in ("ps", "random", "TA grid")]
    right = ground.table(chosen, written)
    told["written"] = [float(each.mean()) for each in right]
    print(
        "  written out (exact_match, 1000 items): PS, random, TA grid",
        *(share(each) for each in right),
        flush=True,
    )
    return told


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arms", nargs="+", default=["ps", "ps+dfs", "distractor"], help="ps is always one")
    options = arguments(parser)
    models, base = wide_pair(options.work, distractor=True)
    ground = Ground(options.work, models, base, options.threads)
    print(check_leaks(papers(ground, options)))
    plain = rivals.untuned(ground, rivals.MODELS)
    right = dict(zip(plain, ground.table(list(plain.values()), papers(ground, options)[2]), strict=True))
    print("\nuntuned, locked paper:")
    for name, row in right.items():
        print(f"  {name:18} {share(row)}", flush=True)
    seeds = [hold(ground, options, seed, right) for seed in range(options.seeds)]
    print(
        "\nPS beats every parent, soup, untuned method, random search and grid"
        f" in {sum(each['wins'] for each in seeds)} of {options.seeds} seeds"
    )
    _table(seeds)
    if options.json:
        said = {
            "options": {key: str(value) for key, value in vars(options).items()},
            "untuned": {name: float(row.mean()) for name, row in right.items()},
            "seeds": seeds,
        }
        options.json.write_text(json.dumps(said, indent=1) + "\n")


def _table(seeds: Sequence[Mapping[str, Any]]) -> None:
    """All runs as Markdown: percent right on the locked paper, and by how much PS is better, with its interval."""
    heads = [f"seed {each['seed']}" for each in seeds]
    print(f"\n| locked paper | {' | '.join(heads)} |")
    print("|---" * (len(seeds) + 1) + "|")
    bests = [f"**{100 * each['ps']:.1f}**" for each in seeds]
    print(f"| PS | {' | '.join(bests)} |")
    for name in seeds[0]["against"]:
        cells = []
        for each in seeds:
            one = each["against"][name]
            gain = "{:+.1f} ({:+.1f} to {:+.1f})".format(
                *(100 * one[key] for key in ("difference", "low", "high"))
            )
            cells.append(f"{100 * one['value']:.1f}; {gain}")
        print(f"| {name} | {' | '.join(cells)} |")


def share(row: Array) -> str:
    """Percent right with its 95 % Wilson interval."""
    low, high = wilson_interval(int(row.sum()), len(row))
    return f"{100 * row.mean():5.1f} ({100 * low:.1f}-{100 * high:.1f})"


NO_TASKS: dict[str, Any] = {
    "tasks": {"search": ["a.jsonl"], "validation": ["b.jsonl"]},
    "budget": {"candidates": 1},
}

if __name__ == "__main__":
    main()
