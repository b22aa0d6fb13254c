"""Which language a text is in: by an identifier of natural languages, by script, or by the shape of the whole text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from alloyd.errors import UsageError, did_you_mean

from ..late import library
from . import options
from .patterns import compiled, fully_matches

OPTIONS: Final = {
    "language": "code of the language the answer must be in, such as ja; py3langid must find it the most likely one",
    "language_sure": "least probability of that language, such as 0.5 (default: 0)",
    "script": "Unicode script that all letters of the answer must be of, or several: Cherokee, Han+Hiragana+Katakana",
    "fullmatch": "regular expression that the whole answer must match",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the language of an answer is held to: all that is not empty."""

    language: str = ""
    sure: float = 0.0
    script: str = ""
    fullmatch: str = ""

    def __bool__(self) -> bool:
        return bool(self.language or self.script or self.fullmatch)

    def judge(self, text: str) -> dict[str, float]:
        """``language_right``: 1 or 0, and with a ``language`` also ``language_probability``, in [0, 1].

        A text without letters is in no language and no script.
        """
        values: dict[str, float] = {}
        right = True
        if self.language:
            likely, values["language_probability"] = identified(text, self.language)
            right = likely and values["language_probability"] >= self.sure
        if self.script:
            letters = [character for character in text if character.isalpha()]
            script = _script(self.script)
            right = right and bool(letters) and all(script.match(letter) for letter in letters)
        if self.fullmatch:
            right = right and fully_matches(compiled(self.fullmatch, "fullmatch"), text)
        return {"language_right": float(right), **values}


def wanted(given: Mapping[str, Any]) -> Wanted:
    """What the options ask for.

    Raises UsageError for an unknown language or script, a pattern that is none, and a missing library.
    """
    found = Wanted(
        options.text(given, "language"),
        options.share(given, "language_sure"),
        options.text(given, "script"),
        options.text(given, "fullmatch"),
    )
    if found.language and found.language not in (known := _identifier().labels):
        raise UsageError(
            f"the identifier of languages knows no '{found.language}'",
            hint=did_you_mean(found.language, known),
            key="language",
        )
    if found.script:
        _script(found.script)
    if found.fullmatch:
        compiled(found.fullmatch, "fullmatch")
    return found


def identified(text: str, language: str) -> tuple[bool, float]:
    """Whether ``language`` is the most likely one of ``text``, and its probability, by py3langid.

    It is a naive Bayes classifier over byte n-grams: sure of sentences, a guess of a word or two. A text without
    letters is in no language.
    """
    if not any(character.isalpha() for character in text):
        return False, 0.0
    ranked = _identifier().rank(text)
    # Where it recognises nothing, all languages are equally likely.
    likely = ranked[0][0] == language and ranked[0][1] > ranked[1][1]
    return likely, float(dict(ranked)[language])


@cache
def _identifier() -> Any:
    langid = library("py3langid.langid", user="the option 'language'", extra="language")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


@cache
def _script(names: str) -> Any:
    """A pattern of one character of the scripts ``names``, joined by ``+``."""
    regex = library("regex", user="the option 'script'", extra="score")
    parts = [name.strip() for name in names.split("+")]
    try:
        if not all(name.replace("_", "").isalnum() for name in parts):
            raise regex.error("no name")
        return regex.compile("[" + "".join(rf"\p{{Script={name}}}" for name in parts) + "]")
    except regex.error:
        raise UsageError(
            f"Unicode has no script '{names}'",
            hint="Write a script's name (Cherokee), or several: Han+Hiragana+Katakana.",
            key="script",
        ) from None
