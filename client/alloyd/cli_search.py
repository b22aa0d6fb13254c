"""The verb ``alloy search``: a search from its spec to its winner, and what is asked of one afterwards."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from . import render_search
from .api import Client
from .cli_work import connected, done
from .connecting import is_far
from .console import Console
from .errors import OutputExists, UsageError
from .jobs import Job, JobState, Spec
from .near import near
from .recipe_file import MAX_BYTES, decode
from .search_results import search_folder
from .specs import extension, merge_spec, open_test_spec, search_spec
from .units import parse_size

FILES = ("results.json", "winner.yaml", "winner.mergekit.yaml")
OVERRIDES = ("candidates", "items", "seconds", "optimiser", "seed", "mode", "runner", "threads")


def search(options: argparse.Namespace, console: Console) -> int:
    """Search, or do what is asked about a search."""
    if options.schema:
        return _schema(console)
    asked = [each for each in (options.spec, options.results, options.extend, options.open_test) if each]
    if len(asked) != 1:
        raise UsageError(
            "what should be searched?" if not asked else "one thing at a time",
            hint="alloy search SPEC, or one of --results, --extend, --open-test with a JOB.",
        )
    _check(options)
    if is_far(options) and (options.out or options.merge):
        raise UsageError(
            "--out and --merge copy a search's files, which stay on the daemon's machine",
            hint="Leave them out; 'alloy search --results JOB --json' prints the winner's recipe.",
        )
    with connected(options) as client:
        if options.results:
            job = client.job(options.results)
        else:
            job = done(client, options, console, _spec(client, options))
            if job.state is not JobState.DONE:  # --detach
                console.show(job.id)
                console.result(job)
                return 0
        return _tell(client, options, console, job)


def _check(options: argparse.Namespace) -> None:
    """Refuse, before anything starts, what could only disappoint at the end."""
    if options.merge and (options.detach or options.results or options.open_test):
        raise UsageError(
            "--merge is for a search that this command waits for",
            hint="Later: alloy merge HOME/searches/JOB/winner.yaml OUT",
        )
    if options.no_daemon and options.spec is None:
        raise UsageError(
            "a daemon of this command's own knows no earlier search", hint="Leave out --no-daemon."
        )
    if options.no_daemon and not (options.out or options.merge):
        raise UsageError(
            "with --no-daemon a search's files go when it ends",
            hint="Say where they should stay: --out FOLDER",
        )
    if options.out and os.path.exists(options.out) and not os.path.isdir(options.out):
        raise UsageError(f"--out {options.out} is no folder", hint="Name one, or what is to become one.")
    if options.merge and os.path.lexists(options.merge) and not _is_free(options.merge):
        raise OutputExists(
            f"{options.merge} is there already",
            hint="Name another folder, or move it away.",
            path=options.merge,
        )
    said = [f"--{each}" for each in OVERRIDES if getattr(options, each) is not None]
    said = ["--async" if each == "--mode" else each for each in said]
    if said and (options.results or (options.open_test and said != ["--threads"])):
        raise UsageError(f"{said[0]} has no place here", hint="It is for a search that is yet to run.")


def _is_free(path: str) -> bool:
    """Whether ``path`` is a folder that may become a model; the merge itself looks closer."""
    return os.path.isdir(path) and all(
        name.startswith(".") or name == "lost+found" for name in os.listdir(path)
    )


def _spec(client: Client, options: argparse.Namespace) -> Spec:
    given: dict[str, Any] = {
        each: getattr(options, each) for each in OVERRIDES if getattr(options, each) is not None
    }
    if options.memory is not None:
        given["memory"] = parse_size(options.memory)
    if options.open_test:
        return open_test_spec(client.job(options.open_test).id, given)
    if options.extend:
        return extension(client.job(options.extend), given)
    return search_spec(_text(options.spec), given, far=client.far)


def _text(place: str) -> str:
    if place != "-":
        # An absolute path never holds a line break that would make it be taken for the text.
        return os.path.abspath(place)
    text = decode(sys.stdin.buffer.read(MAX_BYTES + 1), "stdin")
    return text if "\n" in text else text + "\n"


def _tell(client: Client, options: argparse.Namespace, console: Console, job: Job) -> int:
    home = client.status().home
    # An opened test is told by the results of its search.
    of = client.job(job.spec["search"]) if job.kind == "open_test" else job
    found = client.results(of.id)
    folder = search_folder(home, of.id)
    for line in render_search.test_lines(found) if options.open_test else render_search.result_lines(found):
        console.show(line)
    console.say(render_search.spent_line(found))
    if options.out:
        folder = _copy(folder, Path(options.out))
    found["folder"] = str(folder)
    recipe = folder / "winner.yaml"
    if found["winner"] is not None:
        console.say(f"winner: {recipe}")
        why_not = found["recipes"]["why_not"]
        console.say(f"for mergekit: {why_not or folder / 'winner.mergekit.yaml'}")
    if options.merge and found["winner"] is not None:
        options.detach = False
        merged = done(
            client, options, console, merge_spec(recipe, options.merge, {"threads": options.threads})
        )
        found["merged"] = str((merged.result or {}).get("out", merged.out))
        console.show(found["merged"])
    elif found["winner"] is not None and not options.open_test:
        console.say(f"next: alloy merge {recipe if client.far else near(str(recipe))} OUT")
    console.result(found)
    return 0


def _copy(folder: Path, to: Path) -> Path:
    to.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (folder / name).exists():
            shutil.copyfile(folder / name, to / name)
        else:
            (to / name).unlink(missing_ok=True)  # of an earlier winner
    return to.absolute()


def _schema(console: Console) -> int:
    from .search_reader import json_schema

    schema = json_schema()
    console.show(json.dumps(schema, indent=2, ensure_ascii=False), as_it_is=True)
    console.result(schema)
    return 0
