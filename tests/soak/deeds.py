"""What an order of the soak asks of the service, how it disturbs that, and what must have become of it.

A deed is named by its function. It raises AssertionError where the service did anything else.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from alloyd import Client
from alloyd.errors import AlloydError, DaemonUnreachable, DependencyFailed, JobError, ServiceError
from alloyd.jobs import Job, JobState, PlanSpec, Spec, VerifySpec

from . import bench, trials
from .bench import DAMAGES, FLIPPED, Bench, digests

T = TypeVar("T")

LONGEST: Final = 300.0
"""Seconds within which anything must have come to its end, however often it was killed."""


class Desk:
    """What a deed works with: its client, its chance, and a bench. ``ended`` tells each job's end to the report."""

    def __init__(
        self,
        client: Client,
        folder: Path,
        order: Mapping[str, Any],
        wanted: Mapping[str, Any],
        chance: random.Random,
        troubles: Counter[str],
    ) -> None:
        self.client = client
        self.chance = chance
        self.wanted = wanted
        self.folder = folder
        self.number = order["number"]
        self.recipe = order["recipe"]
        self.ended: dict[str, list[str]] = {}
        self._troubles = troubles

    def bench(self, name: str = "") -> Bench:
        place = self.folder / "work" / f"{self.number}{name}"
        return Bench.make(place, self.recipe, self.folder / "models")

    def sure(self, ask: Callable[[], T]) -> T:
        """Ask again while the daemon is gone or stops; what it answers stands."""
        deadline = time.monotonic() + LONGEST
        while True:
            try:
                return ask()
            except ServiceError as wrong:
                passes = isinstance(wrong, DaemonUnreachable) or "is stopping" in wrong.message
                if not passes or time.monotonic() > deadline:
                    raise
                self._troubles[f"{wrong.code}: {wrong.message}"] += 1
                time.sleep(0.2)

    def submit(self, spec: Spec, name: str = "", **how: Any) -> str:
        """Submit under a key of this order's own, so that asking again is the same job; its id."""
        key = f"order-{self.number}{name}"
        return self.sure(lambda: self.client.submit(spec, key=key, **how)).id

    def merge(self, place: Bench, name: str = "", *, force: bool = False, **how: Any) -> str:
        return self.submit(place.spec(force=force), name, **how)

    def job(self, name: str) -> Job:
        return self.sure(lambda: self.client.job(name))

    def until(self, name: str, *states: JobState) -> Job:
        """The job once it is in one of ``states``, or has ended."""
        deadline = time.monotonic() + LONGEST
        while True:
            job = self.job(name)
            if job.state in states or job.state.ended:
                return job
            assert time.monotonic() < deadline, f"{name} is still {job.state.value}: {job.reason}"
            time.sleep(0.05)

    def nap(self, longest: float) -> None:
        time.sleep(self.chance.uniform(0, longest))

    def begun(self, name: str) -> None:
        """Some moment of the job's life: mostly one at which it runs."""
        if self.chance.random() < 0.8:
            self.until(name, JobState.RUNNING)
        self.nap(0.8)

    def order(self, do: Callable[[str], object], name: str) -> bool:
        """Give an order to a job; whether it was not too late for that."""
        try:
            self.sure(lambda: do(name))
        except JobError:
            return False
        return True

    def wait(self, name: str) -> Job:
        """The job at its end, as ``wait`` itself tells it."""
        deadline = time.monotonic() + LONGEST
        while True:
            error = None
            try:
                self.sure(lambda: self.client.wait(name, timeout=LONGEST))
            except AlloydError as wrong:
                error = wrong
            job = self.job(name)
            if job.state.ended or time.monotonic() > deadline:
                break
            self._troubles["a wait ended before its job"] += 1
        assert job.state.ended, f"{name} is still {job.state.value}: {job.reason}"
        code = (job.error or {}).get("code", "")
        assert code == ("" if error is None else error.code), f"wait says {error}, the job {job.error}"
        self.ended[name] = [job.state.value, code]
        return job

    def ends(
        self,
        name: str,
        place: Bench,
        *,
        done: bool = True,
        codes: tuple[str, ...] = (),
        flipped: bool = False,
    ) -> Job:
        """Wait for a merge. Done it may be if ``done``, and then has the undisturbed bytes and no more than those."""
        job = self.wait(name)
        code = (job.error or {}).get("code", "")
        if job.state is JobState.DONE:
            assert done, f"{name} is done, where it had to fail with {codes}"
            self.right(place, flipped=flipped)
            assert not place.staging.exists(), f"{name} is done and left {place.staging}"
        else:
            assert code in codes, f"{name} failed with {code}, not {codes or 'at all'}: {job.error}"
        return job

    def right(self, place: Bench, *, flipped: bool = False) -> None:
        """The output is what it is without any disturbance, byte by byte."""
        found = digests(place.out)
        names = [self.recipe] + [self.recipe + FLIPPED] * flipped
        assert found in [self.wanted[name] for name in names], f"{place.out} differs: {found}"


