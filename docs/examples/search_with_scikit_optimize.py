"""Bayesian optimisation, from scikit-optimize, searches two weights and a density; alloyd scores a batch at a time.

Run it at the root of the repository, where the zoo is: python docs/examples/search_with_scikit_optimize.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from skopt import Optimizer
from skopt.space import Real

import alloyd

MODELS = ("zoo/models/math", "zoo/models/lang")
SEARCH, VALIDATION = (f"zoo/tasks/l2_arithmetic.{part}.jsonl" for part in ("search", "validation"))
SPACE = [
    Real(0.0, 2.0, name="weight of math"),
    Real(0.0, 2.0, name="weight of lang"),
    Real(0.2, 1.0, name="density"),
]


def recipe(point: Sequence[float]) -> dict[str, Any]:
    """The merge that a point of the search stands for."""
    return {
        "merge_method": "ties",
        "base_model": "zoo/models/base",
        "models": [
            {"model": model, "parameters": {"weight": float(weight), "density": float(point[2])}}
            for model, weight in zip(MODELS, point, strict=False)
        ],
        "parameters": {"normalize": False},
        "dtype": "bfloat16",
    }


def losses(client: alloyd.Client, points: Sequence[Sequence[float]], items: int) -> list[float]:
    """What a batch is worth, lower is better; nothing is written, and one job scores them all."""
    named = {f"candidate {number}": recipe(point) for number, point in enumerate(points)}
    result = client.wait(client.score(named, SEARCH, limit=items).id).result or {}
    # A candidate that could not be scored is worse than all others, not the end of the search.
    return [2.0 if each["error"] else 1 - each["scores"][0]["value"] for each in result["models"]]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--batches", type=int, default=8)
    words.add_argument("--batch", type=int, default=4)
    words.add_argument("--items", type=int, default=100, help="of the search split, for each candidate")
    words.add_argument("--check", type=int, default=500, help="items of the validation split for the winner")
    words.add_argument("--seed", type=int, default=0)
    options = words.parse_args()

    optimiser = Optimizer(
        SPACE,
        base_estimator="GP",
        n_initial_points=2 * options.batch,
        acq_optimizer="sampling",
        random_state=options.seed,
    )
    with alloyd.Client() as client:
        for number in range(options.batches):
            points = optimiser.ask(n_points=options.batch, strategy="cl_min")
            optimiser.tell(points, losses(client, points, options.items))
            print(f"batch {number + 1}: best {1 - min(optimiser.yi):.3f} of the items right", flush=True)
        best = optimiser.Xi[optimiser.yi.index(min(optimiser.yi))]

        # The search split chose the winner, so it flatters it: what counts is the validation split, pair by pair.
        known = {"math": MODELS[0], "lang": MODELS[1], "untuned": recipe([1.0, 1.0, 1.0])}
        job = client.score({"winner": recipe(best), **known}, VALIDATION, limit=options.check)
        result = client.wait(job.id).result or {}
    against = {pair["model"]: pair for pair in reversed(result["comparisons"])}
    for each in result["models"]:
        score, pair = each["scores"][0], against.get(each["name"])
        line = f"{each['name']:<8} {score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
        print(line + (f", than the winner: {pair['verdict']}" if pair else ""))
    print("winner:", ", ".join(f"{gene.name} {value:.3f}" for gene, value in zip(SPACE, best, strict=True)))


if __name__ == "__main__":
    main()
