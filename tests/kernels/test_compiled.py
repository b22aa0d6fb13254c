"""Kernels run as native code without numba once it has made that code, and damaged or foreign code is not run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alloyd_kernels import compiled, compiling
from alloyd_kernels.compiled import Kernel, NotPortable
from alloyd_kernels.tile.native import bits_of

USE = """
import sys
import numpy as np
from alloyd_kernels.tile.cpu import load_tile
row = np.zeros(1024, dtype=np.float32)
data = np.arange(4, dtype=np.float32)
load_tile(np.uint64(data.ctypes.data), 2, 1, 3, row)
print(row[:3].tolist(), "numba" in sys.modules)
"""


def use(cache: Path) -> str:
    """What a fresh process says that runs a kernel with its code in ``cache``."""
    done = subprocess.run(
        [sys.executable, "-c", USE],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"XDG_CACHE_HOME": str(cache), "NUMBA_CACHE_DIR": ""},
    )
    return done.stdout.strip()


def test_numba_is_loaded_once_for_all_processes_and_again_when_its_code_was_damaged(tmp_path: Path) -> None:
    assert use(tmp_path) == "[1.0, 2.0, 3.0] True"
    assert use(tmp_path) == "[1.0, 2.0, 3.0] False"
    (file,) = tmp_path.glob("alloyd/kernels-*/load_tile-*.kernel")
    for damaged in (file.read_bytes()[:-100], file.read_bytes()[:-1] + b"!", b""):
        file.write_bytes(damaged)
        assert use(tmp_path) == "[1.0, 2.0, 3.0] True"
        assert use(tmp_path) == "[1.0, 2.0, 3.0] False"


def test_a_folder_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    use(tmp_path)
    (folder,) = tmp_path.glob("alloyd/kernels-*")
    folder.chmod(0o777)
    assert use(tmp_path) == "[1.0, 2.0, 3.0] True"


def scaled(values, factor, half, flag):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            values[i, j] *= factor
            total += values[i, j]
    if flag:
        total += half
    return total


def test_every_kind_of_argument_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_folder", lambda: None)
    kernel = Kernel(scaled)
    for dtype in (np.float32, np.float64, np.int64):
        values = np.arange(6).reshape(2, 3).astype(dtype)
        wanted = scaled(values.copy(), 3, 0.5, True)
        assert kernel(values, 3, 0.5, True) == wanted
        assert kernel(values, 1, np.float32(0.5), np.bool_(False)) == wanted - 0.5


def bits(value):  # type: ignore[no-untyped-def]
    return bits_of(value)


def test_code_that_needs_numba_is_run_by_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise NotPortable("as a numba to come might be")

    monkeypatch.setattr(compiling, "compile_kernel", refuse)
    monkeypatch.setattr(compiled, "_folder", lambda: None)
    assert Kernel(bits)(np.float32(1.0)) == 0x3F800000


def test_whoever_waits_is_told_that_a_kernel_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    real = compiling.compile_kernel

    def watched(*arguments: Any) -> Any:
        told.append(compiled.is_compiling())
        return real(*arguments)

    monkeypatch.setattr(compiling, "compile_kernel", watched)
    monkeypatch.setattr(compiled, "_folder", lambda: None)
    Kernel(bits)(np.float32(1.0))
    assert told == [True]
    assert not compiled.is_compiling()


def test_arrays_with_gaps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_folder", lambda: None)
    with pytest.raises(ValueError, match="contiguous"):
        Kernel(scaled)(np.zeros((4, 4))[:, ::2], 1, 0.0, False)


def failing(value):  # type: ignore[no-untyped-def]
    return 1 // value


def test_an_error_inside_is_an_error_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_folder", lambda: None)
    assert Kernel(failing)(1) == 1
    with pytest.raises(ArithmeticError, match="failing"):
        Kernel(failing)(0)
