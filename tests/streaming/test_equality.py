"""A streamed run gives what transformers gives for the merged checkpoint, on every architecture of the spine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from alloyd_daemon.scoring.requests import Likelihood
from alloyd_daemon.streaming import groups
from checkpoint_factory import ARCHITECTURES, Architecture, Model, write_family
from stream_driver import candidate, options, requests, resident, run, ties, word_level, written

ASKED = requests()


@pytest.fixture(autouse=True)
def plain_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "load_tokenizer", word_level)


CHOICES = [(3 * item, 3 * item + 3) for item in range(4)]


def family_of(folder: Path, architecture: Architecture, dtype: str) -> list[Path]:
    return write_family(folder, Model(architecture=architecture, layers=3, dtype=dtype), tunes=2, step=0.5)


def decisions(answers: Sequence[Likelihood]) -> list[int]:
    """Which answer of each question is the likeliest."""
    return [max(range(first, stop), key=lambda each: answers[each].logprob) for first, stop in CHOICES]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sixteen_candidates_score_as_their_merged_checkpoints_do(
    architecture: Architecture, tmp_path: Path
) -> None:
    family = family_of(tmp_path / "models", architecture, "F32")
    recipes = [ties(family, number) for number in range(16)]
    found, lost = run([candidate(family, each) for each in recipes], ASKED, options(tmp_path / "scratch"))
    assert not lost
    assert len(found) == 16 * len(ASKED)
    for number in (0, 7, 15):
        truth = resident(written(family, recipes[number], tmp_path / f"out-{number}"), ASKED)
        answers = [found[number, request] for request in range(len(ASKED))]
        for request, answer in enumerate(answers):
            assert answer.tokens == truth[request].tokens
            assert answer.greedy == truth[request].greedy
            assert answer.logprob == pytest.approx(truth[request].logprob, rel=1e-6, abs=2e-5)
        assert decisions(answers) == decisions([truth[request] for request in range(len(ASKED))])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_one_candidate_in_bfloat16_by_any_batches(
    architecture: Architecture, batch_size: int | None, tmp_path: Path
) -> None:
    family = family_of(tmp_path / "models", architecture, "BF16")
    recipe = ties(family, 5)
    how = options(tmp_path / "scratch", batch_size=batch_size)
    found, _ = run([candidate(family, recipe)], ASKED, how)
    truth = resident(written(family, recipe, tmp_path / "out"), ASKED)
    for request, likelihood in truth.items():
        assert found[0, request].logprob == pytest.approx(likelihood.logprob, rel=2e-3, abs=0.03)
        if batch_size == 1:
            assert found[0, request].logprob == pytest.approx(likelihood.logprob, rel=1e-6)
            assert found[0, request].greedy == likelihood.greedy


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_cuda_device_scores_as_the_processor_does(architecture: Architecture, tmp_path: Path) -> None:
    family = family_of(tmp_path / "models", architecture, "F32")
    recipe = ties(family, 5)
    found, lost = run([candidate(family, recipe)], ASKED, options(tmp_path / "scratch"))
    assert not lost
    truth = resident(written(family, recipe, tmp_path / "out"), ASKED)
    for request, likelihood in truth.items():
        # TF32 is off by default, so products are of float32.
        assert found[0, request].logprob == pytest.approx(likelihood.logprob, rel=1e-4, abs=1e-3)
