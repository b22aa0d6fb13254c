"""Errors quote what others wrote: a message stays one line that can be printed, and no longer than can be read."""

from __future__ import annotations

import argparse
import json
import sys

import pytest

from alloyd import cli_jobs
from alloyd.console import Console
from alloyd.errors import LONGEST_FACT, MOST_PROBLEMS, AlloydError, Problems, RecipeError, raise_all
from alloyd.foreign import LONGEST, LONGEST_NAME, in_one_line, printable
from alloyd.wire import LogPiece


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
    assert len(json.dumps(error.to_dict())) < 3 * LONGEST_FACT


def test_the_sentence_around_a_long_name_stays_whole() -> None:
    for name in ("n" * 10**5, "two words " * 10**4, "\x1b[31m" * 10**5):
        text = in_one_line(f"the keys '{name}' and '{name}' are none of a, b and c")
        assert text.startswith("the keys '")
        assert text.endswith("' are none of a, b and c")
        assert len(text) < 3 * LONGEST_NAME
    path = "/home/someone/models/" + "x" * 200 + "/model.safetensors"
    apart = f"the model's file {path} isn't '{path}', and the recipe's weights aren't these"
    assert in_one_line(apart) == apart


def test_a_terminal_obeys_nothing_that_it_shows() -> None:
    assert printable("a\tb\n\x1b[2J \u200b \u202e \ud800 é") == "a\tb\n\\x1b[2J \\u200b \\u202e \\ud800 é"


def test_a_log_on_a_terminal_moves_no_cursor_and_in_a_pipe_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "10 %\r20 %\n\x1b[2Jdone\n"

    class Daemon:
        def __enter__(self) -> Daemon:
            return self

        def __exit__(self, *_: object) -> None: ...

        def log(self, name: str, *, offset: int) -> LogPiece:
            return LogPiece(said, offset, offset + 1, True)

    monkeypatch.setattr(cli_jobs, "_client", lambda options: Daemon())
    options = argparse.Namespace(job="merge-1", daemon=False, follow=False)
    for terminal, shown in ((True, "10 %\n20 %\n\\x1b[2Jdone\n"), (False, said)):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        assert cli_jobs.logs(options, Console()) == 0
        assert capsys.readouterr().out == shown


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
