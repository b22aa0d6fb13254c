"""The examples and the commented defaults that people copy are true."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from alloyd import recipe, search_reader
from alloyd.jobs import Finished, MergeSpec, PlanSpec, SearchSpec
from alloyd.specs import recipe_fields
from alloyd_daemon import settings
from alloyd_daemon.candidate import from_recipe
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.search.genome import first_point
from alloyd_daemon.search.model_shape import ModelShape
from alloyd_daemon.search.spaces.parameters import ParameterSpace
from alloyd_daemon.search.template import opened
from extras import need
from house.tree import ROOT

EXAMPLES = sorted(file for suffix in ("yaml", "yml") for file in (ROOT / "configs").rglob(f"*.{suffix}"))
SEARCHES = [file for file in EXAMPLES if file.name.startswith("search")]
RECIPES = [file for file in EXAMPLES if file not in SEARCHES]


def test_there_are_examples() -> None:
    assert len(RECIPES) >= 3
    assert SEARCHES


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


@pytest.mark.parametrize("file", SEARCHES, ids=lambda file: file.name)
def test_an_example_search_begins_at_a_candidate(file: Path, tmp_path: Path) -> None:
    """Its space is laid over the zoo's models, and where it begins is a recipe that plans and can be scored."""
    text = file.read_text(encoding="utf-8")
    assert text.startswith("#"), "an example says what it is for"
    spec = search_reader.absolute(search_reader.read(text, name=file.name), ROOT)
    assert not spec.warnings
    for split in (spec.tasks.search, spec.tasks.validation, spec.tasks.test):
        assert all(Path(each).is_file() for each in split)
    template, checkpoints = opened(spec.recipe or {}, base_dir=ROOT, settings=settings.Settings())
    space = ParameterSpace(template, ModelShape.of(checkpoints))
    assert space.genome
    assert not space.warnings
    plan = PlanSpec(json.dumps(space.recipe(first_point(space.genome))), "/")
    assert from_recipe(plan, name="first", home=tmp_path, settings=settings.Settings()).prepared.plan.tensors


@pytest.mark.parametrize("file", SEARCHES, ids=lambda file: file.name)
def test_an_example_search_finds_a_winner(file: Path, tmp_path: Path) -> None:
    """With two candidates and a few items of each task, so that it is done at once."""
    need("score", "torch", "transformers")
    need("search", "cmaes")
    fields: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    for split, names in fields["tasks"].items():
        for place, name in enumerate(names):
            few = tmp_path / f"{place}.{split}.jsonl"
            few.write_text("".join((ROOT / name).read_text(encoding="utf-8").splitlines(True)[:20]), "utf-8")
            names[place] = str(few)
    fields |= {"budget": {"candidates": 2}, "baselines": False, "finalists": 1}
    fields["rungs"][0] |= {"items": 10, "block": 10}
    spec = SearchSpec(spec=json.dumps(fields), base_dir=str(ROOT))
    context = Context(home=tmp_path / "home", settings=settings.Settings(), job_id="search-1")
    context.home.mkdir()
    *_, last = JOBS.get("search").run(spec, context)
    assert isinstance(last, Finished)
    assert (tmp_path / "home" / "searches" / "search-1" / "winner.yaml").is_file()


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
