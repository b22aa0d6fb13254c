"""``alloy``: the command line. The words are here; what a verb does is in a file that is loaded when it is said."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from . import __version__, words_page, words_queue, words_remote, words_service, words_space, words_watch
from .console import Console
from .errors import AlloydError, Interrupted, UsageError, did_you_mean

EPILOG = """\
examples:
  alloy plan ties.yaml merged           what it would read, write and need
  alloy merge ties.yaml merged          merge into the folder merged
  alloy merge ties.yaml merged --gguf Q4_K_M
                                        as one quantised GGUF file
  alloy score math lang ties.yaml --task sums.jsonl
                                        models, and a merge that is not written
  alloy search search.yaml              find the best weights, and test them
  alloy merge ties.yaml merged --detach; alloy ps; alloy wait 1
                                        have it done, look, wait for job 1

A daemon is started when none runs; --no-daemon does without. Ctrl-C stops work
at its next block and keeps what is written; the same command goes on there.
'alloy VERB --help' explains a command; exit statuses: docs/errors.md.
"""


HERE = ("keys", "profile", "service", "doctor", "split", "leaks", "completion")
"""Verbs that have nothing to ask of a daemon elsewhere."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        hint = f"'{self.prog} --help' explains."
        if "invalid choice: " in message and "choose from" in message:
            word = message.partition("invalid choice: '")[2].partition("'")[0]
            known = [name.strip(" ')") for name in message.partition("choose from ")[2].split(",")]
            hint = did_you_mean(word, known)
            message = (
                f"unknown command '{word}'"
                if "argument VERB" in message
                else message.partition(" (choose")[0]
            )
        raise UsageError(message, hint=hint)


class _VersionAsked(Exception):
    """Nothing but the version is wanted, whatever else was said."""


class _Version(argparse.Action):
    def __call__(self, *_: object) -> NoReturn:
        raise _VersionAsked


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    _have_streams()
    for stream in (sys.stdout, sys.stderr):
        # In any locale: what it cannot write comes as an escape, not as a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(json="--json" in words)
    try:
        options, extra = parser().parse_known_args(words)
        if extra:
            known = [name for name in options.parser._option_string_actions if name.startswith("--")]
            from .mergekit_options import instead

            word = extra[0].partition("=")[0]
            hint = instead(word) or (did_you_mean(word, known) if word.startswith("-") else "")
            raise UsageError(f"'alloy {options.verb}' does not know '{extra[0]}'", hint=hint)
        if options.verb in HERE and getattr(options, "connect", None):
            raise UsageError(
                f"'alloy {options.verb}' is about this machine, and cannot go to '{options.connect}'",
                hint="Run it there, or leave --connect out.",
            )
        module = importlib.import_module(f".{options.module}", __package__)
        do: Callable[[argparse.Namespace, Console], int] = getattr(module, options.verb)
        return do(options, console)
    except _VersionAsked:
        console.show(f"alloy {__version__}")
        console.result({"version": __version__})
        return 0
    except AlloydError as error:
        console.fail(error)
        return error.status
    except KeyboardInterrupt:
        console.fail(Interrupted("interrupted"))
        return Interrupted.exit_status
    except BrokenPipeError:
        # Whoever read stdout has left; nothing more can be told there, not even by the interpreter at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as wrong:
        # Such as a full disk under stdout, or a file named on the command line that may not be written.
        what = f"{wrong.filename} cannot be used" if wrong.filename else "a file cannot be used"
        told = AlloydError(f"{what}: {wrong.strerror or wrong}", hint="Check its rights and its disk.")
        if isinstance(wrong, FileNotFoundError) and not wrong.filename:  # as os.getcwd() has it
            told = AlloydError("the folder in which this was said is gone", hint="Go to another with cd.")
        with contextlib.suppress(OSError):
            console.fail(told)
        return told.status


