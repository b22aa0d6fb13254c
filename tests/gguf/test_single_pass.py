"""One pass from sources to quantised GGUF gives, tensor by tensor, what merging, converting and quantising give."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alloyd.jobs import Finished, MergeSpec, Note
from alloyd.recipe import Form
from alloyd_daemon.gguf.library import llama, log_lines
from alloyd_daemon.gguf.reader import read_head
from alloyd_daemon.gguf.types import file_types
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.settings import Settings
from benchmarks.shapes import of_size, write
from checkpoint_factory import Model, write_checkpoint
from extras import need
from gguf_support.gguf_files import read_gguf
from house.tree import ROOT

need("gguf", "llama_cpp", "gguf")

TYPES = ("F16", "Q8_0", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_XS")
CONVERTER = ROOT / "tests" / "gguf_support" / "converter_runner.py"
# Rows of 256: every type holds them. The zoo's are narrower: K-quants fall back, in the same way.
WIDE = Model(hidden=256, heads=4, kv_heads=2, intermediate=512, layers=2, vocab=320)
RECIPE = """\
merge_method: ties
base_model: {base}
models:
  - {{model: {one}, parameters: {{weight: 1.0, density: 0.5}}}}
  - {{model: {two}, parameters: {{weight: 0.8, density: 0.7}}}}
out_dtype: {dtype}
"""


def merge(recipe: str, out: Path, form: Form | None = None) -> list[Any]:
    """Run the job; its reports."""
    context = Context(home=out.with_name(f"{out.name}-home"), settings=Settings(), job_id="merge-1")
    context.home.mkdir()
    spec = MergeSpec(recipe=recipe, base_dir=str(ROOT), out=str(out), form=form, threads=2)
    reports = list(JOBS.get("merge").run(spec, context))
    assert isinstance(reports[-1], Finished)
    return reports


def quantize(plain: Path, out: Path, kind: str, *, threads: int = 1) -> Path:
    """``plain`` through ``llama_model_quantize``."""
    library = llama()
    parameters = library.llama_model_quantize_default_params()
    parameters.ftype = file_types()[kind]
    parameters.nthread = threads
    with log_lines() as lines:
        done = library.llama_model_quantize(str(plain).encode(), str(out).encode(), parameters)
    assert done == 0, "\n".join(lines[-8:])
    return out


@pytest.fixture(scope="module", params=["zoo", "wide", "wide-f32"])
def two_steps(
    request: pytest.FixtureRequest, llama_source: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A recipe, and its result as the converter writes it in F32."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "zoo":
        names = {"base": "zoo/models/base", "one": "zoo/models/math", "two": "zoo/models/lang"}
    else:
        tunes = {"base": None, "one": 0, "two": 1}
        names = {name: str(write_checkpoint(folder / name, WIDE, tune=tune)) for name, tune in tunes.items()}
    recipe = RECIPE.format(dtype="float32" if request.param == "wide-f32" else "bfloat16", **names)
    merge(recipe, folder / "merged")
    convert(llama_source, folder / "merged", folder / "plain.gguf")
    return recipe, folder / "plain.gguf"


def convert(source: Path, folder: Path, out: Path) -> None:
    """``folder`` through llama.cpp's converter, to F32."""
    wanted = {"folder": str(folder), "out": str(out), "type": "f32", "vocabulary": "none"}
    done = subprocess.run(
        [sys.executable, str(CONVERTER), str(source)],
        input=json.dumps(wanted) + "\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def assert_same_tensors(found: Path, expected: Path) -> None:
    """Shape, type and bytes of every tensor."""
    _, theirs = read_gguf(expected)
    _, ours = read_gguf(found)
    assert ours.keys() == theirs.keys()
    assert not [name for name, tensor in theirs.items() if ours[name] != tensor]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_model_of_real_size(llama_source: Path, tmp_path: Path) -> None:
    """0.85B: matrices of many blocks."""
    base, one, two = write(tmp_path / "models", of_size("0.85B"), models=3)
    recipe = RECIPE.format(dtype="bfloat16", base=base, one=one, two=two)
    merge(recipe, tmp_path / "merged")
    convert(llama_source, tmp_path / "merged", tmp_path / "plain.gguf")
    expected = quantize(tmp_path / "plain.gguf", tmp_path / "expected.gguf", "Q4_K_M", threads=2)
    merge(recipe, tmp_path / "out", Form("gguf", "Q4_K_M"))
    assert_same_tensors(tmp_path / "out" / "model-Q4_K_M.gguf", expected)


@pytest.mark.parametrize("kind", TYPES)
def test_tensors_and_types_are_those_of_llama_cpp(
    two_steps: tuple[str, Path], kind: str, tmp_path: Path
) -> None:
    recipe, plain = two_steps
    merge(recipe, tmp_path / "out", Form("gguf", kind))
    expected = quantize(plain, tmp_path / "expected.gguf", kind)
    found = tmp_path / "out" / f"model-{kind}.gguf"
    assert_same_tensors(found, expected)
    assert read_head(found).metadata["general.file_type"] == file_types()[kind]


def test_a_fall_back_is_told_by_the_tensors_name(tmp_path: Path) -> None:
    narrow = write_checkpoint(tmp_path / "narrow", Model(hidden=96, intermediate=224, vocab=320))
    recipe = json.dumps({"merge_method": "passthrough", "models": [{"model": str(narrow)}]})
    reports = merge(recipe, tmp_path / "out", Form("gguf", "Q4_K_M"))
    told = [each.text for each in reports if isinstance(each, Note)]
    assert [each for each in told if "blk.0.ffn_down.weight" in each]
    _, found = read_gguf(tmp_path / "out" / "model-Q4_K_M.gguf")
    assert found["blk.0.ffn_up.weight"][1] == "Q5_0"


def test_the_command_line_writes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alloy: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    monkeypatch.chdir(ROOT)
    done = alloy("convert", "zoo/models/base", str(tmp_path / "out"), "--gguf", "q6_k")
    assert done.returncode == 0, done.stderr
    recipe = json.dumps(
        {"merge_method": "passthrough", "models": [{"model": "zoo/models/base"}], "name": "base"}
    )
    merge(recipe, tmp_path / "direct", Form("gguf", "Q6_K"))
    name = "base-Q6_K.gguf"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "direct" / name).read_bytes()
    assert "are as the manifest says" in alloy("verify", str(tmp_path / "out")).stdout
    with (tmp_path / "out" / name).open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-100, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    done = alloy("verify", str(tmp_path / "out"))
    assert done.returncode == 4
    assert "differs from its manifest: tensor '" in done.stderr


@pytest.fixture
def alloy() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line with a daemon of its own."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(part for part in sys.path if part)
        return subprocess.run(
            [sys.executable, "-m", "alloyd.cli", *words, "--no-daemon"],
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            capture_output=True,
        )

    return run
