"""docs/data-flow.md says what the code does: its keys are the spec's, its architectures those that declare a fold."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from alloyd.search_schema import DataFlow
from alloyd_daemon.architecture import ARCHITECTURES
from alloyd_daemon.search.folding import MOST
from alloyd_daemon.search.weighted_form import METHODS

PAGE = (Path(__file__).parents[2] / "docs" / "data-flow.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())


def test_every_key_of_a_path_is_shown() -> None:
    shown = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert shown
    keys = yaml.safe_load(shown[1])["path"].keys()
    assert keys | {"after", "share"} == set(DataFlow.__struct_fields__)
    assert "after: true" in PAGE


def test_every_architecture_that_folds_is_listed() -> None:
    listed = re.search(r"factors of both signs: (.*?)\. An architecture", TEXT)
    assert listed
    found = {name.strip() for name in listed[1].split(",")}
    declared = {name for name, each in ARCHITECTURES.items() if each.fold is not None} - {"LLaMaForCausalLM"}
    assert found == {re.sub(r"(ForCausalLM|LMHeadModel)$", "", name) for name in declared}


def test_the_bounds_and_methods_are_the_codes() -> None:
    assert f"more than {MOST:.0e}".replace("+0", "") in TEXT
    assert f"({', '.join(f'`{name}`' for name in METHODS)})" in TEXT
