"""docs/gguf.md lists what the tables have."""

from __future__ import annotations

import re
from pathlib import Path

from alloyd_daemon.gguf import ggml, pretokenizer, types
from alloyd_daemon.gguf.architecture import GGUF_ARCHITECTURES
from extras import need

need("gguf", "llama_cpp", "gguf")
PAGE = (Path(__file__).parents[2] / "docs" / "gguf.md").read_text(encoding="utf-8")


def _section(name: str) -> str:
    found = re.search(rf"^## {name}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_every_architecture_is_listed_with_its_name_in_llama_cpp() -> None:
    rows = re.findall(r"^\| (`.*) \| (\w+) \|$", _section("Architectures"), re.MULTILINE)
    written = {name: arch for names, arch in rows for name in re.findall(r"`(\w+)`", names)}
    assert written == {name: table.model_arch.lower() for name, table in GGUF_ARCHITECTURES.items()}


def test_every_type_is_listed() -> None:
    written = re.findall(r"\b[A-Z]+\d[A-Z0-9_]*\b", _section("Types").split("\n\n")[1])
    assert sorted(written) == sorted(types.file_types())


def test_every_pre_tokenizer_is_listed() -> None:
    found = re.search(r"pre-tokenizers: (.*?)\. They", _section("Vocabulary"), re.DOTALL)
    assert found
    assert {name.strip() for name in found[1].split(",")} == set(pretokenizer._NAMES.values())


def test_the_bound_on_values_is_the_encoders() -> None:
    assert ggml.LARGEST == 1e6
    assert "beyond a million" in PAGE
