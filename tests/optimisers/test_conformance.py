"""Every registered optimiser keeps the promises of the door, whatever space it is given."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd_daemon.optimiser import OPTIMISERS, OptimiserKind, Proposal, Told
from alloyd_daemon.search.genome import Gene, Genome, check, first_point, of_units
from optimisers.ground import Loss, Run, anything, bits, problem_of, reals

MIXED: Genome = (
    Gene(name="weight", low=-1.0, high=2.0),
    Gene(name="density", low=0.01, high=1.0, log=True),
    Gene(name="scale", low=0.05, high=2.0, log=True, sign=True),
    Gene(name="rank", kind="integer", low=1, high=6),
    Gene(name="large", kind="integer", low=0, high=1_000_000),
    Gene(name="method", kind="category", choices=("ties", "linear", "dare_ties"), start="linear"),
    Gene(name="on", kind="category", choices=(False, True)),
    Gene(name="alone", kind="category", choices=(7,)),
)
GENOMES = {
    "reals": reals(3),
    "one": reals(1),
    "mixed": MIXED,
    "bits": bits(6),
    "whole": tuple(Gene(name=f"x{number}", kind="integer", low=-2, high=2) for number in range(3)),
    "tiny": bits(2),
}
KINDS = [kind for _, kind in OPTIMISERS.items()]


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> OptimiserKind:
    found: OptimiserKind = request.param
    return found


def _failing(every: int) -> Loss:
    """A loss that fails for every so-many-th point, by what the point reads like."""
    return lambda point: None if int(abs(anything(point)[0]) * 1000) % every == 0 else anything(point)


def _genomes(kind: OptimiserKind) -> dict[str, Genome]:
    """Those that the kind searches: its own alone, if it has one."""
    return {"own": ()} if kind.space else GENOMES


def _run(kind: OptimiserKind, genome: Genome, loss: Loss = anything, **settings: int) -> Run:
    settings.setdefault("seed", 3)
    return Run(kind, problem_of(kind, genome, **settings), loss)  # type: ignore[arg-type]


def _steps(run: Run, counts: tuple[int | None, ...]) -> None:
    for count in counts:
        for each in run.step(count):
            check(run.problem.genome, each.point)


def test_it_says_what_it_is(kind: OptimiserKind) -> None:
    assert kind.name in OPTIMISERS.names()
    assert kind.summary
    assert kind.reference
    assert kind.why
    assert kind.why[0].islower()
    assert not kind.why.endswith(".")
    for option in kind.options.values():
        assert option.about
        assert not option.choices or option.default in option.choices


def test_the_same_seed_asks_the_same(kind: OptimiserKind) -> None:
    for genome in _genomes(kind).values():
        one, other = _run(kind, genome), _run(kind, genome)
        for run in (one, other):
            _steps(run, (None, 5, 1, None))
        assert one.asked == other.asked


def test_another_seed_asks_otherwise(kind: OptimiserKind) -> None:
    one, other = _run(kind, MIXED), _run(kind, MIXED, seed=4)
    for run in (one, other):
        _steps(run, (8, 8))
    # What follows from the models alone, as a greedy order does, needs no seed.
    if not kind.space:
        assert one.asked != other.asked


@pytest.mark.parametrize("batch", [1, 3])
def test_the_next_seed_begins_with_points_of_its_own(kind: OptimiserKind, batch: int) -> None:
    """Five seeds that share their first points are not five searches."""
    if kind.space:
        return
    first = [_begun(kind, seed, batch) for seed in (3, 4)]
    assert len(first[0] & first[1]) <= 1, "where the search begins is the same"


@pytest.mark.parametrize("batch", [1, 3])
def test_a_latin_hypercube_is_one_however_few_are_asked_for(batch: int) -> None:
    for name, size in (("bayes", 10), ("nsga2", 20)):
        kind = OPTIMISERS.get(name)
        run = _run(kind, reals(2))
        asked: list[Proposal] = []
        while len(asked) < size - 1:
            proposals = run.again().ask(min(batch, size - 1 - len(asked)))
            asked += proposals
            run.asked.append(proposals)
            run.told.append([run.outcome(each.point) for each in proposals])
        for gene in run.problem.genome:
            strata = [int(size * gene.unit_of(each.point[gene.name])) for each in asked[1:]]
            assert len(set(strata)) == size - 2


def _begun(kind: OptimiserKind, seed: int, batch: int) -> set[str]:
    """The first points of a run that is made anew at each ask, if it is one that can be."""
    run = _run(kind, reals(3), seed=seed)
    for _ in range(9 // batch):
        proposals = (run.again() if kind.replay == "history" else run.optimiser).ask(batch)
        told = [run.outcome(each.point) for each in proposals]
        run.asked.append(proposals)
        run.told.append(told)
        run.optimiser.tell(told)
    return {repr(each.point) for asked in run.asked for each in asked}


def test_global_random_state_is_left_alone(kind: OptimiserKind) -> None:
    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), repr(np.random.get_state())
    for genome in _genomes(kind).values():
        _steps(_run(kind, genome), (12, 3, None))
    assert (random.getstate(), repr(np.random.get_state())) == before


@pytest.mark.parametrize("loss", [anything, _failing(2)], ids=["good", "failing"])
def test_what_is_rebuilt_after_a_stop_asks_the_same(kind: OptimiserKind, loss: Loss) -> None:
    for genome in _genomes(kind).values():
        run = _run(kind, genome, loss)
        _steps(run, (None, 3, None, 7))
        assert run.again().ask(4) == run.optimiser.ask(4)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_failed_points_are_no_end(kind: OptimiserKind, every: int) -> None:
    for genome in _genomes(kind).values():
        _steps(_run(kind, genome, _failing(every)), (None, None, 5, None))


def test_losses_that_are_no_number_count_as_failed(kind: OptimiserKind) -> None:
    strange = iter([float("nan"), float("inf"), 1.0, float("-inf")] * 100)
    for genome in _genomes(kind).values():
        _steps(_run(kind, genome, lambda point: (next(strange),)), (None, 6, 6, 6))


def test_losses_may_be_equal_and_huge(kind: OptimiserKind) -> None:
    for genome in _genomes(kind).values():
        _steps(_run(kind, genome, lambda point: (0.5,)), (None, None, None))
        _steps(_run(kind, genome, lambda point: (1e300 * anything(point)[0] / 1e9,)), (None, None, None))


def test_it_takes_points_that_it_never_gave(kind: OptimiserKind) -> None:
    for genome in _genomes(kind).values():
        run = _run(kind, genome)
        strangers = [first_point(run.problem.genome)]
        if not kind.space:
            dice = random.Random(1)
            strangers += [of_units(genome, [dice.random() for _ in genome]) for _ in range(6)]
        run.optimiser.tell([run.outcome(point) for point in strangers])
        _steps(run, (None, 4))
        # Twins, and the same point with other luck.
        run.optimiser.tell([Told(90, strangers[0], (1.0,)), Told(91, strangers[0], None)])
        run.optimiser.tell([Told(92, each.point, (2.0,)) for each in run.asked[0][:2]])
        _steps(run, (None, 4))


def test_it_may_be_asked_for_more_before_all_is_told(kind: OptimiserKind) -> None:
    for genome in _genomes(kind).values():
        run = _run(kind, genome)
        first = run.optimiser.ask(3)
        second = run.optimiser.ask(2 * run.optimiser.batch + 1)
        for each in (*first, *second):
            check(run.problem.genome, each.point)
        for each in reversed((*first, *second)):
            run.optimiser.tell([run.outcome(each.point)])
        _steps(run, (3, None))


def test_one_at_a_time_and_odd_batches(kind: OptimiserKind) -> None:
    for genome in _genomes(kind).values():
        run = _run(kind, genome, batch=3)
        assert run.optimiser.batch >= 1
        _steps(run, (1,) * 6 + (3, 5, 7))
        for asked, wanted in zip(run.asked, (1,) * 6 + (3, 5, 7), strict=True):
            assert len(asked) <= wanted


def test_nothing_asked_is_nothing_given(kind: OptimiserKind) -> None:
    for genome in _genomes(kind).values():
        run = _run(kind, genome)
        assert run.optimiser.ask(0) == []
        run.optimiser.tell([])
        _steps(run, (2,))


def test_parents_are_trials_that_were_told(kind: OptimiserKind) -> None:
    for genome in _genomes(kind).values():
        run = _run(kind, genome)
        for _ in range(6):
            told = {each.trial for some in run.told for each in some}
            for proposal in run.step():
                assert set(proposal.parents) <= told


def test_a_space_that_is_used_up_ends_the_search(kind: OptimiserKind) -> None:
    if kind.space:
        run = _run(kind, ())
        # Its own space ends it or does not; what it asks for stays inside.
        _steps(run, (None,) * 10)
        return
    run = _run(kind, GENOMES["tiny"])
    for _ in range(60):
        if not run.step(3):
            break
    assert run.asked[-1] == []
    assert len({tuple(each.point.values()) for asked in run.asked for each in asked}) == 4


def test_two_hundred_bits(kind: OptimiserKind) -> None:
    run = _run(kind, bits(200))
    _steps(run, (12, 2))


@pytest.mark.parametrize("more", [(), reals(1)], ids=["bits", "and a real"])
def test_more_points_than_a_float_can_count(kind: OptimiserKind, more: Genome) -> None:
    """A path over 40 models of 32 layers has 1,280 indicators."""
    layers = tuple(Gene(name=f"take {each}", kind="integer", low=0, high=1) for each in range(1280))
    _steps(_run(kind, layers + more), (4, 2))


def test_several_objectives(kind: OptimiserKind) -> None:
    if not kind.several:
        # The search refuses before it makes one; see test_choose.py.
        assert kind.replay in ("steps", "history")
        return
    problem = problem_of(kind, MIXED, objectives=2)
    run = Run(kind, problem, lambda point: (anything(point)[0], -anything(point)[0]))
    _steps(run, (None, None, 5, None))
    assert run.again().ask(4) == run.optimiser.ask(4)


def _genes() -> st.SearchStrategy[Genome]:
    low = st.floats(-10, 10).map(lambda number: round(number, 3))
    width = st.floats(0.1, 100).map(lambda number: round(number, 3))
    real = st.builds(lambda low, width: {"low": low, "high": low + width}, low, width)
    log = st.builds(
        lambda low, ratio, sign: {"low": low, "high": low * ratio, "log": True, "sign": sign},
        st.floats(1e-6, 10),
        st.floats(1.5, 1e6),
        st.booleans(),
    )
    sign = st.builds(lambda width: {"low": 0.0, "high": width, "sign": True}, width)
    whole = st.builds(
        lambda low, width: {"kind": "integer", "low": low, "high": low + width},
        st.integers(-5, 5),
        st.integers(1, 200),
    )
    choices = st.lists(
        st.one_of(st.booleans(), st.integers(-3, 3), st.sampled_from(["ties", "linear", ""])),
        min_size=1,
        max_size=4,
        unique_by=repr,
    )
    category = st.builds(lambda choices: {"kind": "category", "choices": tuple(choices)}, choices)
    gene = st.one_of(real, log, sign, whole, category)
    return st.lists(gene, min_size=1, max_size=5).map(
        lambda each: tuple(Gene(name=f"g{number}", **one) for number, one in enumerate(each))
    )


@pytest.mark.parametrize("name", [kind.name for kind in KINDS if not kind.space])
@settings(max_examples=12)
@given(
    genome=_genes(), seed=st.integers(0, 2**31), counts=st.lists(st.integers(1, 9), min_size=1, max_size=4)
)
def test_any_genome(name: str, genome: Genome, seed: int, counts: list[int]) -> None:
    kind = OPTIMISERS.get(name)
    run = Run(kind, replace(problem_of(kind, genome), seed=seed), _failing(5))
    _steps(run, tuple(counts))
    assert run.again().ask(2) == run.optimiser.ask(2)
