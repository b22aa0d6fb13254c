"""docs/alloy.1: the manual page of ``alloy``, from the command line's own parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from alloyd import __version__, cli


def page() -> str:
    """The whole page, as roff."""
    return "\n".join(_lines(cli.parser())) + "\n"


def _lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    (verbs,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    yield f'.TH ALLOY 1 "" "alloyd {__version__}" "User Commands"'
    yield from (
        ".SH NAME",
        "alloy \\- merge large language models out of core, score them, search for the best recipe",
    )
    yield from (".SH SYNOPSIS", ".B alloy", ".I VERB", "[\\fIOPTIONS\\fR]")
    yield from (".SH DESCRIPTION", _text(parser.description or ""))
    yield from (".SH COMMANDS",)
    for choice in verbs._choices_actions:
        yield from _verb(choice.dest, choice.help or "", verbs.choices[choice.dest])
    yield from (".SH GLOBAL OPTIONS",)
    for action in parser._actions:
        if action.option_strings:
            yield from _option(action)
    yield from (
        ".SH EXAMPLES AND EXIT STATUS",
        ".nf",
        *map(_text, (parser.epilog or "").strip().splitlines()),
        ".fi",
    )
    yield from (
        ".SH FILES",
        ".TP",
        "~/.local/state/alloyd",
        "The daemon's home: jobs, events, logs, results.",
    )
    yield from (".TP", "~/.config/alloyd/config.toml", "Settings; 'alloy config' shows those that count.")


def _verb(name: str, text: str, verb: argparse.ArgumentParser) -> Iterator[str]:
    """One command, and then those that are said behind it."""
    nested = [each for each in verb._actions if isinstance(each, argparse._SubParsersAction)]
    yield f".SS {_text(name)}"
    words = [_positional(action) for action in verb._actions if not action.option_strings]
    yield _text(" ".join(["alloy", name, "[OPTIONS]", *words]))
    yield from (".PP", _text(text))
    for action in verb._actions:
        if "--help" not in action.option_strings and action not in nested:
            yield from _option(action)
    for group in nested:
        for choice in group._choices_actions:
            yield from _verb(f"{name} {choice.dest}", choice.help or "", group.choices[choice.dest])


def _positional(action: argparse.Action) -> str:
    """A positional argument as a usage line has it."""
    word = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    word += "..." if action.nargs == "+" else ""
    return f"[{word}]" if action.nargs == "?" else word


def _option(action: argparse.Action) -> Iterator[str]:
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if not metavar and action.choices and action.nargs != 0:
        metavar = "{" + ",".join(map(str, action.choices)) + "}"
    yield ".TP"
    names = ", ".join(f"\\fB{_text(name)}\\fR" for name in action.option_strings)
    value = f"\\fI{_text(metavar or action.dest.upper())}\\fR" if action.nargs != 0 else ""
    yield " ".join(each for each in (names, value) if each)
    yield _text((action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%"))


def _text(text: str) -> str:
    """``text`` safe for roff."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + safe if safe.startswith((".", "'")) else safe
