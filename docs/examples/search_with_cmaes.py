"""CMA-ES, from the library cmaes, searches two weights; alloyd scores a generation at a time.

Run it at the root of the repository, where the zoo is: python docs/examples/search_with_cmaes.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from cmaes import CMA

import alloyd

MODELS = ("zoo/models/math", "zoo/models/lang")
SEARCH, VALIDATION = (f"zoo/tasks/l2_arithmetic.{part}.jsonl" for part in ("search", "validation"))
BOUNDS = np.array([[-0.5, 2.0], [-0.5, 2.0]])


def recipe(weights: Sequence[float]) -> dict[str, Any]:
    """The merge that a point of the search stands for."""
    return {
        "merge_method": "task_arithmetic",
        "base_model": "zoo/models/base",
        "models": [
            {"model": model, "parameters": {"weight": float(weight)}}
            for model, weight in zip(MODELS, weights, strict=True)
        ],
        "dtype": "bfloat16",
    }


def losses(client: alloyd.Client, points: Sequence[Sequence[float]], items: int) -> list[float]:
    """What a generation is worth, lower is better; nothing is written, and one job scores them all."""
    named = {f"candidate {number}": recipe(point) for number, point in enumerate(points)}
    result = client.wait(client.score(named, SEARCH, limit=items).id).result or {}
    # A candidate that could not be scored (numbers that are none, say) is worse than all others, not the end.
    return [2.0 if each["error"] else 1 - each["scores"][0]["value"] for each in result["models"]]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--generations", type=int, default=8)
    words.add_argument("--population", type=int, default=6)
    words.add_argument("--items", type=int, default=100, help="of the search split, for each candidate")
    words.add_argument("--check", type=int, default=500, help="items of the validation split for the winner")
    words.add_argument("--seed", type=int, default=0)
    options = words.parse_args()

    optimiser = CMA(
        mean=np.array([0.5, 0.5]),
        sigma=0.5,
        bounds=BOUNDS,
        population_size=options.population,
        seed=options.seed,
    )
    best: tuple[float, Sequence[float]] = (np.inf, ())
    with alloyd.Client() as client:
        for generation in range(options.generations):
            points = [optimiser.ask() for _ in range(optimiser.population_size)]
            found = losses(client, points, options.items)
            optimiser.tell(list(zip(points, found, strict=True)))
            best = min(best, *zip(found, points, strict=True), key=lambda each: each[0])
            print(f"generation {generation + 1}: best {1 - best[0]:.3f} of the items right", flush=True)

        # The search split chose the winner, so it flatters it: what counts is the validation split, pair by pair.
        known = {"math": MODELS[0], "lang": MODELS[1], "untuned": recipe([1.0, 1.0])}
        job = client.score({"winner": recipe(best[1]), **known}, VALIDATION, limit=options.check)
        result = client.wait(job.id).result or {}
    against = {pair["model"]: pair for pair in reversed(result["comparisons"])}
    for each in result["models"]:
        score, pair = each["scores"][0], against.get(each["name"])
        line = f"{each['name']:<8} {score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
        print(line + (f", than the winner: {pair['verdict']}" if pair else ""))
    print("winner:", ", ".join(f"{weight:.3f}" for weight in best[1]))


if __name__ == "__main__":
    main()
