"""CMA-ES: a normal distribution that learns where good points lie, with margin where genes are not continuous."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..optimiser import OPTIMISERS, OptimiserKind, Option, Problem, Proposal, Told
from ..search.genome import Gene, Genome, Point, Value, first_point
from ..search.known import TRIES, Known, varying
from ..search.libraries import need, one_thread
from ..search.losses import loss_of, ranks

# More values than that, and a whole number is searched as a real one that is rounded.
LONGEST_LADDER = 64


class Sampler(Protocol):
    """One distribution, from its start to its restart."""

    size: int

    def draw(self) -> tuple[dict[str, Value], Any]:
        """A point, and the sample that stands for it."""

    def learn(self, samples: Sequence[Any], losses: Sequence[float | None]) -> None:
        """Move towards the better of ``size`` samples; a failed one counts as the worst."""

    def ended(self) -> bool:
        """Whether it has become too narrow, too wide or too flat to find anything more."""


class Continuous:
    """Real genes alone, in their unit cube: CMA-ES (Hansen 2016), its learning rate adapted to noise if asked to."""

    def __init__(
        self, genome: Genome, start: Point, sigma: float, size: int, seed: int, lr_adapt: bool
    ) -> None:
        import numpy as np
        from cmaes import CMA

        self._genome = genome
        self._cma = CMA(
            mean=np.array([gene.unit_of(start[gene.name]) for gene in genome]),
            sigma=sigma,
            bounds=np.tile([0.0, 1.0], (len(genome), 1)),
            seed=seed,
            population_size=size,
            lr_adapt=lr_adapt,
        )
        self.size = size

    def draw(self) -> tuple[dict[str, Value], Any]:
        """A point inside the bounds: the library draws again, and in the end cuts."""
        sample = self._cma.ask()
        units = zip(self._genome, sample, strict=True)
        return {gene.name: gene.of_unit(float(unit)) for gene, unit in units}, sample

    def learn(self, samples: Sequence[Any], losses: Sequence[float | None]) -> None:
        """One generation. Only the order of losses counts, so they are given as places."""
        self._cma.tell(list(zip(samples, ranks(losses), strict=True)))

    def ended(self) -> bool:
        """The library's own tests but that on losses."""
        return bool(self._cma.should_stop())


class Mixed:
    """Genes of all kinds: CatCMA with margin (arXiv:2504.07884).

    Real genes and whole numbers share a normal distribution, in which no whole number becomes unreachable; each
    category has a distribution of its own over its choices, none of which dies out.
    """

    def __init__(self, genome: Genome, start: Point, sigma: float, size: int, seed: int) -> None:
        import numpy as np
        from cmaes import CatCMAwM

        self._reals = [gene for gene in genome if _way(gene) == "real"]
        self._ladders = [gene for gene in genome if _way(gene) == "ladder"]
        self._choices = [gene for gene in genome if _way(gene) == "choice"]
        mean = [gene.unit_of(start[gene.name]) for gene in self._reals]
        mean += [float(start[gene.name]) - gene.low for gene in self._ladders]
        widths = [1.0 for _ in self._reals] + [gene.size - 1 for gene in self._ladders]
        numbers = bool(mean)
        self._cma = CatCMAwM(
            x_space=[[0.0, 1.0] for _ in self._reals] or None,
            z_space=[[float(step) for step in range(int(gene.size))] for gene in self._ladders] or None,
            c_space=[int(gene.size) for gene in self._choices] or None,
            mean=np.array(mean) if numbers else None,
            sigma=1.0,
            cov=np.diag(np.square(np.array(widths) * sigma)) if numbers else None,
            cat_param=_shares(self._choices, start) if self._choices else None,
            population_size=size,
            seed=seed,
        )
        self._numbers = numbers
        self.size = size

    def draw(self) -> tuple[dict[str, Value], Any]:
        """A point, and the library's solution."""
        drawn = self._cma.ask()
        point: dict[str, Value] = {}
        if self._reals:
            point |= {
                gene.name: gene.of_unit(float(unit)) for gene, unit in zip(self._reals, drawn.x, strict=True)
            }
        if self._ladders:
            point |= {
                gene.name: int(gene.low + step) for gene, step in zip(self._ladders, drawn.z, strict=True)
            }
        if self._choices:
            point |= {
                gene.name: gene.of_unit((int(row.argmax()) + 0.5) / gene.size)
                for gene, row in zip(self._choices, drawn.c, strict=True)
            }
        return point, drawn

    def learn(self, samples: Sequence[Any], losses: Sequence[float | None]) -> None:
        """One generation. Losses are given as places: the library weighs its penalty for bounds by their spread."""
        self._cma.tell(list(zip(samples, ranks(losses), strict=True)))

    def ended(self) -> bool:
        """The library's own tests, which know numbers only."""
        return self._numbers and bool(self._cma.should_stop())


