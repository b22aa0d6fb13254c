"""The binding to ggml: it means the same types, encodes blocks alone as in rows, and never lets the process abort."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from alloyd.errors import RecipeError, SourceError
from alloyd_daemon.gguf import ggml, library
from alloyd_daemon.gguf.element_type import TYPES, WEIGH_WHOLE_ROWS, ElementType
from extras import need

need("gguf", "llama_cpp", "gguf")
# ggml computes a grid of some seconds before it encodes the first row of one of these.
SLOW = ("IQ1_M", "IQ1_S", "IQ2_S")
KINDS = [pytest.param(name, marks=pytest.mark.soak if name in SLOW else ()) for name in sorted(ggml.types())]
RANDOM = np.random.default_rng(7)
VALUES = RANDOM.standard_normal((2, 512), dtype=np.float32)
WEIGHTS = np.abs(RANDOM.standard_normal(512, dtype=np.float32)) + 0.01


def _encode(kind: ElementType, values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    out = np.empty(kind.size_of(values.size), np.uint8)
    assert ggml.quantize(kind, values, out, importance) == out.size
    return out


def test_the_table_is_the_librarys() -> None:
    absent = {kind.name for kind in TYPES.values()} - set(ggml.types()) - {"I8", "I16", "I32", "I64", "F64"}
    assert not absent


@pytest.mark.parametrize("name", KINDS)
def test_what_is_encoded_decodes_to_about_the_same(name: str) -> None:
    kind = ggml.types()[name]
    out = np.empty_like(VALUES)
    ggml.dequantize(kind, _encode(kind, VALUES, WEIGHTS), out)
    error = float(np.sqrt(np.mean((out - VALUES) ** 2)))
    # One bit keeps the sign; eight bits and more keep nearly all.
    assert error < (0.9 if kind.size * 8 / kind.block < 3 else 0.3)
    if name in ("F32", "F16", "BF16", "Q8_0"):
        assert error < 0.01


@pytest.mark.parametrize(
    ("name", "weighed"),
    [
        pytest.param(name, weighed, marks=pytest.mark.soak if name in SLOW else ())
        for name, kind in ggml.types().items()
        for weighed in (False, True)
        if weighed or not ggml.needs_importance(kind)
    ],
)
def test_a_unit_is_encoded_alone_as_in_its_row(name: str, weighed: bool) -> None:
    """What Part.unit promises: only the types of WEIGH_WHOLE_ROWS look at the whole row."""
    kind = ggml.types()[name]
    importance = WEIGHTS if weighed else None
    whole = _encode(kind, VALUES, importance)
    step = max(kind.block, 32)
    alone = np.concatenate(
        [
            _encode(
                kind,
                np.ascontiguousarray(VALUES[row : row + 1, column : column + step]),
                None if importance is None else importance[column : column + step],
            )
            for row in range(VALUES.shape[0])
            for column in range(0, VALUES.shape[1], step)
        ]
    )
    assert np.array_equal(whole, alone) == (not weighed or name not in WEIGH_WHOLE_ROWS)


def test_a_wrong_argument_is_refused_before_ggml_sees_it() -> None:
    kind, out = ggml.types()["Q4_K"], np.empty(1 << 16, np.uint8)
    for values in (VALUES[:, :100], VALUES.astype(np.float64), VALUES.T, VALUES[0]):
        with pytest.raises(ValueError, match=r"rows of|float32"):
            ggml.quantize(kind, np.array(values, order="K"), out)
    with pytest.raises(ValueError, match="writable bytes"):
        ggml.quantize(kind, VALUES, np.empty(8, np.uint8))
    with pytest.raises(ValueError, match="importance must be"):
        ggml.quantize(kind, VALUES, out, WEIGHTS[:256])
    with pytest.raises(ValueError, match="importance must be from"):
        ggml.quantize(kind, VALUES, out, WEIGHTS * np.float32(1e20))
    with pytest.raises(ValueError, match="without an importance"):
        ggml.quantize(ggml.types()["IQ2_S"], VALUES, out)
    with pytest.raises(ValueError, match="are needed"):
        ggml.dequantize(kind, out[:4], np.empty(256, np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e9])
@pytest.mark.parametrize("name", sorted(ggml.types().keys() - {"F32", "F16", "BF16"}))
def test_values_that_a_type_cannot_hold_name_the_tensor(name: str, bad: float) -> None:
    values = VALUES.copy()
    values[1, 300] = bad
    with pytest.raises(SourceError, match=r"blk\.3\.attn_q\.weight has values"):
        ggml.quantize(
            ggml.types()[name], values, np.empty(1 << 16, np.uint8), WEIGHTS, tensor="blk.3.attn_q.weight"
        )


@pytest.mark.parametrize("skipped", [SLOW, pytest.param((), marks=pytest.mark.soak)])
def test_no_values_within_bounds_abort_the_process(skipped: tuple[str, ...]) -> None:
    """Zeros, constants, extremes and wild importances: in a process of its own, for ggml ends it on abort."""
    code = """
import numpy as np
from alloyd.errors import SourceError
from alloyd_daemon.gguf import ggml
random = np.random.default_rng(0)
for kind in ggml.types().values():
    if kind.name in SKIPPED:
        continue
    for scale in (0.0, 1e-38, ggml.LARGEST):
        for shape in ("normal", "constant", "spike"):
            values = random.standard_normal((1, 256)).clip(-1, 1)
            if shape == "constant":
                values[:] = 1
            elif shape == "spike":
                values[:] = 0
                values[:, ::37] = -1
            values = (values * scale).astype(np.float32)
            for weights in (0.0, ggml.LARGEST_IMPORTANCE):
                importance = (weights * random.random(256)).astype(np.float32)
                out = np.empty(kind.size_of(values.size), np.uint8)
                try:
                    ggml.quantize(kind, values, out, importance)
                except SourceError:
                    pass
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", f"SKIPPED = {skipped!r}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )
    assert done.stdout.strip() == "done", done.stderr[-500:]


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    library.ggml_base.cache_clear()
    with pytest.raises(RecipeError, match="not installed") as raised:
        library.ggml_base()
    assert raised.value.hint == "pip install 'alloyd[gguf]'"
    library.ggml_base.cache_clear()


def test_nothing_heavy_is_loaded_with_the_modules() -> None:
    code = (
        "import sys, alloyd_daemon.gguf.layout, alloyd_daemon.gguf.reader, alloyd_daemon.gguf.encode\n"
        "print({'llama_cpp', 'gguf', 'torch', 'transformers', 'sentencepiece'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("value", [65520.0, -1e30])
def test_finite_values_do_not_become_infinite_as_f16(value: float) -> None:
    values = np.array([[1.0, value, np.inf, np.nan]], dtype=np.float32)
    with pytest.raises(SourceError, match=r"x has values beyond 65504"):
        ggml.quantize(ggml.types()["F16"], values, np.empty(8, np.uint8), tensor="x")
    values[0, 1] = 65504
    assert ggml.quantize(ggml.types()["F16"], values, np.empty(8, np.uint8)) == 8
