"""Random masks have no bits to agree on: kept shares, kept values and rescaling agree with mergekit's."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from checkpoint_factory import Tensors, read_checkpoint
from parity import cases
from parity.conftest import DENSITIES, LARGE, Case

SIGMAS = 5.0
EMBEDDING = "model.embed_tokens.weight"


def _differences(merged: Tensors, base: Tensors) -> dict[str, NDArray[np.float64]]:
    return {name: merged[name].astype(np.float64) - base[name].astype(np.float64) for name in base}


@pytest.mark.parametrize("rescale", ["true", "false"])
@pytest.mark.parametrize("density", DENSITIES)
def test_dare_linear(
    density: str,
    rescale: str,
    mergekit_results: dict[tuple[str, str], Case],
    families: dict[str, dict[str, Path]],
    alloyd_merge: Callable[[str], Path],
) -> None:
    """With one model of weight 1 the change from the base is the masked delta itself, times the rescaling."""
    case = mergekit_results[LARGE, f"dare_linear {density} {rescale}"]
    assert case.complaint is None
    base, tuned = (read_checkpoint(families[LARGE][name]) for name in ("BASE", "ONE"))
    deltas = _differences(tuned, base)
    share = float(density)
    for merged in (case.expected(), read_checkpoint(alloyd_merge(case.text))):
        changes = _differences(merged, base)
        seen = kept = 0
        for name, delta in deltas.items():
            change, moved = changes[name], delta != 0
            mask = moved & (np.abs(change) > np.abs(delta) / 2)
            assert not (change[~moved]).any()
            seen += int(moved.sum())
            kept += int(mask.sum())
            if not mask.any():
                continue
            # float32 holds base + delta to 2^-24 of the base's size; that is all the noise there may be.
            noise = 2.0**-23 * float(np.abs(base[name].astype(np.float64)).max())
            factor = np.abs(delta).sum() / np.abs(delta[mask]).sum() if rescale == "true" else 1.0
            assert (
                np.abs(change[mask] - factor * delta[mask]).max()
                <= noise + 1e-5 * np.abs(delta).max() * factor
            )
        spread = math.sqrt(share * (1 - share) / seen)
        assert abs(kept / seen - share) < SIGMAS * spread
        large = deltas[EMBEDDING] != 0
        one = np.abs(changes[EMBEDDING][large]) > np.abs(deltas[EMBEDDING][large]) / 2
        assert abs(one.mean() - share) < SIGMAS * math.sqrt(share * (1 - share) / one.size)
        assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < SIGMAS / math.sqrt(one.size)


@pytest.mark.parametrize("rescale", ["true", "false"])
@pytest.mark.parametrize("density", DENSITIES)
def test_dare_ties(
    density: str,
    rescale: str,
    mergekit_results: dict[tuple[str, str], Case],
    families: dict[str, dict[str, Path]],
    alloyd_merge: Callable[[str], Path],
) -> None:
    """Two models: share of unchanged elements, mean change and mean size of change agree with mergekit's."""
    case = mergekit_results[LARGE, f"dare_ties {density} {rescale}"]
    assert case.complaint is None
    base = read_checkpoint(families[LARGE]["BASE"])
    theirs = _differences(case.expected(), base)
    ours = _differences(read_checkpoint(alloyd_merge(case.text)), base)
    for name in (EMBEDDING, "lm_head.weight", "model.layers.0.mlp.down_proj.weight"):
        a, b = ours[name].ravel(), theirs[name].ravel()
        for statistic in (lambda x: (x == 0).astype(float), np.abs, lambda x: x):
            x, y = statistic(a), statistic(b)
            error = math.sqrt((x.var() + y.var()) / x.size)
            assert abs(x.mean() - y.mean()) < SIGMAS * error


def test_masks_of_two_models_are_independent(
    families: dict[str, dict[str, Path]], alloyd_merge: Callable[[str], Path]
) -> None:
    """Independent draws: the masks of two models on one tensor agree by chance only."""
    text = cases.recipe(
        cases.RANDOM["dare_ties"],
        architecture="llama",
        models=families[LARGE],
        DENSITY="0.5",
        RESCALE="false",
    )
    base, one, two = (read_checkpoint(families[LARGE][name]) for name in ("BASE", "ONE", "TWO"))
    merged = read_checkpoint(alloyd_merge(text))
    first = one[EMBEDDING].astype(np.float64) - base[EMBEDDING].astype(np.float64)
    second = two[EMBEDDING].astype(np.float64) - base[EMBEDDING].astype(np.float64)
    change = merged[EMBEDDING].astype(np.float64) - base[EMBEDDING].astype(np.float64)
    # Where both push the same way, the four outcomes neither, one, other, both each have a quarter of the
    # chance.
    both = (first * second > 0) & (np.abs(first - second / 2) > np.abs(first) / 4)
    shares = [
        float(np.isclose(change[both], outcome[both], rtol=1e-2, atol=1e-8).mean())
        for outcome in (np.zeros_like(first), first, second / 2, first + second / 2)
    ]
    error = SIGMAS * math.sqrt(0.25 * 0.75 / int(both.sum()))
    assert all(abs(share - 0.25) < error + 0.01 for share in shares), shares
