"""Completion scripts for bash, zsh and fish, made from the command line's own parser."""

from __future__ import annotations

import argparse

from . import words_queue

JOB_VERBS = ("show", "logs", "events", "wait", "cancel", "pause", "resume", "report", *words_queue.JOB_VERBS)


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for ``shell``: verbs, each verb's options, ids of jobs where a job is meant, else files."""
    verbs = _verbs(parser)
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](verbs)


def _verbs(parser: argparse.ArgumentParser) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Each verb with its explanation and its long options."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        for choice in action._choices_actions:
            options = [
                (name, (option.help or "").replace("%%", "%"))
                for option in action.choices[choice.dest]._actions
                for name in option.option_strings
                if name.startswith("--")
            ]
            found[choice.dest] = (choice.help or "", options)
    return found


def _bash(verbs: dict[str, tuple[str, list[tuple[str, str]]]]) -> str:
    cases = "\n".join(
        f"    {name}) options='{' '.join(option for option, _ in options)}' ;;"
        for name, (_, options) in verbs.items()
    )
    return f"""\
_alloy() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} verb=${{COMP_WORDS[1]}} options=
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '{" ".join(verbs)} --help --version' -- "$word")); return
  fi
  case $verb in
{cases}
  esac
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$word")); return
  fi
  case $verb in
    {"|".join(JOB_VERBS)}) COMPREPLY=($(compgen -W "$(alloy ps --all --quiet 2>/dev/null)" -- "$word")) ;;
    completion) COMPREPLY=($(compgen -W 'bash zsh fish' -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
}}
complete -o filenames -F _alloy alloy"""


def _zsh(verbs: dict[str, tuple[str, list[tuple[str, str]]]]) -> str:
    return f"#compdef alloy\nautoload -U +X bashcompinit && bashcompinit\n{_bash(verbs)}"


def _fish(verbs: dict[str, tuple[str, list[tuple[str, str]]]]) -> str:
    lines = ["complete -c alloy -f -n __fish_use_subcommand -l help -l version"]
    for name, (text, options) in verbs.items():
        lines.append(f"complete -c alloy -f -n __fish_use_subcommand -a {name} -d {_quoted(text)}")
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        if name in JOB_VERBS:
            lines.append(f"complete -c alloy -f {seen} -a '(alloy ps --all --quiet 2>/dev/null)'")
        elif name == "completion":
            lines.append(f"complete -c alloy -f {seen} -a 'bash zsh fish'")
        else:
            lines.append(f"complete -c alloy -F {seen}")
        for option, help_text in options:
            lines.append(f"complete -c alloy {seen} -l {option.removeprefix('--')} -d {_quoted(help_text)}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
