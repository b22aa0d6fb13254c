"""Reads the rules of a watched folder strictly: which new models it waits for, and what is done with each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from . import recipe as recipes
from . import recipe_file, search_reader
from .document_reader import DocumentReader
from .errors import AlloydError, RecipeError, UsageError, raise_all
from .paths import expanded
from .strict_yaml import Document, Plain, documents
from .strict_yaml import Path as Place
from .watch_schema import KEEP, Kind, Rule, Soup

PLACEHOLDER: Final = re.compile(r"\{\s*(model|soup|base)\s*\}")
"""What stands in a template for the new model, the running soup and the rule's base."""
MOST_RULES: Final = 100
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_EXAMPLE: Final = 'For example on_model: [{match: "*-ft", recipe: soup.yaml}].'


def load(path: Path) -> tuple[Rule, ...]:
    """The rules in a file, with the templates that they name, which lie beside it.

    Raises
    ------
    UsageError
        A file that cannot be read.
    RecipeError, Problems
        What is wrong in it, with the line; all mistakes together.
    """
    return read(recipe_file.read(path, what="rules file"), name=path.name, folder=path.parent)


def read(text: str, *, name: str, folder: Path) -> tuple[Rule, ...]:
    """The rules in ``text``, which messages call ``name``; templates lie in ``folder``. See :func:`load`."""
    found = documents(text, name=name)
    if len(found) != 1:
        what = "is empty" if not found else f"holds {len(found)} documents"
        raise RecipeError(f"{name} {what}, and rules are one document", hint=_EXAMPLE, file=name)
    reader = RulesReader(found[0], name, folder)
    rules = reader.rules()
    raise_all(sorted(reader.problems, key=lambda each: int(each.facts.get("line") or 0)))
    check(rules)
    return rules


def check(rules: Sequence[Rule]) -> None:
    """Refuse rules whose templates are no recipes or search specs, or do not fit them.

    Raises
    ------
    AlloydError
        What is wrong with the first such rule, with the template's line.
    """
    names = [each.name for each in rules]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"two rules are called '{twice}'", hint="Give one of them a name of its own.", key="name"
        )
    for each in rules:
        _check(each)


def _check(rule: Rule) -> None:
    what = f"the {rule.kind} of the rule '{rule.name}'"
    if not _NAME.fullmatch(rule.name):
        raise UsageError(
            f"'{rule.name}' cannot be the name of a rule: it becomes part of file names",
            hint="Use letters, digits, '.', '_' and '-', at most 80.",
            key="name",
        )
    named = set(PLACEHOLDER.findall(rule.template))
    for placeholder, wanted, there, cure in (
        ("model", True, True, "Write {model} where the new model goes."),
        ("soup", rule.soup is not None, rule.soup is not None, "Write {soup} where the running soup goes."),
        ("base", False, bool(rule.base), "Give the rule a base, or name the model itself."),
    ):
        if wanted and placeholder not in named:
            raise RecipeError(f"{what} names {{{placeholder}}} nowhere", hint=cure, file=rule.name)
        if placeholder in named and not there:
            hint = cure if placeholder == "base" else "Give the rule a soup, or name the model itself."
            raise RecipeError(f"{what} names {{{placeholder}}}, which it has not", hint=hint, file=rule.name)
    # Every placeholder by a plain path: the text keeps its lines.
    text = PLACEHOLDER.sub(r"/\1", rule.template)
    if rule.kind == "search":
        search_reader.read(text, name=what)
    else:
        recipes.load(text, name=what)


