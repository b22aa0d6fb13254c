"""What pruning does outside of the home: weights that can be made again, and what unfinished merges staged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alloyd.errors import AlloydError
from alloyd.jobs import Finished, JobState, KinshipSpec, MergeSpec, RebuildSpec, Spec
from alloyd.paths import Home
from alloyd_daemon.checkpoints import staging
from alloyd_daemon.checkpoints.manifest import MANIFEST
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.service.store import Store
from alloyd_daemon.service.store_prune import Rule
from alloyd_daemon.settings import ModelSettings, Settings
from alloyd_daemon.space.clear import Sweep
from alloyd_daemon.space.orders import Clear, Cleared, Weigh, Weighed
from alloyd_daemon.space.weighing import weigh
from checkpoint_factory import Model, write_family


class House:
    """A home whose jobs are run here and now."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = Home(root / "home")
        self.home.create()
        self.store = Store(self.home.store)
        self.settings = Settings(models=ModelSettings(roots=(str(root / "roots"),)))
        self.models = write_family(root / "models", Model(dtype="F32"), tunes=2)
        for each in self.models:  # made long ago
            for file in each.iterdir():
                os.utime(file, (10**9, 10**9))

    def run(self, spec: Spec) -> str:
        """A job of ``spec`` that has ended; its id."""
        job = self.store.submit(spec, os.urandom(8).hex(), at_most=99).id
        self.store.move(job, JobState.RUNNING)
        kind = JOBS.get(job.rpartition("-")[0])
        try:
            *_, last = kind.run(spec, Context(self.home.root, self.settings, job))
        except AlloydError as error:
            self.store.move(job, JobState.FAILED, error=error)
        else:
            assert isinstance(last, Finished)
            self.store.move(job, JobState.DONE, result=last.result)
        return job

    def merge(self, out: str, *models: object, **options: object) -> str:
        """A merge of ``models``, by default of the family's tunes."""
        return self.run(self.spec(out, *models, **options))

    def spec(self, out: str, *models: object, **options: object) -> MergeSpec:
        names = [str(each) for each in models or self.models[1:]]
        recipe = {
            "merge_method": "linear",
            "models": [{"model": each, "parameters": {"weight": 1}} for each in names],
        }
        return MergeSpec(json.dumps(recipe), str(self.root), str(self.root / out), **options)  # type: ignore[arg-type]

    def weigh(self, **how: object) -> Weighed:
        """What pruning all ended jobs would do."""
        going = tuple(self.store.pruning.ended(Rule()))
        order = Weigh(going, **{"outputs": True, **how})  # type: ignore[arg-type]
        return weigh(order, self.home, self.settings)

    def prune(self, **how: object) -> Cleared:
        """Prune all ended jobs."""
        self.store.pruning.forget(self.weigh(**how).removals, reason="test")
        return self.clear()

    def clear(self) -> Cleared:
        """Remove what is to be removed."""
        cleared = Sweep(self.home).run(Clear())
        self.store.pruning.removed(cleared.numbers)
        return cleared

    def why(self, out: str, **how: object) -> str:
        """Why the weights at ``out`` would stay; empty if they would not."""
        found = self.weigh(**how)
        place = str(self.root / out)
        if place in {each.path for each in found.outputs}:
            return ""
        return next((each.note for each in found.kept if each.path == place), "not seen")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    one = House(tmp_path)
    yield one
    one.store.close()


def digests(folder: Path) -> dict[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in sorted(folder.iterdir())}


@pytest.mark.parametrize("shard_size", [5_000_000_000, 30_000])
def test_weights_go_and_a_rebuild_brings_the_same_bytes(house: House, shard_size: int) -> None:
    job = house.merge("out", shard_size=shard_size)
    before = digests(house.root / "out")
    weights = [name for name in before if name.endswith(".safetensors")]
    assert house.why("out") == ""
    found = house.weigh()
    assert [(each.path, each.job) for each in found.outputs] == [(str(house.root / "out"), job)]
    assert found.parts["outputs"].files == len(weights)
    assert house.prune().parts["outputs"] == found.parts["outputs"]
    after = digests(house.root / "out")
    assert after == {name: digest for name, digest in before.items() if name not in weights}
    again = house.run(RebuildSpec(str(house.root / "out"), str(house.root / "out"), str(house.root)))
    assert house.store.job(again).state is JobState.DONE
    assert digests(house.root / "out") == before


