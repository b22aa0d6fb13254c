"""Merged tensors in memory are those that a merge writes, and their digests tell equal ones apart from others."""

from pathlib import Path

import numpy as np
import pytest

from alloyd.jobs import Finished, MergeSpec, PlanSpec
from alloyd_daemon import candidate
from alloyd_daemon.candidate import Candidate
from alloyd_daemon.engine.in_memory import population
from alloyd_daemon.job import Context
from alloyd_daemon.jobs.merge import run
from alloyd_daemon.settings import Settings
from checkpoint_factory import Model, read_checkpoint, write_family

RECIPE = """
merge_method: {method}
base_model: {base}
models:
  - {{model: {one}, parameters: {{weight: {weight}, density: {density}}}}}
  - {{model: {two}, parameters: {{weight: 0.5, density: 0.5}}}}
dtype: bfloat16
"""


@pytest.fixture
def family(tmp_path: Path) -> list[Path]:
    return write_family(tmp_path, Model(hidden=64, intermediate=128))


def recipe(family: list[Path], *, method: str = "ties", weight: float = 0.5, density: float = 0.4) -> str:
    base, one, two = family
    return RECIPE.format(method=method, base=base, one=one, two=two, weight=weight, density=density)


def of_text(text: str, home: Path, name: str = "it") -> Candidate:
    return candidate.from_recipe(PlanSpec(text, "/"), name=name, home=home, settings=Settings())


@pytest.mark.parametrize("reader", ["mmap", "pread"])
@pytest.mark.parametrize("method", ["ties", "dare_ties"])
def test_tensors_in_memory_are_those_that_a_merge_writes(
    tmp_path: Path, family: list[Path], method: str, reader: str
) -> None:
    text, out = recipe(family, method=method), tmp_path / "out"
    spec = MergeSpec(text, "/", str(out))
    reports = list(run(spec, Context(tmp_path / "home", Settings(), "merge-1")))
    assert isinstance(reports[-1], Finished)
    written = read_checkpoint(out)
    one = candidate.from_recipe(
        PlanSpec(text, "/", reader=reader), name="it", home=tmp_path, settings=Settings()
    )
    with population([one]) as together:
        weights = together.members[0]
        assert set(weights.names) == set(written)
        for name, merged in weights.each():
            assert merged.shape == written[name].shape
            assert merged.data.tobytes() == written[name].tobytes()
        some = weights.of(weights.names[:3])
        assert all(some[name].data.tobytes() == written[name].tobytes() for name in weights.names[:3])
        together.leave(weights.names)


def test_a_checkpoint_is_a_candidate_as_it_stands(tmp_path: Path, family: list[Path]) -> None:
    one = candidate.from_checkpoint(family[1], name="one", home=tmp_path, settings=Settings())
    assert one.folder == family[1]
    assert one.config["architectures"] == ["LlamaForCausalLM"]
    with population([one]) as together:
        for name, merged in together.members[0].each():
            assert merged.data.tobytes() == read_checkpoint(family[1])[name].tobytes()


def test_equal_digests_are_equal_tensors(tmp_path: Path, family: list[Path]) -> None:
    """Only the tensors that a filter changes have another digest, and another candidate's name changes none."""
    filtered = recipe(family).replace("weight: 0.5, density: 0.4", "density: 0.4, weight: [W]")
    both = "[{filter: mlp, value: 0.9}, {value: 0.5}]"
    first = of_text(filtered.replace("[W]", "0.5"), tmp_path)
    second = of_text(filtered.replace("[W]", both), tmp_path, "other")
    with population([first, second]) as together:
        one, two = together.members
        for name in one.names:
            same = one.of([name])[name].data.tobytes() == two.of([name])[name].data.tobytes()
            assert (one.digest(name) == two.digest(name)) == ("mlp" not in name)
            assert same == ("mlp" not in name)


def test_another_state_of_a_source_has_another_digest(tmp_path: Path, family: list[Path]) -> None:
    before = of_text(recipe(family), tmp_path)
    file = family[1] / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    after = of_text(recipe(family), tmp_path)
    with population([before]) as old, population([after]) as new:
        names = old.members[0].names
        assert all(old.members[0].digest(name) != new.members[0].digest(name) for name in names)


def test_candidates_share_the_readers_of_their_sources(tmp_path: Path, family: list[Path]) -> None:
    members = [of_text(recipe(family, weight=weight), tmp_path) for weight in (0.2, 0.4, 0.6)]
    with population(members) as together:
        inner = {id(reader.inner) for member in together.members for reader in member._readers}
        assert len(inner) == 3
        name = "model.layers.0.mlp.up_proj.weight"
        values = [member.of([name])[name] for member in together.members]
        assert len({value.data.tobytes() for value in values}) == 3
        assert all(value.data.ctypes.data % 4096 == 0 and value.data.dtype == np.uint8 for value in values)