class RulesReader(DocumentReader):
    """Reads one file of rules, collecting what is wrong with it."""

    what = "the rules"

    def __init__(self, document: Document, name: str, folder: Path) -> None:
        super().__init__(document, name, lenient=False)
        self.folder = folder

    def rules(self) -> tuple[Rule, ...]:
        """The whole document; what is wrong is left out."""
        fields = self.mapping(self.document.value, (), ("on_model",))
        if "on_model" not in fields:
            if not self.problems:
                self.problem((), "the rules need the key 'on_model'", _EXAMPLE)
            return ()
        found = self.entries(fields["on_model"], ("on_model",), self.rule)
        names = [each.name for each in found]
        for index, each in enumerate(found):
            if each.name in names[:index]:
                self.problem(
                    ("on_model", index),
                    f"two rules are called '{each.name}'",
                    "Give one of them a name of its own: name: ...",
                )
        if len(found) > MOST_RULES:
            self.problem(
                ("on_model",),
                f"there are {len(found)} rules, at most {MOST_RULES} are possible",
                "Share them out among several folders, or let one pattern match more: match: '*-ft'.",
            )
        return found

    def rule(self, value: Plain, place: Place) -> Rule | None:
        """One rule, or ``None`` when something is wrong with it."""
        before = len(self.problems)
        known = ("name", "match", "base", "recipe", "search", "soup")
        fields = {key: each for key, each in self.mapping(value, place, known).items() if each is not None}
        if isinstance(value, dict) and "match" not in fields:
            message = f"{self.dotted(place)} needs the key 'match'"
            self.needs(place, ("match",), message, 'A pattern, such as match: "*-ft".')
        kinds = [key for key in ("recipe", "search") if key in fields]
        if isinstance(value, dict) and len(kinds) != 1:
            self.needs(
                place,
                () if kinds else ("recipe", "search"),
                f"{self.dotted(place)} needs either 'recipe' or 'search'",
                "It names a file that lies beside this one, in which {model} stands for the new model.",
            )
        match = self.texts(fields["match"], (*place, "match")) if "match" in fields else ()
        kind: Kind = "search" if kinds == ["search"] else "recipe"
        file = self.text(fields[kinds[0]], (*place, kinds[0])) if kinds else None
        template = "" if file is None else self.template(file, (*place, kind))
        name = self.text(fields["name"], (*place, "name")) if "name" in fields else None
        base = self.text(fields["base"], (*place, "base")) if "base" in fields else None
        soup = self.soup(fields["soup"], (*place, "soup")) if "soup" in fields else None
        if "soup" in fields and kind == "search":
            self.problem((*place, "soup"), "a search makes no soup", "Give the rule a recipe.")
        if len(self.problems) > before:
            return None
        return Rule(
            name=name or Path(file or "").name.partition(".")[0],
            match=match,
            kind=kind,
            template=template,
            base=base or "",
            soup=soup,
        )

    def template(self, file: str, place: Place) -> str:
        """The text of a template; empty, with the problem noted, where it cannot be read."""
        path = self.folder / expanded(file)
        try:
            return recipe_file.read(path, what=str(place[-1]))
        except AlloydError as wrong:
            self.problem(place, wrong.message, wrong.hint)
            return ""

    def soup(self, value: Plain, place: Place) -> Soup | None:
        """A running soup, or ``None`` when something is wrong with it."""
        before = len(self.problems)
        known = ("start", "score", "keep")
        fields = {key: each for key, each in self.mapping(value, place, known).items() if each is not None}
        for key, example in (
            ("start", "start: ../zoo/models/math, the model that it begins with."),
            ("score", "score: tasks.jsonl, the task that decides."),
        ):
            if isinstance(value, dict) and key not in fields:
                self.needs(place, (key,), f"{self.dotted(place)} needs the key '{key}'", example)
        start = self.text(fields["start"], (*place, "start")) if "start" in fields else None
        score = self.texts(fields["score"], (*place, "score")) if "score" in fields else ()
        wanted = fields.get("keep", KEEP[0])
        keep = next((each for each in KEEP if each == wanted), None)
        if keep is None:
            self.problem(
                (*place, "keep"),
                f"{self.dotted((*place, 'keep'))} must be {' or '.join(KEEP)}, not {wanted}",
                f"Write keep: {KEEP[0]}, or leave it out, which means the same.",
            )
        if len(self.problems) > before or keep is None:
            return None
        return Soup(start=start or "", score=score, keep=keep)