def _have_streams() -> None:
    """Have stdin, stdout and stderr, also where one was closed: else the next file that is opened takes its place."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            stream = open(descriptor, "r" if descriptor == 0 else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def parser() -> argparse.ArgumentParser:
    """All verbs and options."""
    top = _Parser(
        prog="alloy",
        description="Merge large language models out of core, score them, find the best recipe.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show alloy's version and exit")
    everywhere = _Parser(add_help=False)
    for place in (top, everywhere):
        place.add_argument(
            "--home",
            default=argparse.SUPPRESS,
            help="the daemon's folder (default: $ALLOYD_HOME, else ~/.local/state/alloyd)",
        )
        place.add_argument(
            "--connect",
            metavar="NAME",
            default=argparse.SUPPRESS,
            help="the daemon of another machine, by its profile (default: $ALLOYD_CONNECT)",
        )
        place.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS,
            help="one JSON object a line on stdout, the last one the result",
        )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)

    def verb(name: str, module: str, text: str) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, parents=[everywhere], help=text, description=text, allow_abbrev=False)
        one.set_defaults(module=module, parser=one)
        return one

    def nested(group: Any, name: str, text: str) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = group.add_parser(
            name, parents=[everywhere], help=text, description=text, allow_abbrev=False
        )
        return one

    def work(name: str, text: str) -> argparse.ArgumentParser:
        one = verb(name, "cli_work", text)
        how = one.add_mutually_exclusive_group()
        how.add_argument(
            "--no-daemon", action="store_true", help="use a daemon of this command's own, which ends with it"
        )
        if name != "plan":
            how.add_argument("--detach", action="store_true", help="print the job's id and leave")
        if name not in ("plan", "verify", "kinship"):
            words_queue.add_place(one)
        return one

    def memory(one: argparse.ArgumentParser) -> None:
        one.add_argument(
            "--memory",
            metavar="SIZE",
            help="private memory to stay within: 512MiB, 2GB, 25%% (default: 25%%)",
        )
        one.add_argument(
            "--threads", type=int, metavar="N", help="threads (default: one more than there are cores)"
        )

    def recipe(one: argparse.ArgumentParser) -> None:
        one.add_argument("recipe", metavar="RECIPE", help="a YAML file as mergekit reads it; - is stdin")
        output(one)
        one.add_argument(
            "--lenient", action="store_true", help="warn of unknown keys instead of refusing them"
        )

    def output(one: argparse.ArgumentParser) -> None:
        one.add_argument("place", metavar="OUT", nargs="?", help="the folder to make")
        one.add_argument("--out", "-o", metavar="OUT", help="the same, as an option")
        memory(one)
        one.add_argument("--shard-size", metavar="SIZE", help="most bytes of one output file (default: 5GB)")
        one.add_argument(
            "--reader", choices=("auto", "mmap", "pread"), default="auto", help="how sources are read"
        )
        form = one.add_mutually_exclusive_group()
        form.add_argument("--gguf", metavar="TYPE", help="write one GGUF file of a type such as Q4_K_M")
        form.add_argument(
            "--bitsandbytes", metavar="TYPE", help="write a checkpoint quantised to nf4, fp4 or int8"
        )
        one.add_argument("--imatrix", metavar="FILE", help="an importance matrix for --gguf")
        one.add_argument("--force", action="store_true", help="replace what is at OUT")

    recipe(work("merge", "Merge models as a recipe says."))
    recipe(work("plan", "Say what a merge would read, write and need, without moving a byte."))
    one = work("convert", "Write a model in another form.")
    one.add_argument("model", metavar="MODEL", help="a checkpoint folder, or a model's name")
    output(one)
    one.add_argument("--dtype", metavar="NAME", help="the type of its elements: bfloat16, float16, float32")
    one = work("verify", "Read a checkpoint again and compare it with its manifest.")
    one.add_argument("path", metavar="DIR")
    one = work("rebuild", "Make a merged model again from its manifest, the same bytes or none.")
    one.add_argument("path", metavar="DIR", help="the folder of the manifest; its weights may be gone")
    one.add_argument("place", metavar="OUT", nargs="?", help="the folder to make (default: DIR)")
    memory(one)
    one.add_argument(
        "--reader", choices=("auto", "mmap", "pread"), default="auto", help="how sources are read"
    )
    one.add_argument("--imatrix", metavar="FILE", help="the importance matrix that it was quantised with")
    one = work("score", "Score models and recipes on tasks, item by item, each against the first.")
    one.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="a checkpoint folder, a model's name, a .gguf file, or a recipe (.yaml), never written",
    )
    one.add_argument(
        "--task",
        required=True,
        action="append",
        metavar="[EVALUATOR:]FILE",
        help="JSONL with an item a line, or lm_eval:NAME for a task of lm-evaluation-harness; again for more",
    )
    one.add_argument(
        "--runner",
        default="auto",
        metavar="NAME",
        help="how models are run: resident, stream or gguf (default: what suits them)",
    )
    one.add_argument(
        "--quantise",
        metavar="TYPE",
        help="quantise weights first: to nf4, fp4, int8 or, as llama.cpp does, Q4_K_M",
    )
    one.add_argument("--limit", type=int, metavar="N", help="only the first N items of each task")
    one.add_argument("--batch-size", type=int, metavar="N", help="requests at a time")
    one.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the evaluator or runner",
    )
    memory(one)
    one.add_argument("--out", "-o", metavar="FILE", help="write every item's record there, as JSONL")

    one = work("kinship", "Say how alike models are that were made from one base.")
    one.set_defaults(module="cli_kinship")
    one.add_argument("models", metavar="MODEL", nargs="+", help="a checkpoint folder, or a model's name")
    one.add_argument("--base", required=True, metavar="MODEL", help="what all of them were made from")
    memory(one)
    one.add_argument(
        "--reader", choices=("auto", "mmap", "pread"), default="auto", help="how sources are read"
    )

    one = work("search", "Search for the best recipe, as a spec says (docs/search.md).")
    one.set_defaults(module="cli_search")
    what = one.add_mutually_exclusive_group()
    what.add_argument("spec", metavar="SPEC", nargs="?", help="a YAML file; - is stdin")
    what.add_argument("--schema", action="store_true", help="print the JSON schema of a spec")
    what.add_argument("--results", metavar="JOB", help="show what a search has found, also while it runs")
    what.add_argument("--extend", metavar="JOB", help="go on with a search that ended, with a larger budget")
    what.add_argument("--open-test", metavar="JOB", help="open a search's locked test, once")
    one.add_argument("--candidates", type=int, metavar="N", help="end after so many candidates")
    one.add_argument("--items", type=int, metavar="N", help="end after so many scored items")
    one.add_argument("--seconds", type=float, metavar="N", help="end after so long (with --async)")
    one.add_argument("--optimiser", metavar="NAME", help="such as cma-es, bayes, de, nsga2, random")
    one.add_argument("--seed", type=int, metavar="N", help="another course of the same search")
    one.add_argument("--async", dest="mode", action="store_const", const="async", help="no generations")
    one.add_argument("--runner", metavar="NAME", help="how candidates are run: resident, stream or gguf")
    one.add_argument("--merge", metavar="OUT", help="merge the winner in full precision into the folder OUT")
    one.add_argument("--out", "-o", metavar="FOLDER", help="put results.json and the winner's recipes there")
    memory(one)

    one = verb(
        "split", "cli_tasks", "Split a task file, so that the same question is always in the same part."
    )
    one.add_argument("file", metavar="FILE", help="JSONL with an item a line")
    one.add_argument(
        "--into",
        default="search=0.6,validation=0.2,test=0.2",
        metavar="NAME=SHARE,...",
        help="parts and their shares (default: %(default)s)",
    )
    one.add_argument("--by", metavar="KEY", help="what keeps items together (default: what is asked)")
    one.add_argument("--salt", default="", metavar="TEXT", help="another split of the same items")
    one.add_argument("--out", "-o", metavar="FOLDER", help="where the parts go (default: beside FILE)")
    one.add_argument("--force", action="store_true", help="replace parts that are there")
    one = verb("leaks", "cli_tasks", "Say which items of some task files stand in several of them.")
    one.add_argument("files", metavar="FILE", nargs="+")

    one = verb("ps", "cli_jobs", "List jobs that wait, run or are paused.")
    one.add_argument("--all", "-a", action="store_true", help="ended ones too")
    how = one.add_mutually_exclusive_group()
    how.add_argument("--quiet", "-q", action="store_true", help="only their ids")
    how.add_argument("--watch", "-w", action="store_true", help="go on showing how they are, until Ctrl-C")
    one.add_argument("--no-start", action="store_true", help="start no daemon; without one it is an error")
    one.add_argument(
        "--limit", "-n", type=int, default=50, metavar="N", help="at most the newest N (default: 50)"
    )
    one = verb("show", "cli_jobs", "Show all that is known of a job.")
    one.add_argument("job", metavar="JOB", help="an id such as merge-12, or its number")
    one = verb("logs", "cli_jobs", "Print a job's log, or the daemon's.")
    one.add_argument("job", metavar="JOB", nargs="?")
    one.add_argument("--daemon", action="store_true", help="the daemon's own log, also when none runs")
    one.add_argument("--follow", "-f", action="store_true", help="go on until the job ends")
    one = verb("events", "cli_jobs", "Print what happened, to one job or to all.")
    one.add_argument("job", metavar="JOB", nargs="?", default="")
    one.add_argument("--since", type=int, default=0, metavar="N", help="only events after number N")
    one.add_argument("--follow", "-f", action="store_true", help="go on as they happen")
    one = verb("wait", "cli_jobs", "Wait until jobs have ended; exits as they did.")
    one.add_argument("jobs", metavar="JOB", nargs="+")
    one.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="give up after so long, with status 124"
    )
    for name, text in (
        ("cancel", "End jobs and remove what they staged."),
        ("pause", "Stop jobs at their next block and keep what they staged."),
        ("resume", "Go on with paused jobs, or try failed ones again."),
    ):
        one = verb(name, "cli_jobs", text)
        one.add_argument("jobs", metavar="JOB", nargs="+")

    words_page.add(verb)
    words_queue.add(verb)
    words_remote.add(verb, nested)
    words_watch.add(verb, nested)
    words_space.add(verb)
    verb("status", "cli_service", "Say how the daemon is.")
    verb("doctor", "cli_service", "Check what alloyd needs on this machine.")
    verb("config", "cli_service", "Show the settings that count, and where each comes from.")
    one = verb("stop", "cli_service", "Stop the daemon; its jobs go on when it is started again.")
    one.add_argument("--now", action="store_true", help="do not let jobs finish their block")
    one = verb("restart", "cli_service", "Stop the daemon and start it again.")
    one.add_argument("--now", action="store_true", help="do not let jobs finish their block")
    words_service.add(verb)
    one = verb("completion", "cli_service", "Print a completion script for a shell.")
    one.add_argument("shell", choices=("bash", "zsh", "fish"))
    return top


if __name__ == "__main__":
    sys.exit(main())