def plain(desk: Desk) -> None:
    place = desk.bench()
    desk.ends(desk.merge(place), place)
    shutil.rmtree(place.folder)


def planned(desk: Desk) -> None:
    place = desk.bench()
    job = desk.wait(desk.submit(PlanSpec(place.file.read_text(), str(place.folder))))
    assert job.state is JobState.DONE
    assert not place.out.exists()


def verified(desk: Desk) -> None:
    job = desk.wait(desk.submit(VerifySpec(str(desk.folder / "wanted" / desk.recipe))))
    assert job.state is JobState.DONE
    assert job.result is not None
    assert job.result["manifest"]


def rotten(desk: Desk) -> None:
    """A merged model that was damaged is verified."""
    place = desk.bench()
    shutil.copytree(desk.folder / "wanted" / desk.recipe, place.out)
    code = bench.damage_output(place.out, desk.chance)
    job = desk.wait(desk.submit(VerifySpec(str(place.out))))
    assert (job.error or {}).get("code") == code, job.error or job.result
    shutil.rmtree(place.folder)


def taken(desk: Desk) -> None:
    """Something else is where the output goes."""
    place = desk.bench()
    place.out.mkdir()
    (place.out / "config.json").write_text("{}")
    desk.ends(desk.merge(place), place, done=False, codes=("E_OUTPUT_EXISTS",))
    assert digests(place.out).keys() == {"config.json"}


def forced(desk: Desk) -> None:
    """An older model is there, and may be replaced."""
    place = desk.bench()
    shutil.copytree(desk.folder / "wanted" / desk.recipe, place.out)
    bench.flip(place.out)
    desk.ends(desk.merge(place, force=True), place)
    shutil.rmtree(place.folder)


def broken(desk: Desk) -> None:
    """A source is unusable from the beginning."""
    place = desk.bench()
    damage, code = desk.chance.choice(list(DAMAGES.items()))
    damage(place.own())
    desk.ends(desk.merge(place), place, done=False, codes=(code,))
    assert not place.out.exists()
    assert not place.staging.exists()


def mended(desk: Desk) -> None:
    """A source is unusable, then repaired, and the job is retried."""
    place = desk.bench()
    damage, code = desk.chance.choice(list(DAMAGES.items()))
    damage(place.own())
    name = desk.merge(place)
    desk.ends(name, place, done=False, codes=(code,))
    place.mend()
    desk.order(desk.client.retry, name)
    desk.ends(name, place)
    shutil.rmtree(place.folder)


