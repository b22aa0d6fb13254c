"""Rotary embeddings whose scaling llama.cpp keeps as tensors of factors: Llama 3's and LongRoPE's."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from alloyd.errors import PlanError

from .architecture import Constants
from .hyperparameters import Hyperparameters, number, original_context


def llama3_factors(hyperparameters: Hyperparameters) -> Constants:
    """``rope_freqs.weight``: what each frequency is divided by, as transformers' ``rope_type: llama3`` defines it.

    Wavelengths below ``original_max_position_embeddings / high_freq_factor`` stay, those above ``... /
    low_freq_factor`` are divided by ``factor``, and those between are blended.
    """
    rope = hyperparameters.rope
    if rope["rope_type"].lower() != "llama3":
        return {}
    factor, low, high, original = (
        number(rope.get(key, default), key)
        for key, default in (
            ("factor", 8.0),
            ("low_freq_factor", 1.0),
            ("high_freq_factor", 4.0),
            ("original_max_position_embeddings", 8192),
        )
    )
    if min(factor, low, original) <= 0 or high <= low:
        raise PlanError(
            "config.json: the factors of the llama3 rotary scaling must be positive, high_freq_factor above "
            "low_freq_factor",
            hint="Correct 'rope_parameters' (or 'rope_scaling') in config.json.",
            key="rope_parameters",
        )
    base = number(rope["rope_theta"], "rope_theta")
    size = hyperparameters.head_dim
    factors = []
    for index in range(0, size, 2):
        wavelength = 2 * math.pi * base ** (index / size)
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return {"rope_freqs.weight": np.array(factors, dtype=np.float32)}


def longrope_factors(hyperparameters: Hyperparameters) -> Constants:
    """``rope_factors_long.weight`` and ``rope_factors_short.weight`` as config.json lists them."""
    rope = hyperparameters.rope
    if rope.get("long_factor") is None and rope.get("short_factor") is None:
        return {}
    half = rotated(hyperparameters) // 2
    return {
        "rope_factors_long.weight": _list(rope.get("long_factor"), "long_factor", half),
        "rope_factors_short.weight": _list(rope.get("short_factor"), "short_factor", half),
    }


def longrope_attention(hyperparameters: Hyperparameters) -> float | None:
    """What LongRoPE multiplies queries and keys by, or None where the model has no such scaling."""
    rope = hyperparameters.rope
    if rope.get("long_factor") is None:
        return None
    original = original_context(rope)
    scale = hyperparameters.whole("max_position_embeddings") / original
    if scale <= 1:
        return 1.0
    if rope["rope_type"].lower() == "yarn":
        return 0.1 * math.log(scale) + 1
    return math.sqrt(1 + math.log(scale) / math.log(original))


def rotated(hyperparameters: Hyperparameters) -> int:
    """Elements of a head that are rotated."""
    share = number(hyperparameters.rope.get("partial_rotary_factor", 1.0), "partial_rotary_factor")
    return int(share * hyperparameters.whole("hidden_size")) // hyperparameters.heads


def _list(value: object, key: str, length: int) -> NDArray[np.float32]:
    if not isinstance(value, list) or len(value) != length:
        raise PlanError(
            f"config.json: '{key}' must be a list of {length} numbers, one for each rotated pair",
            hint="Correct 'rope_parameters' (or 'rope_scaling') in config.json.",
            key=key,
        )
    return np.array([number(each, key) for each in value], dtype=np.float32)
