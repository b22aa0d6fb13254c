"""The file that becomes one candidate after another is, byte for byte, the file that each would get by itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from alloyd.errors import DiskFull, SourceError
from alloyd.jobs import PlanSpec
from alloyd_daemon.candidate import Candidate, from_checkpoint, from_recipe
from alloyd_daemon.engine.in_memory import population
from alloyd_daemon.gguf.layout import GgufLayout, describe
from alloyd_daemon.llama.image import Image
from alloyd_daemon.settings import Settings
from checkpoint_factory import read_checkpoint, write_weights
from extras import need
from llama.conftest import ZOO

need("gguf", "llama_cpp", "gguf")


def _layout(candidate: Candidate, kind: str) -> GgufLayout:
    tensors = [(each.name, each.dtype, each.shape) for each in candidate.prepared.plan.tensors]
    return describe(tensors, candidate.config, candidate.folder, kind, filename=candidate.name)


def _bytes(image: Image) -> bytes:
    data = os.pread(image.handle, image.layout.size + 1, 0)
    assert len(data) == image.layout.size
    return data


def _become(image: Image, candidates: Sequence[Candidate]) -> list[tuple[int, bytes]]:
    """Bytes merged for each of ``candidates`` in turn, and the file then."""
    found = []
    with population(candidates) as sources:
        for weights in sources.members:
            steps = image.become(weights)
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    found.append((end.value, _bytes(image)))
                    break
    return found


def _fresh(candidate: Candidate, kind: str, folder: Path, *, in_memory: bool = True) -> bytes:
    with Image(_layout(candidate, kind), folder, in_memory=in_memory) as image:
        return _become(image, [candidate])[0][1]


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_K_M"])
def test_there_and_back_it_is_the_file_that_each_gets_by_itself(
    kind: str, mixture: Callable[[float], Candidate], tmp_path: Path
) -> None:
    one, two, three = mixture(0.25), mixture(0.5), mixture(1.0)
    with Image(_layout(one, kind), tmp_path, in_memory=True) as image:
        found = _become(image, [one, two, three, two, one, one])
    expected = {each.name: _fresh(each, kind, tmp_path) for each in (one, two, three)}
    assert len(set(expected.values())) == 3
    for each, (_, data) in zip((one, two, three, two, one, one), found, strict=True):
        assert data == expected[each.name]
    assert [size > 0 for size, _ in found] == [True] * 5 + [False]


def test_only_tensors_that_differ_are_merged(tmp_path: Path) -> None:
    def candidate(weight: float) -> Candidate:
        weights = {"parameters": {"weight": [{"filter": "down_proj", "value": weight}, {"value": 0.5}]}}
        models = [{"model": str(ZOO / "math")} | weights, {"model": str(ZOO / "base")} | weights]
        recipe = {"merge_method": "linear", "models": models, "parameters": {"normalize": False}}
        spec = PlanSpec(recipe=json.dumps(recipe), base_dir="/")
        return from_recipe(spec, name=str(weight), home=tmp_path, settings=Settings())

    one, two = candidate(0.5), candidate(0.25)
    with Image(_layout(one, "Q8_0"), tmp_path, in_memory=True) as image:
        (whole, first), (part, second) = _become(image, [one, two])
    plans = {each.name: each for each in one.prepared.plan.tensors}
    assert whole == sum(each.nbytes for each in plans.values())
    assert part == sum(each.nbytes for name, each in plans.items() if "down_proj" in name)
    assert first != second == _fresh(two, "Q8_0", tmp_path)


def test_on_disk_it_is_the_same_and_has_no_name(
    mixture: Callable[[float], Candidate], tmp_path: Path
) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    one = mixture(0.5)
    assert _fresh(one, "Q8_0", folder, in_memory=False) == _fresh(one, "Q8_0", folder)
    with Image(_layout(one, "Q8_0"), folder, in_memory=False):
        assert not list(folder.iterdir())


def test_after_a_candidate_that_cannot_be_quantised_the_next_is_right(
    checkpoint: Callable[[str], Candidate], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (ZOO / "base").iterdir():
        if file.suffix != ".safetensors":
            (broken / file.name).write_bytes(file.read_bytes())
    weights = read_checkpoint(ZOO / "base")
    name = "model.layers.3.mlp.down_proj.weight"
    weights[name] = weights[name].copy()
    weights[name][0, 0] = np.nan
    write_weights(broken, weights)
    one = checkpoint("math")
    wrong = from_checkpoint(broken, name="wrong", home=tmp_path, settings=Settings())
    with Image(_layout(one, "Q4_K_M"), tmp_path, in_memory=True) as image:
        _become(image, [one])
        with pytest.raises(SourceError, match=name):
            _become(image, [wrong])
        assert _become(image, [one])[0][1] == _fresh(one, "Q4_K_M", tmp_path)


def test_a_full_disk_is_told_before_anything_is_merged(
    checkpoint: Callable[[str], Candidate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, size: int) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alloyd_daemon.llama.image.allocate", full)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(DiskFull, match="no room for a candidate"):
        Image(_layout(checkpoint("base"), "F32"), tmp_path, in_memory=False)
    assert len(os.listdir("/proc/self/fd")) == before
