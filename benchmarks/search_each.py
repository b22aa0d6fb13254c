"""Every optimiser drives the same small search on the zoo: what its winner is worth, beside the best untuned merge.

    .venv/bin/python benchmarks/search_each.py --work WORK --items 6000 [--only NAME...]

Ground and papers are those of search_zoo.py. One seed each, a small budget and validation scores: it shows that each
works, not which is best.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import product
import rivals
from search_zoo import arguments, papers, template
from zoo_ground import Ground, wide_pair

from alloyd_daemon.optimiser import OPTIMISERS


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(OPTIMISERS.names()))
    options = arguments(parser)
    models, base = wide_pair(options.work, distractor=True)
    ground = Ground(options.work, models, base, options.threads)
    search, validation, _ = papers(ground, options)
    print(
        "| optimiser | winner | validation | best untuned | candidates | items | s |\n|---|---|---|---|---|---|---|"
    )
    for name in options.only:
        plain = product.spec(
            ground,
            template(ground, rivals.MODELS),
            search=[search],
            validation=[validation],
            items=options.items,
            optimiser=name,
        )
        found = product.run(ground, f"each-{name}-{options.items}", plain, seed=0)
        winner = found.results["winner"]
        best = max(_figure(each, search.values[0]) for each in found.results["baselines"] if each["figures"])
        print(
            f"| {name} | {winner['name']} | {100 * _figure(winner, search.values[0]):.1f} | {100 * best:.1f} |"
            f" {found.candidates} | {found.items} | {found.seconds:.0f} |",
            flush=True,
        )


def _figure(model: Mapping[str, Any], metric: str) -> float:
    """What a winner or baseline is worth on validation."""
    return next(float(each["value"]) for each in model["figures"] if each["metric"] == metric)


if __name__ == "__main__":
    main()
