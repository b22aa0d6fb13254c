"""Errors quote what others wrote: a message stays one line that can be printed, and no longer than can be read."""

from __future__ import annotations

import json

import pytest

from alloyd.errors import LONGEST, MOST_PROBLEMS, AlloydError, Problems, RecipeError, raise_all


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("two\nlines", r"two\nlines"),
        ("\x1b[2Jred", r"\x1b[2Jred"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("half \udc80", r"half \udc80"),
        (" blanks\n", "blanks"),
        ("Ünïcödé 😀 ×", "Ünïcödé 😀 ×"),
    ],
)
def test_a_message_and_its_hint_are_one_plain_line(text: str, message: str) -> None:
    error = RecipeError(text, hint=text, key=text)
    assert (error.message, error.hint, str(error)) == (message, message, message)
    assert AlloydError.from_dict(json.loads(json.dumps(error.to_dict()))).message == message


def test_what_is_very_long_is_shortened() -> None:
    error = RecipeError("begin " + "\0" * 10**6 + " end", key="k" * 10**6)
    assert error.message.startswith("begin ")
    assert error.message.endswith(" end")
    assert len(error.message) <= LONGEST
    assert len(json.dumps(error.to_dict())) < 3 * LONGEST


def test_of_very_many_problems_the_first_are_told() -> None:
    with pytest.raises(Problems) as caught:
        raise_all([RecipeError(f"problem {number}", hint="Mend it.") for number in range(5000)])
    told = caught.value.problems
    assert [each.message for each in told[:2]] == ["problem 0", "problem 1"]
    assert told[-1].message == "4,901 more problems like these"
    assert len(told) == MOST_PROBLEMS
    assert caught.value.status == 3


def test_problems_among_problems_stand_beside_the_others() -> None:
    inner = Problems([RecipeError("b"), RecipeError("c")])
    assert [each.message for each in Problems([RecipeError("a"), inner]).problems] == ["a", "b", "c"]
