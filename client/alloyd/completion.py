"""Completion scripts for bash, zsh and fish, made from the command line's own parser."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Final

from . import words_queue

JOB_VERBS = ("show", "logs", "events", "wait", "cancel", "pause", "resume", "report", *words_queue.JOB_VERBS)
JOBS: Final = "$(alloy ps --all --quiet --no-start 2>/dev/null)"
"""Whoever presses TAB does not mean to start a daemon; without one nothing is completed."""


@dataclass(frozen=True, slots=True)
class Verb:
    """What follows a verb: its long options, each with its explanation, those of them that take a job, and the words
    of which one must come first, if there are such."""

    text: str
    options: tuple[tuple[str, str], ...]
    of_jobs: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for ``shell``: verbs, each verb's options, ids of jobs where a job is meant, else files."""
    verbs = _verbs(parser)
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](verbs)


def _verbs(parser: argparse.ArgumentParser) -> dict[str, Verb]:
    found: dict[str, Verb] = {}
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        for choice in action._choices_actions:
            one = action.choices[choice.dest]
            first = next((each for each in one._actions if not each.option_strings), None)
            words = tuple(map(str, (first and first.choices) or ()))
            inner = list(first.choices.values()) if isinstance(first, argparse._SubParsersAction) else []
            options = {
                name: option
                for each in (one, *inner)
                for option in each._actions
                for name in option.option_strings
                if name.startswith("--")
            }
            found[choice.dest] = Verb(
                choice.help or "",
                tuple((name, (option.help or "").replace("%%", "%")) for name, option in options.items()),
                frozenset(name for name, option in options.items() if option.metavar == "JOB"),
                words,
            )
    return found


def _bash(verbs: dict[str, Verb]) -> str:
    cases = "\n".join(
        f"    {name}) options='{' '.join(option for option, _ in verb.options)}' ;;"
        for name, verb in verbs.items()
    )
    of_jobs = "|".join(
        f'"{name} {option}"' for name, verb in verbs.items() for option in sorted(verb.of_jobs)
    )
    words = "\n".join(
        f"""    "{name} 2") COMPREPLY=($(compgen -W '{" ".join(verb.words)}' -- "$word")); return ;;"""
        for name, verb in verbs.items()
        if verb.words
    )
    return f"""\
_alloy() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} verb=${{COMP_WORDS[1]}} options= before=
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '{" ".join(verbs)} --help --version' -- "$word")); return
  fi
  before=${{COMP_WORDS[COMP_CWORD-1]}}
  if [ "$word" = = ]; then word=; elif [ "$before" = = ]; then before=${{COMP_WORDS[COMP_CWORD-2]}}; fi
  case $verb in
{cases}
  esac
  case "$verb $before" in
    {of_jobs}) COMPREPLY=($(compgen -W "{JOBS}" -- "$word")); return ;;
  esac
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$word")); return
  fi
  case "$verb $COMP_CWORD" in
{words}
  esac
  case $verb in
    {"|".join(JOB_VERBS)}) COMPREPLY=($(compgen -W "{JOBS}" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
}}
complete -o filenames -F _alloy alloy"""


def _zsh(verbs: dict[str, Verb]) -> str:
    return f"#compdef alloy\nautoload -U +X bashcompinit && bashcompinit\n{_bash(verbs)}"


def _fish(verbs: dict[str, Verb]) -> str:
    jobs = f"-a '{JOBS.removeprefix('$')}'"
    lines = ["complete -c alloy -f -n __fish_use_subcommand -l help -l version"]
    for name, verb in verbs.items():
        lines.append(f"complete -c alloy -f -n __fish_use_subcommand -a {name} -d {_quoted(verb.text)}")
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        if name in JOB_VERBS:
            lines.append(f"complete -c alloy -f {seen} {jobs}")
        elif verb.words:
            words = " ".join(verb.words)
            said = f"__fish_seen_subcommand_from {words}"
            lines.append(
                f"complete -c alloy -f -n '__fish_seen_subcommand_from {name}; and not {said}' -a '{words}'"
            )
            lines.append(f"complete -c alloy -F -n '__fish_seen_subcommand_from {name}; and {said}'")
        else:
            lines.append(f"complete -c alloy -F {seen}")
        for option, text in verb.options:
            takes = f" -x {jobs}" if option in verb.of_jobs else ""
            lines.append(f"complete -c alloy {seen} -l {option.removeprefix('--')}{takes} -d {_quoted(text)}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