def test_without_being_asked_outputs_stay(house: House) -> None:
    house.merge("out")
    before = digests(house.root / "out")
    found = house.weigh(outputs=False)
    assert (found.outputs, found.kept) == ((), ())
    house.prune(outputs=False)
    assert digests(house.root / "out") == before


def edit(house: House) -> None:
    (house.root / "out" / "config.json").write_text("{}")


def add(house: House) -> None:
    (house.root / "out" / "notes.txt").write_text("mine")


def train(house: House) -> None:
    weights = house.root / "out" / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def replace(house: House) -> None:
    shutil.rmtree(house.root / "out")
    shutil.copytree(house.models[1], house.root / "out")


def unmark(house: House) -> None:
    os.removexattr(house.root / "out", staging.MARK)


def lose_a_source(house: House) -> None:
    (house.models[1] / "model.safetensors").unlink()


def lose_a_model(house: House) -> None:
    shutil.rmtree(house.models[2])


def touch_a_source(house: House) -> None:
    os.utime(house.models[1] / "model.safetensors")


def swap_a_source(house: House) -> None:
    file = house.models[1] / "model.safetensors"
    shutil.copy2(file, file.with_suffix(".new"))
    os.utime(file.with_suffix(".new"), (10**9, 10**9))
    os.replace(file.with_suffix(".new"), file)


def damage_the_manifest(house: House) -> None:
    (house.root / "out" / MANIFEST).write_text("{")


