"""The examples and the commented defaults that people copy are true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from alloyd import recipe
from alloyd.jobs import Finished, MergeSpec
from alloyd.specs import recipe_fields
from alloyd_daemon import settings
from alloyd_daemon.job import JOBS, Context
from extras import need
from house.tree import ROOT

RECIPES = sorted(file for suffix in ("yaml", "yml") for file in (ROOT / "configs").rglob(f"*.{suffix}"))


def test_there_are_examples() -> None:
    assert len(RECIPES) >= 3


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_an_example_recipe_loads_without_a_warning(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith("#"), "an example says what it is for"
    found = recipe.load(text, name=file.name)
    assert found
    assert not [warning for each in found for warning in each.warnings]


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_an_example_recipe_merges(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given at the root of the repository, as its first lines say, over the zoo's models."""
    if "format: gguf" in file.read_text(encoding="utf-8"):
        need("gguf", "llama_cpp", "gguf")
    monkeypatch.chdir(ROOT)
    spec = MergeSpec(**recipe_fields(file), out=str(tmp_path / "merged"))
    context = Context(home=tmp_path / "home", settings=settings.Settings(), job_id="merge-1")
    context.home.mkdir()
    *_, last = JOBS.get("merge").run(spec, context)
    assert isinstance(last, Finished)
    assert last.result["non_finite"] == 0
    assert (tmp_path / "merged" / "config.json").exists()


def test_the_commented_defaults_are_the_defaults() -> None:
    file = ROOT / "configs" / "alloyd.toml"
    loaded = settings.load(config=file, environ={}).settings
    assert loaded == settings.Settings()
    # Commented or not, every setting is in the file, at its default.
    text = re.sub(r"(?m)^# ?(?=[a-z_]+ = )", "", file.read_text(encoding="utf-8"))
    assert msgspec.convert(tomllib.loads(text), settings.Settings) == settings.Settings()
    written = {(section, key) for section, keys in tomllib.loads(text).items() for key in keys}
    assert written == {
        (section, key) for section, keys in msgspec.to_builtins(settings.Settings()).items() for key in keys
    }
