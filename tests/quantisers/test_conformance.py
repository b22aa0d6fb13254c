"""Every registered quantiser keeps what the layouts, sinks and resident models that use it rely on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd.errors import JobError, PlanError, RecipeError
from alloyd_daemon.checkpoints.config import TORCH_NAMES
from alloyd_daemon.quantiser import QUANTISERS, Option, Quantiser, quantiser

NAMES = QUANTISERS.names()
DTYPES = ("BF16", "F16", "F32")


def choices(option: Option) -> tuple[Any, ...]:
    """Values of an option that are worth a test."""
    if option.choices:
        return option.choices
    return (False, True) if isinstance(option.default, bool) else (option.default, 0.0)


def every() -> list[tuple[str, dict[str, Any]]]:
    """Every quantiser with its defaults, and with each option at each value."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name, kind in QUANTISERS.items():
        found.append((name, {}))
        found += [
            (name, {option.name: value})
            for option in kind.options
            for value in choices(option)
            if value != option.default
        ]
    return found


EVERY = pytest.mark.parametrize(("name", "options"), every(), ids=str)


def matrix(rows: int, columns: int, dtype: str = "BF16", seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, columns, generator=generator) * 0.02).to(getattr(torch, TORCH_NAMES[dtype]))


def encoded(made: Quantiser, tensor: torch.Tensor) -> dict[str, bytes]:
    return {name: bytes(each) for name, each in made.encode("a.weight", tensor).items()}


@pytest.mark.parametrize("name", NAMES)
def test_it_declares_itself(name: str) -> None:
    kind = QUANTISERS.get(name)
    assert kind.summary
    assert kind.reference.startswith(("arXiv:", "https://"))
    assert quantiser(name).name == name
    assert len({each.name for each in kind.options}) == len(kind.options)
    for each in kind.options:
        assert each.about
        assert not each.choices or each.default in each.choices


@EVERY
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_it_stores_is_known_before_the_values(name: str, options: dict[str, Any], dtype: str) -> None:
    made = quantiser(name, options)
    for rows, columns, seed in ((32, 4096, 1), (96, 4096, 2), (320, 4096, 3)):
        assert made.refusal((rows, columns)) is None
        stored = made.stored("a.weight", dtype, (rows, columns))
        found = encoded(made, matrix(rows, columns, dtype, seed))
        assert [each.name for each in stored] == list(found)
        assert {each.name: each.nbytes for each in stored} == {key: len(each) for key, each in found.items()}


@EVERY
def test_the_same_values_give_the_same_bytes_on_any_number_of_threads(
    name: str, options: dict[str, Any]
) -> None:
    made = quantiser(name, options)
    # More scales than torch adds up on one thread.
    tensor = matrix(1024, 4096)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(encoded(made, tensor))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


@EVERY
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_round_trip_is_near_and_keeps_shape_and_dtype(
    name: str, options: dict[str, Any], dtype: str
) -> None:
    made = quantiser(name, options)
    tensor = matrix(64, 4096, dtype)
    found = made.round_trip("a.weight", tensor)
    assert found.shape == tensor.shape
    assert found.dtype == tensor.dtype
    error = (found.float() - tensor.float()).norm() / tensor.float().norm()
    assert 0 < error < (0.02 if name == "int8" else 0.25)
    assert made.round_trip("a.weight", tensor, dtype=torch.float32).dtype == torch.float32


@EVERY
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_it_cannot_hold_are_refused_by_name(
    name: str, options: dict[str, Any], value: float
) -> None:
    made = quantiser(name, options)
    tensor = matrix(64, 4096)
    tensor[33, 7] = value
    with pytest.raises(JobError, match=r"tensor 'a\.weight' has values that"):
        made.encode("a.weight", tensor)


@EVERY
def test_zeros_are_zeros_again(name: str, options: dict[str, Any]) -> None:
    tensor = torch.zeros(32, 4096, dtype=torch.bfloat16)
    assert not quantiser(name, options).round_trip("a.weight", tensor).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["F64", "F8_E4M3", "I8"])
def test_a_dtype_that_is_not_quantised_is_refused_by_name(name: str, dtype: str) -> None:
    with pytest.raises(PlanError, match=rf"tensor 'a\.weight' is {dtype}") as refused:
        quantiser(name).stored("a.weight", dtype, (64, 64))
    assert refused.value.hint


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(), (64,), (0, 64), (64, 0), (2, 64, 64)])
def test_what_is_no_matrix_is_refused(name: str, shape: tuple[int, ...]) -> None:
    assert "which is no matrix" in (quantiser(name).refusal(shape) or "")


@given(rows=st.integers(1, 200), columns=st.integers(1, 300))
@settings(max_examples=60)
def test_a_shape_that_is_not_refused_can_be_run(rows: int, columns: int) -> None:
    """On processors with AVX512-BF16 bitsandbytes fails on shapes that its own quantising accepts."""
    for name in NAMES:
        made = quantiser(name)
        if made.refusal((rows, columns)) is None:
            model = _OneLinear(rows, columns)
            made.prepare(model, ())
            values = matrix(rows, columns)
            made.load(model.linear, "linear.weight", values)
            x = matrix(3, columns, seed=5) * 50
            found = model.eval().linear(x).float()
            wanted = x.float() @ made.round_trip("a", values, dtype=torch.float32).T
            assert (found - wanted).abs().max() <= 0.03 * wanted.abs().max()


class _OneLinear(torch.nn.Module):
    dtype = torch.bfloat16

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(columns, rows, bias=False, device="meta", dtype=self.dtype)
        self.requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("nf4", {"blocksize": 64}, "quantiser 'nf4' has no option 'blocksize'"),
        ("nf4", {"block_size": 65}, "'block_size' of quantiser 'nf4' must be one of 64, 128"),
        ("nf4", {"block_size": True}, "must be a whole number, not True"),
        ("nf4", {"double_quant": 1}, "must be true or false, not 1"),
        ("fp4", {"compute_dtype": "float8"}, "must be one of float32"),
        ("int8", {"threshold": "6"}, "must be a number, not '6'"),
        ("int8", {"threshold": -1.0}, "must be at least 0, not -1.0"),
        ("int8", {"threshold": float("nan")}, "must be a finite number, not nan"),
        ("int8", {"double_quant": True}, "quantiser 'int8' has no option 'double_quant'"),
        ("nf5", {}, "unknown quantiser 'nf5'"),
    ],
)
def test_a_wrong_option_is_refused_by_name(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        quantiser(name, options)
    assert said in refused.value.message
    assert refused.value.hint


def test_a_whole_number_serves_as_a_threshold() -> None:
    assert quantiser("int8", {"threshold": 4}).config(None)["llm_int8_threshold"] == 4.0
