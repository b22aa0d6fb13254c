"""Several objectives: NSGA-II against random search on (L2 arithmetic, L1 arithmetic, bits per byte of L2).

    .venv/bin/python benchmarks/search_pareto.py --work WORK [--seeds 5] [--items 15000]

Both are `alloy search`'s own job with the goal `pareto`, have the same budget, and differ in the optimiser alone: once
from the baselines, and once given the winners of searches for each objective alone (`previous:`), the same ones to
both. The front of each is then put to locked papers, and the hypervolume that it dominates there is compared: the axes
are the shares of wrong answers and the bits per byte in units of the base's, the reference point is (1, 1, 1). The
front's best by each objective is held against the winner for that objective alone, on the same locked papers.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import product
import rivals
from product import Searched
from search_zoo import arguments, template
from zoo_ground import Array, Ground, Paper, PlainRecipe, check_leaks, paper, text_paper, wide_pair

from alloyd_daemon.scoring.intervals import bootstrap_interval
from alloyd_daemon.search.pareto import front, hypervolume

NAMES = ("L2 arithmetic", "L1 arithmetic", "L2 bits per byte")
OBJECTIVES = (
    {"task": 1, "metric": "greedy"},
    {"task": 2, "metric": "greedy"},
    {"task": 3, "metric": "bits_per_byte"},
)
REFERENCE = (1.0, 1.0, 1.0)
STARTS = ("from the baselines", "given")
SPLITS = ("search", "validation")
ALONE = 4000
"""Items of a search for one objective alone: of L1 and of bits per byte one parent is nearly the best."""


def search(
    ground: Ground, name: str, papers: tuple[list[Paper], list[Paper]], options: Any, **how: Any
) -> Searched:
    """One search of the product over the papers (search, validation), named so in WORK."""
    seed = how.pop("seed")
    plain = product.spec(
        ground,
        template(ground, rivals.MODELS),
        search=papers[0],
        validation=papers[1],
        items=how.pop("items", options.items),
        optimiser=how.pop("optimiser", "auto"),
    )
    return product.run(ground, f"pareto-{name}-{seed}", plain | how, seed=seed)


def points(ground: Ground, recipes: list[PlainRecipe], papers: list[Paper], base: float) -> Array:
    """Losses on papers: wrong answers, and bits per byte in units of ``base``, float64 [recipes, 3]."""
    wrong = [1 - ground.table(recipes, each).mean(axis=1) for each in papers[:2]]
    text = ground.rows(recipes, papers[2])
    bits = text[:, 0].sum(axis=1) / text[:, 1].sum(axis=1) / np.log(2)
    return np.stack([*wrong, bits / base], axis=1)


def gap(ground: Ground, ours: PlainRecipe, theirs: PlainRecipe, asked: Paper) -> tuple[float, float, float]:
    """By how much ``ours`` is better on a paper, and the 95 % interval: a share, or bits per byte."""
    a, b = ground.rows([ours, theirs], asked)
    if asked.evaluator == "perplexity":
        scale = 1 / np.log(2)

        def better(rows: Any) -> Any:
            return scale * (b[0][rows].sum(-1) - a[0][rows].sum(-1)) / a[1][rows].sum(-1)
    else:

        def better(rows: Any) -> Any:
            return (a[0] - b[0])[rows].mean(-1)

    low, high = bootstrap_interval(better, a.shape[1])
    return float(better(np.arange(a.shape[1]))), low, high


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=int, nargs="+", help="these seeds")
    parser.set_defaults(items=15_000)
    options = arguments(parser)
    models, base = wide_pair(options.work)
    ground = Ground(options.work, models, base, options.threads)
    work = options.work
    tasks = ("l2_arithmetic", "l1_arithmetic")
    asked = (
        [*(paper(work, each, "search", 120) for each in tasks), text_paper(work, "search", 100)],
        [*(paper(work, each, "validation", 200) for each in tasks), text_paper(work, "validation", 100)],
    )
    locked = [*(paper(work, each, "test", 600, locked=True) for each in tasks), text_paper(work, "test", 300)]
    print(check_leaks([*asked[0], *asked[1], *locked]))
    text = ground.rows([ground.alone("base")], locked[2])[0]
    bits = float(text[0].sum() / text[1].sum() / np.log(2))
    print(f"bits per byte of the base: {bits:.3f}")
    figures = [
        one_seed(ground, options, seed, asked, locked, bits) for seed in options.only or range(options.seeds)
    ]
    for start in STARTS:
        wins = sum(
            each[start]["nsga2"]["hypervolume"] > each[start]["random"]["hypervolume"] for each in figures
        )
        print(f"\n{start}: NSGA-II dominates more than random search in {wins} of {len(figures)} seeds")
        if start == "given":
            found = sum(each[start]["nsga2"]["held"] for each in figures)
            print(f"    of {len(NAMES) * len(figures)} winners that it is given, its front holds {found}")
        for split in SPLITS:
            held = [one["high"] >= 0 for each in figures for one in each[start]["ends"][split].values()]
            print(
                f"    the front holds the winner for one objective (its best on {split}: no clear loss) in"
                f" {sum(held)} of {len(held)} cases"
            )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def one_seed(
    ground: Ground,
    options: argparse.Namespace,
    seed: int,
    asked: tuple[list[Paper], list[Paper]],
    locked: list[Paper],
    bits: float,
) -> dict[str, Any]:
    """All searches of one seed on the locked papers: printed, and as plain data."""
    alone = []
    for number, name in enumerate(NAMES):
        one = search(
            ground,
            f"alone{number + 1}",
            ([asked[0][number]], [asked[1][number]]),
            options,
            seed=seed,
            items=options.items // 3 if number == 0 else ALONE,
            objectives=[{**OBJECTIVES[number], "task": 1}],
        )
        alone.append(one.recipe)
        print(f"seed {seed}, for {name} alone: {one.candidates} candidates, {one.items} items", flush=True)
    told: dict[str, Any] = {"seed": seed}
    for start in STARTS:
        told[start] = {}
        given = (
            [f"pareto-alone{number + 1}-{seed}" for number in range(len(NAMES))] if start == "given" else []
        )
        for optimiser in ("nsga2", "random"):
            one = search(
                ground,
                optimiser + ("-given" if given else ""),
                asked,
                options,
                seed=seed,
                optimiser=optimiser,
                goal="pareto",
                objectives=list(OBJECTIVES),
                **({"previous": given} if given else {}),
            )
            answered = [each for each in one.trials if each.state == "scored"]
            chosen = [answered[place] for place in front([each.losses or () for each in answered])]
            recipes = [each.recipe for each in chosen]
            told[start][optimiser] = {
                "hypervolume": hypervolume(
                    [tuple(row) for row in points(ground, recipes, locked, bits)], REFERENCE
                ),
                "front": len(chosen),
                "candidates": one.candidates,
                "items": one.items,
                "seconds": one.seconds,
            }
            print(
                f"seed {seed}, {start}, {optimiser:6}: hypervolume {told[start][optimiser]['hypervolume']:.4f} on the"
                f" locked papers, front of {len(chosen)}, {one.candidates} candidates, {one.items} items,"
                f" {one.seconds:.0f} s",
                flush=True,
            )
            if given:
                told[start][optimiser]["held"] = held_winners(one)
            if optimiser == "nsga2":
                losses = {
                    "search": np.array([each.losses for each in chosen]),
                    "validation": points(ground, recipes, asked[1], bits),
                }
                told[start]["ends"] = {
                    split: ends(ground, recipes, losses[split], alone, locked, split) for split in SPLITS
                }
    return told


def held_winners(one: Searched) -> int:
    """How many of the winners given are on the front, or have a scored trial that is as good in all objectives."""
    answered = [each for each in one.trials if each.state == "scored" and each.losses]
    members = [answered[place].losses or () for place in front([each.losses or () for each in answered])]
    return sum(
        each.losses is not None
        and each.state in ("scored", "duplicate")
        and any(all(x <= y for x, y in zip(member, each.losses, strict=True)) for member in members)
        for each in one.trials
        if each.origin == "previous"
    )


def ends(
    ground: Ground,
    recipes: list[PlainRecipe],
    losses: Array,
    alone: list[PlainRecipe],
    locked: list[Paper],
    split: str,
) -> dict[str, Any]:
    """The best of a front by each objective's ``losses`` on a split, against the winner for that objective alone."""
    told = {}
    for number, name in enumerate(NAMES):
        value, low, high = gap(
            ground, recipes[int(losses[:, number].argmin())], alone[number], locked[number]
        )
        told[name] = {"difference": value, "low": low, "high": high}
        unit, scale = ("", 1.0) if number == 2 else (" points", 100.0)
        print(
            f"    {name}: the front's best on {split} is better than the winner of a search for it alone by"
            f" {scale * value:+.3f}{unit} ({scale * low:+.3f} to {scale * high:+.3f})"
            f"{'' if high >= 0 else '   <-- worse'}",
            flush=True,
        )
    return told


if __name__ == "__main__":
    main()
