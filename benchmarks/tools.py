"""The three that are compared, as command lines: alloyd, mergekit, and the floor that copying sets."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def alloy() -> Path:
    """The command `alloy` of the interpreter that runs the benchmark."""
    found = Path(sys.executable).with_name("alloy")
    if not found.exists():
        raise SystemExit(f"{found} is missing; run `make install` and use .venv/bin/python")
    return found


def mergekit() -> Path | None:
    """mergekit-yaml beside the python that ALLOYD_MERGEKIT_PYTHON names, else in the venv of `make mergekit`."""
    python = Path(os.environ.get("ALLOYD_MERGEKIT_PYTHON") or ROOT / ".mergekit-venv" / "bin" / "python")
    found = python.with_name("mergekit-yaml")
    return found if found.exists() else None


def floor(inputs: Sequence[Path], output: Path, size: int) -> list[str]:
    """A fresh process that reads ``inputs``, then writes ``size`` bytes to ``output`` and waits for the disk."""
    read = "cat " + " ".join(shlex.quote(str(path)) for path in inputs) + " > /dev/null"
    write = f"dd if=/dev/zero of={shlex.quote(str(output))} bs=4M count={size} iflag=count_bytes,fullblock conv=fsync"
    return ["sh", "-c", f"{read} && {write} status=none"]


RECIPES = {
    "linear": """
merge_method: linear
models:
  - {model: BASE, parameters: {weight: 0.4}}
  - {model: ONE, parameters: {weight: 0.3}}
  - {model: TWO, parameters: {weight: 0.3}}
dtype: DTYPE
""",
    "slerp": """
merge_method: slerp
base_model: BASE
models: [{model: BASE}, {model: ONE}]
parameters: {t: 0.4}
dtype: DTYPE
""",
    "task_arithmetic": """
merge_method: task_arithmetic
base_model: BASE
models:
  - {model: ONE, parameters: {weight: 0.6}}
  - {model: TWO, parameters: {weight: 0.4}}
dtype: DTYPE
""",
    "ties": """
merge_method: ties
base_model: BASE
models:
  - {model: ONE, parameters: {weight: 0.6, density: 0.5}}
  - {model: TWO, parameters: {weight: 0.4, density: 0.3}}
dtype: DTYPE
""",
    "dare_linear": """
merge_method: dare_linear
base_model: BASE
models:
  - {model: ONE, parameters: {weight: 0.6, density: 0.5}}
  - {model: TWO, parameters: {weight: 0.4, density: 0.3}}
dtype: DTYPE
""",
    "dare_ties": """
merge_method: dare_ties
base_model: BASE
models:
  - {model: ONE, parameters: {weight: 0.6, density: 0.5}}
  - {model: TWO, parameters: {weight: 0.4, density: 0.3}}
dtype: DTYPE
""",
    "passthrough": """
merge_method: passthrough
models: [{model: ONE}]
dtype: DTYPE
""",
}


def recipe(
    method: str, models: Sequence[Path], dtype: str = "bfloat16", out_dtype: str | None = None
) -> tuple[str, list[Path]]:
    """The YAML of ``method`` over a base and two fine-tunes, and those of the models that it reads."""
    text = RECIPES[method].lstrip()
    used = []
    for word, model in zip(("BASE", "ONE", "TWO"), models, strict=True):
        if word in text:
            used.append(model)
        text = text.replace(word, str(model))
    wanted = dtype if out_dtype is None else f"{dtype}\nout_dtype: {out_dtype}"
    return text.replace("DTYPE", wanted), used


def weights(models: Sequence[Path]) -> list[Path]:
    """Every safetensors file of ``models``."""
    return [file for model in models for file in sorted(model.glob("*.safetensors"))]
