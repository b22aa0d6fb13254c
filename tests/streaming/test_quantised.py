"""A quantised stream gives what the resident quantised model of the same recipe gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alloyd_daemon.engine.in_memory import population
from alloyd_daemon.quantiser import quantiser
from alloyd_daemon.resident import Resident
from alloyd_daemon.scoring.encoding import context_length, encode
from alloyd_daemon.scoring.requests import Likelihood
from alloyd_daemon.streaming.ready import make_ready
from alloyd_daemon.torch_bytes import torch_tensor
from checkpoint_factory import Model, read_checkpoint, tensors, write_checkpoint, write_family
from stream_driver import candidate, options, plain_scores, requests, run, ties, word_level, written
from stream_driver import resident as resident_answers

pytest.importorskip("bitsandbytes")

ASKED = requests()[:8]


def resident(family: list[Path], recipe: str, how: str) -> dict[int, Likelihood]:
    """The answers of the quantised model in memory, one span at a time."""
    one = candidate(family, recipe)
    whole = Resident(one.config, quantiser=quantiser(how))
    with population([one]) as opened:
        tensors = opened.members[0].each()
        whole.fill((name, torch_tensor(each.data, each.dtype, each.shape)) for name, each in tensors)
    encoded = encode(ASKED, word_level(one.folder), context_length(one.config))
    return encoded.likelihoods(plain_scores(whole.model, encoded.spans))


@pytest.mark.parametrize("how", ["nf4", "fp4", "int8"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_quantised_stream_is_the_quantised_model(how: str, architecture: str, tmp_path: Path) -> None:
    shape = Model(architecture=architecture, layers=2, hidden=64, intermediate=128, dtype="BF16")  # type: ignore[arg-type]
    family = write_family(tmp_path / "models", shape, tunes=2, step=0.5)
    recipes = [ties(family, number) for number in (1, 9)]
    found, lost = run(
        [candidate(family, each) for each in recipes],
        ASKED,
        options(tmp_path / "stream", quantise=how, batch_size=1),
    )
    assert not lost
    for number, recipe in enumerate(recipes):
        for request, truth in resident(family, recipe, how).items():
            assert found[number, request].greedy == truth.greedy
            assert found[number, request].logprob == pytest.approx(truth.logprob, rel=1e-6, abs=1e-6)
    full, _ = run(
        [candidate(family, each) for each in recipes], ASKED, options(tmp_path / "full", batch_size=1)
    )
    assert any(
        full[place].logprob != pytest.approx(answer.logprob, rel=1e-4) for place, answer in found.items()
    )


def test_what_a_type_cannot_hold_is_left_and_named(tmp_path: Path) -> None:
    family = write_family(tmp_path / "models", Model(layers=2, hidden=32), tunes=2)
    ready = make_ready(
        [candidate(family, ties(family, 0))], ASKED, options(tmp_path / "scratch", quantise="nf4")
    )
    assert any("left as it is, not quantised" in each.text for each in ready.notes())


def test_weights_that_cannot_be_quantised_lose_their_candidate_alone(tmp_path: Path) -> None:
    shape = Model(layers=2, hidden=64, intermediate=128, dtype="F32")
    family = write_family(tmp_path / "models", shape, tunes=2)
    weights = tensors(shape)
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name] = weights[name].copy()
    weights[name][0, 0] = float("inf")
    write_checkpoint(tmp_path / "models" / "broken", shape, weights=weights)
    text = '{"merge_method": "passthrough", "models": [{"model": "broken"}]}'
    both = [candidate(family, text, "broken"), candidate(family, ties(family, 0))]
    found, lost = run(both, ASKED, options(tmp_path / "scratch", quantise="nf4"))
    assert set(lost) == {0}
    assert "up_proj" in lost[0].error.message
    assert {number for number, _ in found} == {1}


@pytest.mark.parametrize("how", ["Q8_0", "Q4_K_M"])
def test_a_type_of_llama_cpp_is_the_values_that_its_file_holds(how: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    from alloyd_daemon.gguf import ggml
    from alloyd_daemon.gguf.layout import describe

    shape = Model(layers=2, hidden=256, heads=4, intermediate=512, dtype="F32")
    family = write_family(tmp_path / "models", shape, tunes=2, step=0.5)
    recipe = ties(family, 3)
    one = candidate(family, recipe)
    found, _ = run([one], ASKED, options(tmp_path / "stream", quantise=how))
    # The merged checkpoint, its rows encoded and decoded whole by ggml.
    weights = read_checkpoint(written(family, recipe, tmp_path / "out"))
    named = [(each.name, each.dtype, each.shape) for each in one.prepared.plan.tensors]
    layout = describe(named, one.config, one.folder, how, filename="truth")
    kinds = set()
    for place in layout.placements:
        (part,) = place.parts
        kinds.add(part.type.name)
        values = np.ascontiguousarray(weights[place.source].reshape(-1, part.row_length))
        encoded = np.empty(part.type.size_of(values.size), dtype=np.uint8)
        ggml.quantize(part.type, values, encoded)
        decoded = np.empty_like(values)
        ggml.dequantize(part.type, encoded, decoded)
        weights[place.source] = decoded.reshape(weights[place.source].shape)
    assert len(kinds) == (2 if how == "Q8_0" else 3)
    truth = resident_answers(write_checkpoint(tmp_path / "rounded", shape, weights=weights), ASKED)
    for request, answer in truth.items():
        assert found[0, request].greedy == answer.greedy
        assert found[0, request].logprob == pytest.approx(answer.logprob, rel=1e-5, abs=2e-5)
