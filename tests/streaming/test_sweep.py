"""A population in one pass: what is shared is computed once, memory is kept to, and one bad candidate is one."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alloyd.errors import AlloydError, MemoryTooSmall, UsageError
from alloyd.jobs import Note
from alloyd_daemon.candidate import Candidate
from alloyd_daemon.engine.in_memory import Weights
from alloyd_daemon.runner import Answered
from alloyd_daemon.scoring.requests import Continuation, Prompt
from alloyd_daemon.streaming import needs
from alloyd_daemon.streaming.activations import Activations
from alloyd_daemon.streaming.anatomy import Anatomy
from alloyd_daemon.streaming.capture import layer_inputs
from alloyd_daemon.streaming.ready import make_ready
from alloyd_daemon.streaming.sweep import sweep
from checkpoint_factory import Model, read_checkpoint, write_checkpoint, write_family
from stream_driver import candidate, options, requests, run, ties

ASKED = requests()
LAYERS = 4


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return write_family(folder, Model(layers=LAYERS), tunes=2, step=0.5)


def late(family: Sequence[Path], weight: float) -> Candidate:
    """A candidate whose last layer alone depends on ``weight``."""
    weights = [{"filter": f"layers.{LAYERS - 1}.", "value": weight}, {"value": 0.5}]
    models = [{"model": each.name, "parameters": {"weight": weights}} for each in family[1:]]
    return candidate(
        family, json.dumps({"merge_method": "task_arithmetic", "base_model": "base", "models": models})
    )


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often tensors were merged, by name."""
    found: Counter[str] = Counter()
    of = Weights.of

    def counting(self: Weights, names: Any) -> Any:
        found.update(list(names))
        return of(self, names)

    monkeypatch.setattr(Weights, "of", counting)
    return found


def test_layers_that_are_equal_are_merged_and_run_once(
    family: list[Path], counted: Counter[str], tmp_path: Path
) -> None:
    weights = (0.1, 0.4, 0.9)
    population = [late(family, each) for each in weights]
    ready = make_ready(population, ASKED, options(tmp_path))
    assert ready.schedule.most_keys == 3
    found, _ = run(population, ASKED, options(tmp_path / "together"))
    last = {name: count for name, count in counted.items() if f"layers.{LAYERS - 1}." in name}
    assert set(last.values()) == {3}
    assert set(dict(counted - Counter(last)).values()) == {1}
    for number, each in enumerate(population):
        alone, _ = run([each], ASKED, options(tmp_path / str(number)))
        assert all(alone[0, request] == found[number, request] for request in range(len(ASKED)))
    assert found[0, 0] != found[1, 0]


def test_candidates_of_other_depth_share_the_pass(family: list[Path], tmp_path: Path) -> None:
    def path(*ranges: tuple[int, int]) -> Candidate:
        slices = [{"sources": [{"model": "tune-0", "layer_range": list(each)}]} for each in ranges]
        return candidate(family, json.dumps({"merge_method": "passthrough", "slices": slices}))

    population = [path((0, 4)), path((0, 2)), path((0, 3), (1, 4)), path((0, 4))]
    found, lost = run(population, ASKED, options(tmp_path / "together"))
    assert not lost
    for number, each in enumerate(population):
        alone, _ = run([each], ASKED, options(tmp_path / str(number)))
        assert all(alone[0, request] == found[number, request] for request in range(len(ASKED)))
    assert len({found[number, 0] for number in range(3)}) == 3
    assert found[0, 0] == found[3, 0]


