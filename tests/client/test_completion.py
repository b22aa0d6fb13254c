"""Completion scripts: verbs, options, and jobs where one is meant."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from alloyd.cli import parser
from alloyd.completion import script
from alloyd.paths import lock_holder
from trial_daemon import TrialDaemon, trial


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_verb_and_option(shell: str) -> None:
    text = script(shell, parser())
    for word in ("merge", "doctor", "no-daemon", "memory", "alloy ps --all --quiet --no-start"):
        assert word in text


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("search --results", ["merge-1", "search-2"]),
        ("search --open-test se", ["search-2"]),
        ("search --extend =", ["merge-1", "search-2"]),
        ("search --extend = m", ["merge-1"]),
        ("merge --after m", ["merge-1"]),
        ("show s", ["search-2"]),
        ("search --res", ["--results"]),
        ("search --items s", ["spec.yaml"]),
        ("watch a", ["add"]),
        ("watch add s", ["spec.yaml"]),
        ("watch add --sett", ["--settle"]),
        ("keys re", ["revoke"]),
        ("service ''", ["install", "remove", "status"]),
        ("completion f", ["fish"]),
    ],
)
def test_completion_knows_where_a_job_is_meant(tmp_path: Path, words: str, found: list[str]) -> None:
    (tmp_path / "alloy.bash").write_text(script("bash", parser()))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "spec.yaml").touch()
    typed = words if words != "search --results" else "search --results ''"
    code = (
        "alloy() { test \"$*\" = 'ps --all --quiet --no-start' && printf 'merge-1\\nsearch-2\\n'; };"
        f"source ../alloy.bash; COMP_WORDS=(alloy {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _alloy;"
        "echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        ["bash", "-c", code], cwd=tmp_path / "files", capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == found


def test_completion_asks_a_daemon_that_is_there_and_starts_none(tmp_path: Path) -> None:
    (tmp_path / "alloy.bash").write_text(script("bash", parser()))
    alloy = f'alloy() {{ {shlex.quote(sys.executable)} -m alloyd.cli "$@"; }}'
    code = f"{alloy}; source alloy.bash; COMP_WORDS=(alloy show ''); COMP_CWORD=2; _alloy; echo ${{COMPREPLY[@]}}"
    with TrialDaemon(tmp_path / "home") as daemon:
        path = os.pathsep.join(filter(None, sys.path))
        environ = {**os.environ, **daemon.environ, "PYTHONPATH": path, "ALLOYD_HOME": str(daemon.home.root)}

        def completed() -> list[str]:
            done = subprocess.run(
                ["bash", "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
            )
            return done.stdout.split()

        with daemon.client() as client:
            job = client.submit(trial(tmp_path / "out"))
        assert completed() == [job.id]
        daemon.kill_all()
        assert completed() == []
        assert lock_holder(daemon.home) is None


def test_completion_for_fish_knows_where_a_job_is_meant() -> None:
    lines = script("fish", parser()).splitlines()
    (line,) = [each for each in lines if "from search'" in each and "-l results" in each]
    assert "-l results -x -a '(alloy ps --all --quiet --no-start 2>/dev/null)'" in line
    assert sum(" -x " in each for each in lines) >= 4


def test_completion_for_fish_knows_what_must_come_first() -> None:
    text = script("fish", parser())
    first = "-n '__fish_seen_subcommand_from watch; and not __fish_seen_subcommand_from add list rm' -a 'add list rm'"
    assert f"complete -c alloy -f {first}\n" in text


def test_completion_for_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "alloy.bash").write_text(script("bash", parser()))
    code = (
        f"source {tmp_path}/alloy.bash; COMP_WORDS=(alloy mer); COMP_CWORD=1; _alloy; echo ${{COMPREPLY[@]}};"
        "COMP_WORDS=(alloy merge --det); COMP_CWORD=2; _alloy; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["merge", "--detach"]
