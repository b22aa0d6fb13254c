"""What a reader of foreign input may do: hand back a value, or raise one clear AlloydError. Nothing else."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Final

import msgspec

from alloyd.errors import REGISTRY, AlloydError, Problems

LONGEST: Final = 1_000
"""Characters of a message: more than a person reads, and less than what fills a log."""
PLACES: Final = ("key", "file", "path", "tensor", "model", "name", "value", "job")
"""Facts that say what an error is about."""
SHOWN: Final = 200
"""Of several problems, how many are looked at closely."""


def judge(read: Callable[[], object], *, named: tuple[str, ...]) -> str:
    """``valid``, or the code of the error that ``read`` raised; AssertionError for an error that is not clear.

    ``named``: one of these the message must hold, unless its facts say which file or key it is about.
    """
    try:
        read()
    except AlloydError as error:
        check(error, named=named)
        return error.code
    return "valid"


def check(error: AlloydError, *, named: tuple[str, ...] = ()) -> None:
    """That an error, and each of those it gathers, says in one line what is wrong where, and what would help."""
    several = error.problems if isinstance(error, Problems) else (error,)
    assert several, "several problems, and none of them"
    for each in several[:SHOWN]:
        assert type(each).code in REGISTRY
        assert "internal error" not in each.message, each.message[:500]
        for what, text in (("message", each.message), ("hint", each.hint)):
            assert text.strip() == text, f"the {what} has blanks around it: {text[:200]!r}"
            assert text, f"no {what}: {each.message[:200]!r}"
            assert len(text) <= LONGEST, f"a {what} of {len(text)} characters: {text[:200]!r}"
            odd = [letter for letter in text if unicodedata.category(letter) in ("Cc", "Zl", "Zp")]
            assert not odd, f"a {what} of more than one plain line: {text[:200]!r}"
        place = any(each.facts.get(fact) for fact in PLACES)
        assert place or any(name in each.message for name in named), (
            f"it names no file or key: {each.message[:200]!r}"
        )
    sent = msgspec.json.encode(error.to_dict())
    assert len(sent) < 2**20, f"an error of {len(sent)} bytes"
    assert AlloydError.from_dict(msgspec.json.decode(sent)).code == error.code