def lose_the_manifest(house: House) -> None:
    (house.root / "out" / MANIFEST).unlink()


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (edit, "not as alloyd published it"),
        (add, "not as alloyd published it"),
        (train, "not as alloyd published it"),
        (replace, "no manifest"),
        (unmark, "its file system cannot tell"),
        (lose_a_source, "is not there"),
        (lose_a_model, "is not there"),
        (touch_a_source, "was changed since"),
        (swap_a_source, "was changed since"),
        (damage_the_manifest, "damaged"),
        (lose_the_manifest, "no manifest"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_weights_stay_that_may_not_come_back(
    house: House, happens: Callable[[House], None], why: str
) -> None:
    house.merge("out")
    happens(house)
    left = digests(house.root / "out")
    assert why in house.why("out")
    house.prune()
    assert digests(house.root / "out") == left


def test_what_something_is_made_from_stays(house: House) -> None:
    house.merge("out")
    (house.root / "roots").mkdir()
    (house.root / "roots" / "known").symlink_to(house.root / "out")
    linked = house.root / "linked"
    linked.mkdir()
    shutil.copy(house.root / "out" / "config.json", linked)
    (linked / "model.safetensors").symlink_to(house.root / "out" / "model.safetensors")
    assert house.why("out") == ""
    # By its path, by a relative one, by a name below models.roots, and by a link to its weights.
    for number, name in enumerate((house.root / "out", "./out", "known", linked)):
        job = house.store.submit(
            house.spec(f"next-{number}", name, house.models[1]), f"{number}", at_most=9
        ).id
        assert house.why("out") == f"{job} is made from it"
        house.store.move(job, JobState.CANCELLED)
        assert house.why("out") == f"{job} is made from it"  # it may be tried again
        house.store.pruning.forget(
            [each for each in house.weigh(outputs=False).removals if each.job == job], reason="test"
        )
        assert house.why("out") == ""
    house.store.submit(KinshipSpec("base", (str(house.root / "out"),)), "k", at_most=9)
    assert "is made from it" in house.why("out")


def test_of_a_chain_only_the_end_goes(house: House) -> None:
    house.merge("first")
    for file in (house.root / "first").iterdir():
        os.utime(file)  # the mark no longer fits, and the second was made from it
    second = house.merge("second", house.root / "first", house.models[1])
    assert house.store.job(second).state is JobState.DONE
    assert house.why("second") == ""
    assert house.why("first") != ""
    house.merge("third")
    house.merge("fourth", house.root / "third", house.models[1])
    assert "merge-4 is made from it" in house.why("third")
    assert house.why("fourth") == ""


def test_an_output_of_two_jobs_or_in_a_watched_folder_stays(house: House) -> None:
    house.merge("out")
    assert house.why("out", shielded=(str(house.root),)) == f"a watched folder needs {house.root}"
    assert house.why("out", shielded=(str(house.root / "other"),)) == ""
    assert (
        house.why("out", roots=(str(house.root / "models"),))
        == "it lies outside of the folders that are open"
    )
    assert house.why("out", roots=(str(house.root),)) == ""
    again = house.run(RebuildSpec(str(house.root / "out"), str(house.root / "out"), str(house.root)))
    found = weigh(Weigh((1,), outputs=True), house.home, house.settings)
    assert [each.note for each in found.kept] == [f"it is that of {again} too"]


def test_weights_that_came_after_the_decision_stay(house: House) -> None:
    house.merge("out", shard_size=30_000)
    before = digests(house.root / "out")
    house.store.pruning.forget(house.weigh().removals, reason="test")
    # Killed before anything was removed; meanwhile somebody rebuilt, or put something else there.
    shards = sorted((house.root / "out").glob("*.safetensors"))
    shards[0].unlink()
    house.run(RebuildSpec(str(house.root / "out"), str(house.root / "out"), str(house.root)))
    assert digests(house.root / "out") == before
    house.clear()
    assert digests(house.root / "out") == before
    assert not house.store.pruning.has_removals()


def stage(house: House, out: str) -> Path:
    """What a merge into ``out`` that was stopped leaves."""
    place = staging.Place.of(house.root / out)
    lock = staging.acquire(place)
    os.close(lock)
    (place.staging / "model.safetensors").write_bytes(b"x" * 100_000)
    return place.staging


def test_what_a_failed_merge_staged_goes_with_it(house: House) -> None:
    job = house.merge("out", "missing", house.models[1])
    assert house.store.job(job).state is JobState.FAILED
    left = stage(house, "out")
    parts = house.root / "out.parts"
    parts.mkdir()
    found = house.weigh()
    assert [(each.path, each.job, each.note) for each in found.staged] == [(str(left), job, "failed")]
    assert found.parts["staged"].apparent >= 100_000
    house.prune()
    assert not left.exists()
    assert parts.exists()


def test_staging_that_another_job_goes_on_with_stays(house: House) -> None:
    first = house.merge("out", "missing", house.models[1])
    second = house.store.submit(house.spec("out"), "t", at_most=9).id
    left = stage(house, "out")
    assert house.weigh().staged == ()
    house.store.move(second, JobState.PAUSED)
    house.prune()
    assert left.exists()
    assert [each.id for each in house.store.jobs()] == [second]
    assert first == "merge-1"


def test_staging_of_a_job_that_came_after_the_decision_stays(house: House) -> None:
    house.merge("out", "missing", house.models[1])
    left = stage(house, "out")
    house.store.pruning.forget(house.weigh().removals, reason="test")
    house.store.submit(house.spec("out"), "t", at_most=9)
    house.clear()
    assert left.exists()
    assert not house.store.pruning.has_removals()


def test_staging_that_is_locked_is_left_until_it_is_not(house: House) -> None:
    house.merge("out", "missing", house.models[1])
    left = stage(house, "out")
    house.store.pruning.forget(house.weigh().removals, reason="test")
    place = staging.Place.of(house.root / "out")
    lock = staging.acquire(place)
    cleared = house.clear()
    assert ["another process is writing" in each.note for each in cleared.left] == [True]
    assert left.exists()
    os.close(lock)
    house.clear()
    assert not left.exists()
    assert not house.store.pruning.has_removals()


def test_staging_outside_of_what_is_open_stays(house: House) -> None:
    house.merge("out", "missing", house.models[1])
    left = stage(house, "out")
    assert "outside" in house.weigh(roots=(str(house.root / "models"),)).kept[0].note
    house.prune(roots=(str(house.root / "models"),))
    assert left.exists()
