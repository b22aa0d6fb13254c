"""The language of an answer: identified, by script, by shape."""

from __future__ import annotations

import sys

import pytest

from alloyd.errors import TaskError, UsageError
from alloyd_daemon.scoring import language, patterns
from alloyd_daemon.scoring.language import wanted


@pytest.mark.parametrize(
    ("code", "text", "right"),
    [
        ("ja", "合計は13個です。答えは13です。", 1),
        ("ja", "The total of all apples is 13, so the answer is 13.", 0),
        ("en", "The total of all apples is 13, so the answer is 13.", 1),
        ("de", "Zusammen haben sie dreizehn Äpfel, also ist die Antwort 13.", 1),
        ("en", "13", 0),
        ("sr", "ok", 0),
        ("en", "", 0),
    ],
)
def test_a_natural_language_is_identified(code: str, text: str, right: int) -> None:
    found = wanted({"language": code}).judge(text)
    assert found["language_right"] == right
    assert 0 <= found["language_probability"] <= 1


def test_how_sure_it_must_be_can_be_said() -> None:
    text = "The answer is 13."
    sure = wanted({"language": "en"}).judge(text)["language_probability"]
    assert 0.1 < sure < 0.9
    assert wanted({"language": "en"}).judge(text)["language_right"] == 1
    assert wanted({"language": "en", "language_sure": "0.95"}).judge(text)["language_right"] == 0


@pytest.mark.parametrize(
    ("script", "text", "right"),
    [
        ("Cherokee", "ᎻᎹ ᏦᎳ 4 .", 1),
        ("Cherokee", "ᎻᎹ has 4", 0),
        ("Cherokee", "4", 0),
        ("latin", "Größe", 1),
        ("Han+Hiragana+Katakana", "答えは13です", 1),
        ("Han", "答えは13です", 0),
    ],
)
def test_a_script_is_that_of_all_letters(script: str, text: str, right: int) -> None:
    assert wanted({"script": script}).judge(text) == {"language_right": right}


def test_all_that_is_asked_must_hold() -> None:
    both = wanted({"script": "Cherokee", "fullmatch": r"\S+ \S+"})
    assert both.judge("ᎻᎹ ᏦᎳ") == {"language_right": 1}
    assert both.judge("ᎻᎹ ᏦᎳ 4") == {"language_right": 0}
    assert wanted({"fullmatch": r"\p{Cherokee}+"}).judge("ᎻᎹ") == {"language_right": 1}
    assert not wanted({})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"language": "jq"}, "knows no 'jq'"),
        ({"language": 3}, "'language' must be text"),
        ({"language": "ja", "language_sure": "often"}, "'language_sure' must be a number from 0 to 1"),
        ({"language": "ja", "language_sure": float("nan")}, "'language_sure' must be a number from 0 to 1"),
        ({"script": "Elvish"}, "no script 'Elvish'"),
        ({"script": "Latin}|."}, "no script"),
        ({"fullmatch": "("}, "'fullmatch' is no regular expression"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        wanted(options)


def test_a_missing_identifier_is_told_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    language._identifier.cache_clear()
    for name in ("py3langid", "py3langid.langid"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match="'language' needs the library 'py3langid") as refused:
        wanted({"language": "ja"})
    assert refused.value.hint == "pip install 'alloyd[language]'"
    assert wanted({"script": "Cherokee"})


def test_a_pattern_that_backtracks_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.2)
    slow = patterns.compiled(r"(a|aa)+$", "pattern")
    with pytest.raises(TaskError, match="took more than"):
        patterns.found(slow, "a" * 60 + "!", "last")
    with pytest.raises(TaskError, match="took more than"):
        patterns.fully_matches(slow, "a" * 60 + "!")
