"""What people set of the engine is read strictly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alloyd.errors import UsageError
from alloyd_daemon.llama.options import KEYS, EngineOptions


def test_options_are_read_and_those_of_others_left_alone() -> None:
    settings = {
        "kv": "f32",
        "flash": "on",
        "gpu_layers": "12",
        "imatrix": "/a.dat",
        "tokenizer": "/models/one",
        "language": "de",
    }
    assert EngineOptions.read(settings) == EngineOptions(True, True, 12, Path("/a.dat"), Path("/models/one"))
    assert EngineOptions.read({}) == EngineOptions(False, False, -1, None, None)


@pytest.mark.parametrize("key", KEYS)
def test_a_value_that_makes_no_sense_is_refused_by_name(key: str) -> None:
    with pytest.raises(UsageError, match=key):
        EngineOptions.read({key: "some"})


@pytest.mark.parametrize("layers", ["-1", "9" * 20, "9" * 5000, "\N{SUPERSCRIPT TWO}"])
def test_layers_are_a_number_that_llama_cpp_can_take(layers: str) -> None:
    with pytest.raises(UsageError, match="gpu_layers"):
        EngineOptions.read({"gpu_layers": layers})


def test_the_docs_list_every_option_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "quantised.md").read_text(encoding="utf-8")
    _, _, table = page.partition("| `--option` |")
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`)? *\|", table, re.MULTILINE)
    assert {key for key, _ in rows} == set(KEYS)
    assert EngineOptions.read({key: value for key, value in rows if value}) == EngineOptions()