def _way(gene: Gene) -> str:
    """How the gene is searched: a whole number of two values is a choice, as the library advises."""
    if gene.kind == "category" or (gene.kind == "integer" and gene.size == 2):
        return "choice"
    return "ladder" if gene.kind == "integer" and gene.size <= LONGEST_LADDER else "real"


def _shares(choices: Sequence[Gene], start: Point) -> Any:
    """How likely each choice is at first: [genes, most choices].

    Where genes say where to begin, about two choices of a point are others; without that all are equally likely.
    """
    import numpy as np

    shares = np.zeros((len(choices), max(int(gene.size) for gene in choices)))
    for row, gene in zip(shares, choices, strict=True):
        count = int(gene.size)
        row[:count] = 1 / count
        if gene.start is not None:
            kept = max(1 / count, 0.5, 1 - 2 / len(choices))
            row[:count] = (1 - kept) / (count - 1)
            row[int(gene.unit_of(start[gene.name]) * count)] = kept
    return shares


@dataclass(frozen=True, slots=True)
class Drawn:
    """A proposal as its distribution remembers it."""

    run: int
    sample: Any


class CmaEs:
    """Generations drawn from one distribution, which is started anew, elsewhere and larger, when it has ended.

    A point that it never gave says where to begin, if it is the best of those told before the first question, and else
    teaches nothing: the distribution learns from its own samples. Asked for more than a generation, it draws on.
    """

    def __init__(self, problem: Problem) -> None:
        need("cma-es", "cmaes", "scipy", "threadpoolctl")
        self._genome = problem.genome
        self._free = varying(problem.genome)
        self._options = problem.options
        self._dice = random.Random(problem.seed)
        self._known: Known[Drawn] = Known(problem.genome)
        self._fixed = first_point(problem.genome)
        self._start: Point = self._fixed
        self._best: float | None = None
        self._run = 0
        self._generation = 0
        self._sampler: Sampler | None = None
        self._told: list[tuple[Any, float | None]] = []
        self._news = False
        self._flat = 0

    @property
    def batch(self) -> int:
        """The population."""
        return self._sampler.size if self._sampler else self._population()

    def ask(self, count: int) -> list[Proposal]:
        """``count`` samples; none where the whole space is known."""
        proposals: list[Proposal] = []
        if not self._free:
            return proposals
        with one_thread():
            while len(proposals) < count and not self._known.used_up:
                sampler = self._sampler = self._sampler or self._begin()
                point, sample = self._draw(sampler)
                self._news |= point not in self._known
                self._known.propose(point, Drawn(self._run, sample))
                proposals.append(
                    Proposal(point, how=f"run {self._run + 1}, generation {self._generation + 1}")
                )
        return proposals

    def tell(self, told: Sequence[Told]) -> None:
        """Learn, one generation at a time, in the order in which points are told."""
        for each in told:
            loss = loss_of(each)
            drawn = self._known.settle(each.point)
            if self._sampler is None:
                if loss is not None and (self._best is None or loss < self._best):
                    self._best, self._start = loss, each.point
            elif drawn is not None and drawn.run == self._run:
                self._told.append((drawn.sample, loss))
                if len(self._told) == self._sampler.size:
                    self._learn(self._sampler)

    def _draw(self, sampler: Sampler) -> tuple[dict[str, Value], Any]:
        """A sample, in a finite space a new one if a few draws find any: what is known is not worth a candidate."""
        for _ in range(1 if math.isinf(self._known.size) else TRIES):
            drawn, sample = sampler.draw()
            point = {**self._fixed, **drawn}
            if point not in self._known:
                break
        return point, sample

    def _learn(self, sampler: Sampler) -> None:
        samples, losses = zip(*self._told, strict=True)
        self._told.clear()
        if all(loss is None for loss in losses):
            # Nothing here works: a distribution that drifts at random would only find out again.
            self._restart()
            return
        with one_thread():
            sampler.learn(samples, losses)
            ended = sampler.ended()
        self._generation += 1
        self._flat = self._flat + 1 if len(set(losses)) == 1 else 0
        # A generation of nothing but known points, or several in which none was better than another, leads nowhere.
        if self._options["restarts"] != "none" and (ended or not self._news or self._flat >= 5):
            self._restart()
        self._news = False

    def _restart(self) -> None:
        self._run += 1
        self._generation = self._flat = 0
        self._sampler = None
        self._told.clear()

    def _begin(self) -> Sampler:
        start, sigma, size = self._start, float(self._options["sigma"]), self._population()
        if self._run:
            start = {gene.name: gene.of_unit(self._dice.random()) for gene in self._free}
            large = size * 2 ** ((self._run + 1) // 2 if self._options["restarts"] == "bipop" else self._run)
            if self._options["restarts"] == "bipop" and self._run % 2 == 0:
                # The small runs of BIPOP: some size between the first and half the largest, some narrower start.
                large = max(size, int(size * (large / size / 2) ** (self._dice.random() ** 2)))
                sigma *= 10 ** (-2 * self._dice.random())
            size = min(large, size * 16)
        seed = self._dice.getrandbits(31)
        if all(_way(gene) == "real" for gene in self._free):
            return Continuous(self._free, start, sigma, size, seed, bool(self._options["lr_adapt"]))
        return Mixed(self._free, start, sigma, size, seed)

    def _population(self) -> int:
        return max(4, int(self._options["population"]) or _generation(self._genome))


def _generation(genome: Genome) -> int:
    return 4 + math.floor(3 * math.log(max(1, len(varying(genome)))))


def _suits(genome: Genome, objectives: int) -> float:
    if any(gene.kind == "text" for gene in genome):
        return 0.0
    return 0.9 if any(gene.kind != "category" for gene in genome) else 0.7


OPTIMISERS.register(
    "cma-es",
    OptimiserKind(
        name="cma-es",
        summary="a normal distribution that learns step sizes and correlations; with margin for mixed spaces",
        reference="arXiv:1604.00772, arXiv:2304.03473 (learning rate), arXiv:2504.07884 (mixed)",
        make=CmaEs,
        why="it learns how numbers belong together, and noise troubles it least",
        suits=_suits,
        options={
            "sigma": Option(default=0.2, low=0.001, high=1.0, about="first step, as a share of each range"),
            "population": Option(
                default=0, low=0, high=10000, about="points of a generation, at least 4; 0: 4 + 3 ln(genes)"
            ),
            "lr_adapt": Option(
                default=False, about="smaller steps where losses are noisy (continuous spaces)"
            ),
            "restarts": Option(
                default="ipop",
                choices=("ipop", "bipop", "none"),
                about="how a run that ended begins anew: population doubled, or large and small in turn",
            ),
        },
    ),
)
