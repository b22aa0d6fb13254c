"""What the tests of GGUF share: small models of every family, and llama.cpp's own converter as the truth about them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from extras import absent, need
from gguf_support.tiny_models import MODELS, write_model

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "zoo" / "models" / "base"
RUNNER = Path(__file__).resolve().parents[1] / "gguf_support" / "converter_runner.py"

# Read before any test takes such settings away.
_STATED = os.environ.get("ALLOYD_LLAMA_SOURCE")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alloyd" / "gguf"


def _archive() -> Path | None:
    if _STATED:
        return Path(_STATED)
    found = sorted(_CACHE.glob("llama_cpp_python-*.tar.gz"))
    return found[-1] if found else None


@pytest.fixture(scope="session")
def llama_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """llama.cpp's source with its converter, unpacked."""
    archive = _archive()
    if archive is None or not archive.is_file():
        absent(
            "gguf",
            "llama.cpp's converter is not here: `make install-gguf`, or ALLOYD_LLAMA_SOURCE=llama_cpp_python-*.tar.gz",
        )
    folder = tmp_path_factory.mktemp("llama-source")
    wanted = tuple(
        f"/vendor/llama.cpp/{name}" for name in ("conversion/", "gguf-py/gguf/", "convert_hf_to_gguf")
    )
    with tarfile.open(archive) as packed:
        members = [each for each in packed if any(part in f"/{each.name}" for part in wanted)]
        packed.extractall(folder, members=members, filter="data")
    (found,) = folder.glob("*/vendor/llama.cpp")
    return found


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of the small model of that name; ``zoo`` is the base of the zoo."""
    need("gguf", "transformers", "sentencepiece")
    home = tmp_path_factory.mktemp("tiny-models")

    def get(name: str) -> Path:
        if name == "zoo":
            return ZOO
        folder = home / name
        return folder if folder.is_dir() else write_model(folder, name)

    return get


@pytest.fixture(scope="session")
def converted(
    models: Callable[[str], Path], llama_source: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Every small model and the zoo's base as the converter writes them in F32, name to file."""
    home = tmp_path_factory.mktemp("converted")
    requests = []
    for name in [*MODELS, "zoo"]:
        tokenizer = "none" if name == "zoo" else MODELS[name][1]
        requests.append(
            {
                "folder": str(models(name)),
                "out": str(home / f"{name}.gguf"),
                "type": "f32",
                "vocabulary": "" if tokenizer.startswith("sentencepiece") else tokenizer,
            }
        )
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(llama_source)],
        input="\n".join(json.dumps(each) for each in requests),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {name: home / f"{name}.gguf" for name in [*MODELS, "zoo"]}
