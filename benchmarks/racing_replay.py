"""How many items does racing need to find the winner of full scoring? Replayed on a stored table of all scores.

    .venv/bin/python benchmarks/racing_replay.py --work WORK [--candidates 210] [--table 600]

The table holds the candidates of three optimisers, each told the losses of full scoring, on one paper. Each replay
shuffles the items, and shuffles the candidates or has the optimisers take turns. Racing (`search/racing.py`, as a
search does it) is held against a uniform subset of items for all candidates and against successive halving, each at
the fewest items at which its mean regret is no larger than racing's. Regret: by how much the chosen candidate is worse
than the best of the table, by all items.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import product
import rivals
from search_zoo import NO_TASKS, TASK, arguments, template
from zoo_ground import Array, Ground, Paper, PlainRecipe, paper, wide_pair

from alloyd_daemon.optimiser import OPTIMISERS, Problem, Told
from alloyd_daemon.search.racing import level, replay, replay_together, surely_worse

SOURCES = ("random", "cma-es", "de")
Random = np.random.Generator


def table(ground: Ground, asked: Paper, candidates: int) -> tuple[Array, list[str], list[PlainRecipe]]:
    """Losses of all candidates on all items, float64 [candidates, items], who proposed each, and its recipe.

    Kept in WORK, compressed.
    """
    kept = ground.work / f"table.{candidates}.{asked.items}.npz"
    if kept.exists():
        with np.load(kept) as file:
            return (
                file["losses"],
                [str(each) for each in file["source"]],
                [json.loads(str(each)) for each in file["recipes"]],
            )
    space = product.space({"recipe": template(ground, rivals.MODELS), **NO_TASKS})
    rows: list[Array] = []
    source: list[str] = []
    recipes: list[PlainRecipe] = []
    for name in SOURCES:
        kind = OPTIMISERS.get(name)
        share = candidates // len(SOURCES)
        options = {key: each.default for key, each in kind.options.items()}
        optimiser = kind.make(Problem(genome=space.genome, budget=share, options=options))
        told = 0
        while told < share:
            proposals = optimiser.ask(min(max(1, optimiser.batch), share - told))
            proposed = [space.recipe(each.point) for each in proposals]
            losses = 1 - ground.table(proposed, asked)
            optimiser.tell(
                [
                    Told(told + place, each.point, (float(row.mean()),))
                    for place, (each, row) in enumerate(zip(proposals, losses, strict=True), start=1)
                ]
            )
            told += len(proposals)
            rows += list(losses)
            recipes += proposed
            source += [name] * len(proposals)
            print(f"  {name}: {told} of {share}, best {min(row.mean() for row in rows):.4f}", flush=True)
    losses = np.stack(rows)
    said = [json.dumps(each) for each in recipes]
    np.savez_compressed(kept, losses=losses, source=np.array(source), recipes=np.array(said))
    return losses, source, recipes


def race(losses: Array, random: Random, *, block: int, confidence: float) -> tuple[int, int]:
    """The winner of a race, and the items that it took."""
    order = [int(each) for each in random.permutation(losses.shape[1])]
    found = replay(losses, block=block, confidence=confidence, order=order)
    return found.winner, sum(found.asked)


def side_by_side(losses: Array, random: Random, *, block: int, confidence: float) -> tuple[int, int]:
    """The winner of a race of all candidates at once, and the items that it took."""
    order = [int(each) for each in random.permutation(losses.shape[1])]
    found = replay_together(losses, block=block, confidence=confidence, order=order)
    return found.winner, sum(found.asked)


def disagreed_first(losses: Array, random: Random, *, block: int, confidence: float) -> tuple[int, int]:
    """A race that asks first those items on which the candidates that answered everything disagree most.

    The incumbent is one of them: it was right where most were wrong, so these are items on which newcomers mostly lose.
    """
    count, items = losses.shape
    shuffled = random.permutation(items)
    whole: list[int] = []
    spent, best = 0, 0
    for number in range(count):
        order = (
            shuffled[np.argsort(-losses[whole].var(axis=0)[shuffled], kind="stable")] if whole else shuffled
        )
        seen, dropped = items, False
        if number >= 4:
            for look, stop in enumerate(range(block, items, block), start=1):
                gains = (losses[best] - losses[number])[order[:stop]]
                if surely_worse(gains, level(confidence, look), items):
                    seen, dropped = stop, True
                    break
        spent += seen
        if not dropped:
            whole.append(number)
            best = min(best, number, key=lambda each: losses[each].sum())
    return best, spent


def subset(losses: Array, random: Random, *, items: int) -> tuple[int, int]:
    """The best on ``items`` items drawn once for all candidates."""
    chosen = random.permutation(losses.shape[1])[:items]
    return int(losses[:, chosen].sum(axis=1).argmin()), items * len(losses)


def halving(losses: Array, random: Random, *, items: int) -> tuple[int, int]:
    """Successive halving (Jamieson and Talwalkar 2016): ``items`` for all, the better half has twice as many."""
    order = random.permutation(losses.shape[1])
    alive, spent, seen = np.arange(len(losses)), 0, 0
    until = items
    while True:
        until = min(until, losses.shape[1])
        spent += len(alive) * (until - seen)
        seen = until
        sums = losses[np.ix_(alive, order[:seen])].sum(axis=1)
        alive = alive[np.argsort(sums, kind="stable")]
        if len(alive) <= 1 or seen == losses.shape[1]:
            return int(alive[0]), spent
        alive = alive[: -(-len(alive) // 2)]
        until *= 2


def repeated(
    losses: Array,
    source: list[str],
    way: Callable[[Array, Random], tuple[int, int]],
    shuffles: int,
    mixed: bool,
) -> dict[str, float]:
    """Share of the items, regret and how often the best was found, over shuffles; intervals are of the means."""
    totals = losses.mean(axis=1)
    shares, regrets = [], []
    for number in range(shuffles):
        random = np.random.Generator(np.random.PCG64(number))
        order = random.permutation(len(losses)) if mixed else _interleaved(source)
        winner, spent = way(losses[order], random)
        shares.append(spent / losses.size)
        regrets.append(totals[order[winner]] - totals.min())
    share, regret = np.array(shares), np.array(regrets)
    draws = np.random.Generator(np.random.PCG64(0)).integers(shuffles, size=(2000, shuffles))
    low, high = np.quantile(share[draws].mean(axis=1), [0.025, 0.975])
    regret_low, regret_high = np.quantile(regret[draws].mean(axis=1), [0.025, 0.975])
    return {
        "share": float(share.mean()),
        "share_low": float(low),
        "share_high": float(high),
        "regret": float(regret.mean()),
        "regret_low": float(regret_low),
        "regret_high": float(regret_high),
        "found": float((regret <= 0).mean()),
    }


def _interleaved(source: list[str]) -> Array:
    """The candidates in the order in which their optimisers proposed them, the optimisers taking turns."""
    turn: dict[str, int] = {}
    keys = []
    for name in source:
        turn[name] = turn.get(name, 0) + 1
        keys.append(turn[name])
    return np.argsort(keys, kind="stable")


def said(name: str, found: dict[str, float]) -> str:
    """One row of the table."""
    parts = [
        f"{100 * found[key]:.{digits}f}"
        f" ({100 * found[key + '_low']:.{digits}f}-{100 * found[key + '_high']:.{digits}f})"
        for key, digits in (("share", 1), ("regret", 2))
    ]
    return f"| {name} | {' | '.join(parts)} | {100 * found['found']:.0f} |"


def cheapest(
    losses: Array,
    source: list[str],
    way: Callable[[Array, Random, int], tuple[int, int]],
    regret: float,
    shuffles: int,
) -> dict[str, float]:
    """What ``way`` takes at the fewest items at which its mean regret is at most ``regret``."""
    items = losses.shape[1]
    low, high = 1, items
    while low < high:
        middle = (low + high) // 2
        found = repeated(losses, source, lambda rows, random: way(rows, random, middle), shuffles, True)  # noqa: B023
        low, high = (low, middle) if found["regret"] <= regret else (middle + 1, high)
    return repeated(losses, source, lambda rows, random: way(rows, random, low), shuffles, True)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=210)
    parser.add_argument("--table", type=int, default=600, help="items of the table's paper")
    parser.add_argument("--shuffles", type=int, default=100)
    options = arguments(parser)
    models, base = wide_pair(options.work)
    ground = Ground(options.work, models, base, options.threads)
    asked = paper(options.work, TASK, "search", options.table)
    losses, source, _ = table(ground, asked, options.candidates)
    totals = np.sort(1 - losses.mean(axis=1))[::-1]
    print(
        f"{len(losses)} candidates ({', '.join(f'{source.count(each)} {each}' for each in SOURCES)})"
        f" x {losses.shape[1]} items; best {100 * totals[0]:.2f} %,"
        f" next {', '.join(f'{100 * each:.2f}' for each in totals[1:6])}, median {100 * np.median(totals):.1f}"
    )
    print("\n| | percent of the items | regret, points | finds the best, percent |\n|---|---|---|---|")
    figures: dict[str, Any] = {}
    for mixed in (False, True):
        for block, confidence in ((25, 0.95), (10, 0.95), (10, 0.9), (10, 0.8)):
            name = (
                f"racing, block {block}, confidence {confidence:g}, {'shuffled' if mixed else 'as proposed'}"
            )
            figures[name] = repeated(
                losses,
                source,
                lambda rows, random: race(rows, random, block=block, confidence=confidence),  # noqa: B023
                options.shuffles,
                mixed,
            )
            print(said(name, figures[name]), flush=True)
    for block, confidence in ((25, 0.95), (10, 0.95), (25, 0.8)):
        name = f"racing side by side, block {block}, confidence {confidence:g}"
        figures[name] = repeated(
            losses,
            source,
            lambda rows, random: side_by_side(rows, random, block=block, confidence=confidence),  # noqa: B023
            options.shuffles,
            True,
        )
        print(said(name, figures[name]), flush=True)
    name = "most disagreed first, block 25, confidence 0.95, shuffled"
    figures[name] = repeated(
        losses,
        source,
        lambda rows, random: disagreed_first(rows, random, block=25, confidence=0.95),
        options.shuffles,
        True,
    )
    print(said(name, figures[name]), flush=True)
    target = figures["racing, block 25, confidence 0.95, shuffled"]["regret"]
    for name, way in (
        ("uniform subset at the same regret", lambda rows, random, n: subset(rows, random, items=n)),
        ("successive halving at the same regret", lambda rows, random, n: halving(rows, random, items=n)),
    ):
        figures[name] = cheapest(losses, source, way, target, options.shuffles)
        print(said(name, figures[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
