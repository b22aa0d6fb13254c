"""Readers of what people write: recipes, search specs, rules, task files, settings."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import tempfile
from pathlib import Path

from alloyd import recipe, search_reader, task_file
from alloyd.errors import AlloydError

from . import corpus
from .mutations import JSON, Mutator
from .target import NAME, PLACES, Target, methods, yaml_cases


def recipe_text() -> Target:
    return Target(yaml_cases(corpus.recipes())[0], read_recipe, (NAME,))


def recipe_tree() -> Target:
    return Target(yaml_cases(corpus.recipes())[1], read_recipe, (NAME,))


def read_recipe(text: str) -> object:
    read = recipe.load(text, name=NAME, lenient=len(text) % 2 == 0)
    return recipe.in_order(read, name=NAME)


def search_text() -> Target:
    return Target(yaml_cases(corpus.searches())[0], read_search, (NAME,))


def search_tree() -> Target:
    return Target(yaml_cases(corpus.searches())[1], read_search, (NAME,))


def read_search(text: str) -> object:
    return search_reader.absolute(search_reader.read(text, name=NAME), Path("/folder"))


def outline() -> Target:
    """Recipes that are laid over models that exist as names, shapes and configs."""
    from alloyd_daemon.recipes.assign import assign
    from alloyd_daemon.recipes.outline import Model
    from outlines import family

    held = {"a": family(), "b": family(vocab=98), "c": family("mistral")}
    trees = [
        {
            "merge_method": method,
            "base_model": "a",
            "models": [{"model": name, "parameters": {"weight": [0.5, 1]}}, {"model": "e"}],
            "parameters": parameters,
        }
        for method in methods()
        for name in ("d", "b", "c")
        for parameters in (
            {},
            {"weight": [{"filter": "mlp", "value": [0, 1]}, {"value": 1}], "density": 0.5},
            {"t": 0.5},
        )
    ]
    trees += corpus.trees(corpus.recipes())
    words = (*corpus.words(*trees), *methods())

    def make(chance: random.Random) -> str:
        mutator = Mutator(chance, words)
        return json.dumps(mutator.graft(copy.deepcopy(mutator.pick(sound))))

    def read(text: str) -> object:
        lenient = len(text) % 2 == 0
        found = []
        for each in recipe.load(text, name=NAME, lenient=lenient):
            refs = each.referenced_models()
            models = [held.get(ref.path, held["a"]) for ref in refs]
            found.append(
                assign(
                    each,
                    [Model(str(ref), Path("/models") / f"{place}") for place, ref in enumerate(refs)],
                    [model.tensors for model in models],
                    [model.config for model in models],
                    vocabularies=[ref.path for ref in refs] if len(text) % 3 else [],
                    lenient=lenient,
                )
            )
        return found

    sound = []
    for tree in trees:
        with contextlib.suppress(AlloydError):
            read(json.dumps(tree))
            sound.append(tree)
    return Target(make, read, PLACES)


def dropped() -> Target:
    """What lies in a watched folder: recipes and specs, told apart and held to its roots."""
    from alloyd_daemon.watch.dropped import Dropped, confine, kind_of

    texts = (*corpus.recipes(), *corpus.searches())
    scrawled, grafted = yaml_cases(texts)

    def make(chance: random.Random) -> bytes:
        text = (scrawled if chance.random() < 0.5 else grafted)(chance)
        data = text.encode("utf-8", "surrogatepass")
        return Mutator(chance).data(data) if chance.random() < 0.2 else data

    def read(data: bytes) -> object:
        _, text = kind_of(Dropped(NAME, data))
        confine(text, NAME, Path("/tmp"), [Path("/tmp")])
        return text

    return Target(make, read, (NAME,))


def rules() -> Target:
    """Rules of a watched folder, and the templates that they name."""
    from alloyd import watch_rules

    kept = tempfile.TemporaryDirectory(prefix="alloyd-fuzz-")
    root = Path(kept.name)
    recipe_text = "merge_method: linear\nmodels: [{model: '{model}'}, {model: '{base}'}]\n"
    (root / "soup.yaml").write_text(recipe_text.replace("base", "soup"))
    (root / "search.yaml").write_text(corpus.EVERY_KNOB.replace("model: b", "model: '{model}'"))
    scrawled, grafted = yaml_cases((corpus.RULES,))
    templates = yaml_cases((recipe_text, corpus.RULES))[0]

    def make(chance: random.Random) -> tuple[str, str]:
        text = (scrawled if chance.random() < 0.4 else grafted)(chance)
        return (corpus.RULES, templates(chance)) if chance.random() < 0.3 else (text, recipe_text)

    def read(case: tuple[str, str]) -> object:
        assert kept
        (root / "template.yaml").write_bytes(case[1].encode("utf-8", "surrogatepass"))
        return watch_rules.read(case[0], name=NAME, folder=root)

    return Target(make, read, (NAME, "rule", "template"))


def task() -> Target:
    words = (
        "id",
        "prompt",
        "context",
        "question",
        "text",
        "choices",
        "answer",
        "gold",
        "category",
        "here",
        "1",
    )

    def make(chance: random.Random) -> bytes:
        mutator = Mutator(chance, words)
        way = chance.randrange(3)
        kinds = [mutator.pick(corpus.TASK)] if chance.random() < 0.7 else corpus.TASK
        items = [{**mutator.pick(kinds), "id": str(number)} for number in range(chance.randrange(4))]
        if way == 0:
            items = [mutator.tree(each) for each in items]
        text = "".join(json.dumps(each, ensure_ascii=chance.random() < 0.5) + "\n" for each in items)
        if way == 1:
            text = mutator.text(text, (*JSON, *words))
        data = text.encode("utf-8", "surrogatepass")
        return mutator.data(data) if way == 2 else data

    return Target(make, lambda data: task_file.parse(data, "fuzzed.jsonl"), ("fuzzed.jsonl",))


def evaluated_task() -> Target:
    """Task files read to the end by whatever evaluator their keys tell, or one that is named."""
    from alloyd_daemon import tasks
    from alloyd_daemon.evaluator import Choices

    kept = tempfile.TemporaryDirectory(prefix="alloyd-fuzz-")
    file = Path(kept.name) / "fuzzed.jsonl"
    make = task().make
    names = ("", "", "", "multiple_choice:", "perplexity:", "gold_answer:", "exact_match:")

    def read(data: bytes) -> object:
        assert kept
        file.write_bytes(data)
        return tasks.resolve([f"{names[len(data) % len(names)]}{file}"], Choices())

    return Target(make, read, ("fuzzed.jsonl",))


def settings() -> Target:
    """A configuration file, and variables beside it."""
    import msgspec

    from alloyd_daemon.settings import Settings, load
    from house.tree import ROOT

    kept = tempfile.TemporaryDirectory(prefix="alloyd-fuzz-")
    file = Path(kept.name) / "fuzzed.toml"
    text = (ROOT / "configs" / "alloyd.toml").read_text("utf-8").replace("# ", "")
    sections = msgspec.to_builtins(Settings())
    keys = [(section, key) for section, values in sections.items() for key in values]
    words = (
        *sections,
        *(key for _, key in keys),
        "25%",
        "1GB",
        "tcp://0.0.0.0:5757",
        "[",
        "]",
        "=",
        "''",
        '"',
        "[[a]]",
    )
    bare = "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        for section, values in sections.items()
    )

    def make(chance: random.Random) -> tuple[bytes, dict[str, str]]:
        mutator = Mutator(chance, words)
        written = mutator.text(mutator.pick((bare, text)), (*words, *JSON)).encode("utf-8", "surrogatepass")
        if chance.random() < 0.1:
            written = mutator.data(written)
        environ = {}
        if chance.random() < 0.5:
            written = b""
            for section, key in chance.sample(keys, 3):
                value = mutator.strange()
                said = value if isinstance(value, str) else json.dumps(value)
                environ[f"ALLOYD_{section}_{key}".upper()] = said.replace("\0", "")
        return written, environ

    def read(case: tuple[bytes, dict[str, str]]) -> object:
        assert kept
        file.write_bytes(case[0])
        settings = load(config=file, environ=case[1]).settings
        return (
            settings.memory_bytes(),
            settings.cache_bytes(),
            settings.model_roots(),
            settings.remote_roots(),
        )

    return Target(make, read, ("fuzzed.toml",))