def test_scores_do_not_depend_on_memory_and_activations_spill(
    family: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    population = [candidate(family, ties(family, number)) for number in range(5)]
    roomy = make_ready(population, ASKED, options(tmp_path / "roomy"))
    assert roomy.needs.spilled == 0
    assert "0 B of them in scratch" in roomy.notes()[0].text
    bare = roomy.needs.peak - roomy.needs.in_memory
    tight = options(tmp_path / "tight", memory=bare + roomy.needs.activations // 3)
    ready = make_ready(population, ASKED, tight)
    assert ready.needs.spilled >= roomy.needs.activations // 2
    assert ready.needs.peak <= tight.memory
    written: list[int] = []
    close = Activations.close
    monkeypatch.setattr(Activations, "close", lambda self: (written.append(self.written), close(self))[1])
    found = [each for each in sweep(ready) if isinstance(each, Answered)]
    assert written[-1] > 0
    plenty = [each for each in sweep(roomy) if isinstance(each, Answered)]
    assert found == plenty
    assert not list((tmp_path / "tight").iterdir())
    with pytest.raises(MemoryTooSmall) as raised:
        make_ready(population, ASKED, options(tmp_path / "small", memory=300 << 20))
    least = raised.value.facts["least"]
    assert isinstance(least, int)
    ready = make_ready(population, ASKED, options(tmp_path / "least", memory=least))
    assert not ready.needs.ahead
    assert [each for each in sweep(ready) if isinstance(each, Answered)] == plenty


@pytest.mark.parametrize("layer", [0, 2, None])
def test_a_candidate_of_nan_is_lost_alone_and_its_layer_is_named(
    layer: int | None, family: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(family[0], broken)
    weights = read_checkpoint(broken)
    name = "lm_head.weight" if layer is None else f"model.layers.{layer}.mlp.down_proj.weight"
    weights[name] = weights[name].copy()
    weights[name][3, 3] = np.nan
    write_checkpoint(broken, Model(layers=LAYERS), weights=weights)
    text = json.dumps(
        {"merge_method": "linear", "models": [{"model": str(broken), "parameters": {"weight": 1}}]}
    )
    population = [
        candidate(family, text, "nan"),
        *(candidate(family, ties(family, each)) for each in range(2)),
    ]
    found, lost = run(population, ASKED, options(tmp_path / "scratch"))
    assert set(lost) == {0}
    assert "'nan'" in lost[0].error.message
    assert ("its head" if layer is None else f"layer {layer} ") in lost[0].error.message
    assert {number for number, _ in found} == {1, 2}
    healthy, _ = run(population[1:], ASKED, options(tmp_path / "healthy"))
    assert all(healthy[number - 1, request] == answer for (number, request), answer in found.items())


def test_a_device_without_memory_loses_the_candidate_that_met_it(
    family: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    population = [candidate(family, ties(family, each), f"c{each}") for each in range(3)]
    layer = Anatomy.layer
    calls = Counter[int]()

    def failing(self: Anatomy, number: int, tensors: Any) -> Any:
        calls[number] += 1
        if (number, calls[number]) != (1, 2):
            return layer(self, number, tensors)

        def refuse(*_: Any) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

        return refuse

    monkeypatch.setattr(Anatomy, "layer", failing)
    found, lost = run(population, ASKED, options(tmp_path))
    assert set(lost) == {1}
    assert "layer 1 does not fit on the device" in lost[1].error.message
    assert len(found) == 2 * len(ASKED)


def test_known_answers_are_passed_over_with_the_same_batches(family: list[Path], tmp_path: Path) -> None:
    population = [candidate(family, ties(family, each)) for each in range(2)]
    whole, _ = run(population, ASKED, options(tmp_path / "whole", batch_size=2))
    known = frozenset(each for each in whole if each[1] not in (0, 16))
    some, _ = run(population, ASKED, options(tmp_path / "some", batch_size=2, known=known))
    assert set(whole) - known <= set(some)
    assert all(whole[each] == answer for each, answer in some.items())
    nothing, lost = run(population, ASKED, options(tmp_path / "none", known=frozenset(whole)))
    assert not nothing
    assert not lost


def test_what_enters_the_layers_is_handed_out(family: list[Path], tmp_path: Path) -> None:
    population = [late(family, 0.1), late(family, 0.9)]
    found = list(layer_inputs(population, ASKED, options(tmp_path), layers=(0, LAYERS - 1)))
    assert {each.layer for each in found} == {0, LAYERS - 1}
    # All but the last layer are equal, so both candidates come together.
    assert all(each.candidates == (0, 1) for each in found)
    ready = make_ready(population, ASKED, options(tmp_path))
    batches = ready.groups[0].batches
    assert len(found) == 2 * len(batches)
    for each in found:
        assert each.hidden.shape == (batches[each.batch].rows, batches[each.batch].width, 32)
        assert each.lengths == batches[each.batch].lengths


def test_what_cannot_be_streamed_is_told_before_work(family: list[Path], tmp_path: Path) -> None:
    one = [candidate(family, ties(family, 0))]
    with pytest.raises(UsageError, match="does not generate"):
        run(one, [Continuation("word1", " word2"), Prompt("word1")], options(tmp_path))
    with pytest.raises(AlloydError, match="unknown quantiser"):
        run(one, ASKED, options(tmp_path, quantise="nf5"))


def test_the_note_says_what_is_shared_and_held(family: list[Path], tmp_path: Path) -> None:
    population = [candidate(family, ties(family, each)) for each in range(2)]
    (note,) = make_ready(population, ASKED, options(tmp_path)).notes()
    assert isinstance(note, Note)
    assert "2 candidates in one pass" in note.text
    assert "is computed once" in note.text


def test_needs_follow_from_shapes(family: list[Path], tmp_path: Path) -> None:
    one = make_ready([candidate(family, ties(family, 0))], ASKED, options(tmp_path)).needs
    four = make_ready(
        [candidate(family, ties(family, each)) for each in range(4)], ASKED, options(tmp_path)
    ).needs
    assert four.activations == 4 * one.activations
    assert four.weights == one.weights
    assert one.peak >= needs.LIBRARIES
