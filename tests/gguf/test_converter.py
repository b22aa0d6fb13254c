"""Files as llama.cpp's own programs make them: its converter for all that is described, its quantiser for the bytes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from alloyd.errors import PlanError
from alloyd_daemon.gguf import library, types
from alloyd_daemon.gguf.imatrix import Imatrix
from extras import need
from gguf_support.gguf_files import read_gguf, write_gguf
from gguf_support.tiny_models import MODELS

need("gguf", "llama_cpp", "gguf")

# The converter guesses a name from the folder's; what we write depends on no path.
NOT_COMPARED = {"general.name"}
ALL_TYPES = ("F16", "Q8_0", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_XS")
EVERY_TYPE_OF = ("zoo", "llama", "mixtral", "gemma3")


def _quantised(source: Path, target: Path, type_name: str, imatrix: Imatrix | None = None) -> int:
    """What ``llama_model_quantize`` makes of ``source``."""
    llama = library.llama()
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype = types.file_type(type_name).code
    parameters.nthread = 1
    if imatrix is not None:
        entries = (llama.llama_model_imatrix_data * (len(imatrix.weights) + 1))()
        for entry, (name, values) in zip(entries, imatrix.weights.items(), strict=False):
            entry.name = name.encode()
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            entry.size = values.size
        parameters.imatrix = entries
    with library.log_lines():
        status: int = llama.llama_model_quantize(
            str(source).encode(), str(target).encode(), ctypes.byref(parameters)
        )
    return status


def _same(ours: Path, theirs: Path) -> None:
    our_keys, our_tensors = read_gguf(ours)
    their_keys, their_tensors = read_gguf(theirs)
    for key in NOT_COMPARED:
        our_keys.pop(key, None)
        their_keys.pop(key, None)
    if their_keys["general.architecture"] == "gemma":
        # A number written into the converter, whatever the tokenizer is; llama.cpp knows <end_of_turn> by its text.
        assert their_keys.pop("tokenizer.ggml.eot_token_id") == 107
    assert our_keys == their_keys
    assert our_tensors.keys() == their_tensors.keys()
    for name, (shape, kind, data) in their_tensors.items():
        our_shape, our_kind, our_data = our_tensors[name]
        assert our_kind == kind, name
        # The quantiser drops dimensions of one at the end of a shape.
        assert _trimmed(our_shape) == _trimmed(shape), name
        if name == "rope_freqs.weight":
            # Theirs is rounded at each step of its computation.
            np.testing.assert_allclose(np.frombuffer(our_data, "<f4"), np.frombuffer(data, "<f4"), rtol=1e-6)
        else:
            assert our_data == data, name


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 1 or shape[-1] != 1 else _trimmed(shape[:-1])


@pytest.mark.parametrize("name", [*MODELS, "zoo"])
def test_a_file_of_f32_is_the_converters(
    name: str, models: Callable[[str], Path], converted: dict[str, Path], tmp_path: Path
) -> None:
    """Keys, values, their types; names, shapes, order and bytes of the tensors."""
    write_gguf(models(name), tmp_path / "ours.gguf", "F32")
    _same(tmp_path / "ours.gguf", converted[name])
    assert list(read_gguf(tmp_path / "ours.gguf")[1]) == list(read_gguf(converted[name])[1])


@pytest.mark.parametrize(
    ("name", "type_name"),
    [
        (name, kind)
        for name in [*MODELS, "zoo"]
        for kind in (ALL_TYPES if name in EVERY_TYPE_OF else ("Q4_K_M",))
    ],
)
def test_a_quantised_file_is_the_quantisers(
    name: str, type_name: str, models: Callable[[str], Path], converted: dict[str, Path], tmp_path: Path
) -> None:
    assert _quantised(converted[name], tmp_path / "theirs.gguf", type_name) == 0
    write_gguf(models(name), tmp_path / "ours.gguf", type_name)
    _same(tmp_path / "ours.gguf", tmp_path / "theirs.gguf")


@pytest.mark.parametrize(
    ("name", "type_name"),
    [
        *(("llama", kind) for kind in ("Q4_0", "Q4_K_M", "IQ2_XXS", "IQ3_M", "Q2_K_S")),
        *(("mixtral", kind) for kind in ("Q4_0", "Q4_K_M")),
        pytest.param("llama", "IQ1_M", marks=pytest.mark.soak),
        pytest.param("mixtral", "IQ2_S", marks=pytest.mark.soak),
    ],
)
def test_an_imatrix_weighs_what_it_weighs_for_the_quantiser(
    name: str, type_name: str, models: Callable[[str], Path], converted: dict[str, Path], tmp_path: Path
) -> None:
    random = np.random.default_rng(3)
    weights = {
        tensor: (random.random(shape[0] * (shape[2] if len(shape) == 3 else 1), dtype=np.float32) + 0.01) ** 4
        for tensor, (shape, _, _) in read_gguf(converted[name])[1].items()
        if len(shape) > 1 and tensor not in ("token_embd.weight", "output.weight")
    }
    imatrix = Imatrix(weights, "")
    assert _quantised(converted[name], tmp_path / "theirs.gguf", type_name, imatrix) == 0
    write_gguf(models(name), tmp_path / "ours.gguf", type_name, block=1000, imatrix=imatrix)
    _same(tmp_path / "ours.gguf", tmp_path / "theirs.gguf")


@pytest.mark.parametrize("type_name", ["IQ1_S", "IQ2_XS", "IQ2_S", "IQ3_XXS", "Q2_K_S"])
def test_what_the_quantiser_refuses_without_an_imatrix_is_refused(
    type_name: str, models: Callable[[str], Path], converted: dict[str, Path], tmp_path: Path
) -> None:
    assert _quantised(converted["zoo"], tmp_path / "theirs.gguf", type_name) != 0
    with pytest.raises(PlanError, match=r"blk\..* cannot be written as .* without an importance matrix"):
        write_gguf(models("zoo"), tmp_path / "ours.gguf", type_name)