def struck(desk: Desk) -> None:
    """A source is damaged at any moment of the merge; it fails by that, or was quicker."""
    place = desk.bench()
    model = place.own()
    name = desk.merge(place)
    desk.begun(name)
    damage = desk.chance.choice([bench.flip, *DAMAGES])
    damage(model)
    codes = ("E_SOURCE_CHANGED", *(() if damage is bench.flip else (DAMAGES[damage],)))
    job = desk.ends(name, place, codes=codes, flipped=damage is bench.flip)
    assert job.state is JobState.DONE or not place.out.exists()


def paused(desk: Desk) -> None:
    """Paused at any moment; meanwhile what it has staged may rot, or go."""
    place = desk.bench()
    name = desk.merge(place)
    for _ in range(desk.chance.choice((1, 1, 2))):
        desk.begun(name)
        if desk.order(desk.client.pause, name):
            job = desk.until(name, JobState.PAUSED)
            if job.state is JobState.PAUSED:
                bench.meddle(
                    place.staging, desk.chance.choice((bench.leave, bench.delete, bench.rot)), desk.chance
                )
            desk.order(desk.client.resume, name)
    desk.ends(name, place)
    shutil.rmtree(place.folder)


def emptied(desk: Desk) -> None:
    """What it stages is deleted under its hands; it says so, and does it again when asked."""
    place = desk.bench()
    name = desk.merge(place)
    desk.begun(name)
    bench.delete(place.staging, desk.chance)
    job = desk.ends(name, place, codes=("E_OUTPUT",))
    if job.state is JobState.FAILED:
        assert not place.out.exists()
        desk.order(desk.client.retry, name)
        desk.ends(name, place)
    shutil.rmtree(place.folder)


def cancelled(desk: Desk) -> None:
    """Cancelled at any moment: nothing is left, or it was done already, and then whole."""
    place = desk.bench()
    name = desk.merge(place)
    desk.begun(name)
    desk.order(desk.client.cancel, name)
    desk.ends(name, place, codes=("E_CANCELLED",))
    if place.out.exists():  # it was published in the moment in which it was cancelled
        desk.right(place)
    deadline = time.monotonic() + LONGEST
    while place.staging.exists():
        assert time.monotonic() < deadline, f"{name} was cancelled and left {place.staging}"
        time.sleep(0.1)
    shutil.rmtree(place.folder)


def twice(desk: Desk) -> None:
    """The same key is the same job, before and after its end."""
    place = desk.bench()
    name = desk.merge(place)
    assert desk.merge(place) == name
    desk.ends(name, place)
    assert desk.merge(place) == name
    shutil.rmtree(place.folder)


def followed(desk: Desk) -> None:
    """A job that comes after another one ends well only if that does."""
    first, second = desk.bench(), desk.bench("-after")
    well = desk.chance.random() < 0.6
    if not well:
        bench.shorten(first.own())
    name, after = desk.merge(first), ""
    try:
        after = desk.merge(second, "-after", after=[name])
    except DependencyFailed:  # the first one has failed already
        well = False
    desk.ends(name, first, done=well, codes=() if well else ("E_HEADER",))
    if after:
        desk.ends(after, second, done=well, codes=() if well else ("E_DEPENDENCY",))


def scored(desk: Desk) -> None:
    """A model gets the scores that it gets undisturbed."""
    job = desk.wait(desk.submit(trials.score(desk.folder)))
    assert job.state is JobState.DONE, job.error
    assert trials.told_by_score(job) == desk.wanted["score"]


def searched(desk: Desk) -> None:
    """A recipe search takes the way, and finds the winner, that it does undisturbed."""
    job = desk.wait(desk.submit(trials.search(desk.folder)))
    assert job.state is JobState.DONE, job.error
    assert trials.told_by_search(desk.client, job) == desk.wanted["search"]


DEEDS: Final[dict[str, Callable[[Desk], None]]] = {
    deed.__name__: deed
    for deed in (
        plain, planned, verified, rotten, taken, forced, broken, mended, struck, paused, emptied, cancelled, twice,
        followed, scored, searched,
    )
}  # fmt: skip
