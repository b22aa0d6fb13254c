"""The verbs about the daemon and this machine: status, doctor, config, stop, restart, completion."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from . import __version__, spawn
from .api import Client
from .connecting import client_of, is_far
from .console import Console
from .errors import AlloydError, DaemonUnreachable, UsageError, VersionMismatch
from .file_systems import network_file_system
from .paths import Home, endpoints, find_home, lock_holder
from .units import format_duration, format_size, total_memory

STOP_SECONDS = 120.0
# A daemon that does not end at once when it is told to is hung; killing it costs the blocks in flight at most.
NOW_SECONDS = 10.0


def _home(options: argparse.Namespace) -> Home:
    return find_home(getattr(options, "home", None))


def status(options: argparse.Namespace, console: Console) -> int:
    """Say how the daemon is; one is not started for it."""
    with client_of(options, autostart=False, strict=False) as client:
        now = client.status()
    counts = ", ".join(f"{number} {state}" for state, number in now.jobs.items() if number) or "none yet"
    version = (
        now.software
        if now.software == __version__
        else f"{now.software}, and alloy {__version__}: 'alloy restart'"
    )
    for name, text in (
        ("daemon", f"process {now.pid}, alloyd {version}" + (", stopping" if now.stopping else "")),
        ("up", format_duration(now.uptime)),
        ("memory", format_size(now.resident)),
        ("home", now.home),
        ("jobs", counts),
        ("log", now.log),
    ):
        console.show(f"{name:<8} {text}")
    console.result(now)
    return 0


def config(options: argparse.Namespace, console: Console) -> int:
    """Show the settings that count."""
    with client_of(options) as client:
        configured = client.config()
    width = max(map(len, configured.values))
    for key, value in configured.values.items():
        shown = json.dumps(value, ensure_ascii=False)  # as TOML has it
        console.show(f"{key:<{width}} = {shown:<12}  # {configured.origins.get(key, '')}")
    console.result(configured)
    return 0


def stop(options: argparse.Namespace, console: Console) -> int:
    """Stop the daemon."""
    if is_far(options):
        with client_of(options, strict=False) as client:
            client.shutdown(now=options.now)
        console.say("told to stop; its jobs go on when a daemon is started there")
        console.result({"stopped": True})
        return 0
    stopped = stop_daemon(_home(options), now=options.now)
    console.say("stopped; its jobs go on when a daemon is started" if stopped else "no daemon runs")
    console.result({"stopped": stopped})
    return 0


def restart(options: argparse.Namespace, console: Console) -> int:
    """Stop the daemon and start it again."""
    if is_far(options):
        raise UsageError(
            "a daemon can be started again on its own machine only", hint="Run 'alloy restart' there."
        )
    home = _home(options)
    stop_daemon(home, now=options.now)
    connection = spawn.start(home)
    console.say(f"alloyd {connection.software} runs as process {connection.pid}")
    console.result(connection)
    return 0


def stop_daemon(home: Home, *, now: bool) -> bool:
    """Stop the daemon of ``home`` and wait until it is gone; whether there was one."""
    holder = lock_holder(home)
    if holder is None:
        return False
    try:
        with Client(home=home.root, autostart=False, strict=False, timeout=5.0) as client:
            client.shutdown(now=now)
    except (DaemonUnreachable, VersionMismatch):
        # It does not understand, or does not answer: every version understands a signal.
        _signal(holder, home, *[signal.SIGTERM] * (2 if now else 1))
    begun = time.monotonic()
    killed = False
    while lock_holder(home) is not None:
        waited = time.monotonic() - begun
        if now and not killed and waited > NOW_SECONDS:
            killed = True
            _signal(holder, home, signal.SIGKILL)
        if waited > STOP_SECONDS:
            raise DaemonUnreachable(
                f"the daemon (process {holder}) has not stopped after {STOP_SECONDS:.0f} s",
                hint="'alloy stop --now' does not wait for its jobs.",
                pid=holder,
            )
        time.sleep(0.05)
    return True


def _signal(process: int, home: Home, *signals: signal.Signals) -> None:
    """Send ``signals`` to a process seen to be a daemon; its number may mean another one in another container."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes()
        if process and b"alloyd" in words:
            for each in signals:
                os.kill(process, each)
                time.sleep(0.2)
    except ProcessLookupError:
        return
    except OSError as wrong:
        if lock_holder(home) is not None:
            raise DaemonUnreachable(f"the daemon (process {process}) cannot be stopped: {wrong}") from wrong


def completion(options: argparse.Namespace, console: Console) -> int:
    """Print a completion script."""
    from .cli import parser
    from .completion import script

    text = script(options.shell, parser())
    console.show(text, as_it_is=True)
    console.result({"script": text})
    return 0


def doctor(options: argparse.Namespace, console: Console) -> int:
    """Check this machine; status 1 when something would not work."""
    found = list(_examine(_home(options)))
    width = max(len(name) for _, name, _ in found)
    for verdict, name, text in found:
        console.show(f"{verdict:<4} {name:<{width}}  {text}")
    bad = [name for verdict, name, _ in found if verdict == "BAD"]
    wrong = (
        AlloydError(f"would not work here: {', '.join(bad)}", hint="The findings say why.") if bad else None
    )
    told = [{"verdict": verdict, "name": name, "text": text} for verdict, name, text in found]
    console.result(told, wrong=wrong)
    return 0 if wrong is None else wrong.status


def _examine(home: Home) -> Iterator[tuple[str, str, str]]:
    """Findings: ``ok``, ``note`` or ``BAD``, what about, and what was seen."""
    yield "ok", "alloy", f"{__version__}, Python {sys.version.split()[0]}, {sys.executable}"
    try:
        home.create()
        network = network_file_system(home.root)
        if network:
            yield (
                "BAD",
                "home",
                f"{home.root} lies on {network}: choose a local folder with --home or ALLOYD_HOME",
            )
        else:
            free = shutil.disk_usage(home.root).free
            yield ("ok" if free > 10**8 else "BAD"), "home", f"{home.root}, {format_size(free)} free"
        requests, _ = endpoints(home)
        yield "ok", "socket", requests
    except AlloydError as error:
        yield "BAD", "home", error.message
    yield from _examine_daemon(home)
    yield from _examine_libraries()
    memory = total_memory()
    yield (
        "ok",
        "memory",
        f"{format_size(memory)} may be used; a job takes {format_size(memory / 4)} unless told otherwise",
    )
    yield "ok", "cores", str(len(os.sched_getaffinity(0)))
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = files >= 1024
    yield (
        ("ok" if enough else "note"),
        "files",
        f"{files} may be open" + ("" if enough else "; raise ulimit -n to 1024"),
    )
    gpu = Path("/dev/nvidiactl").exists()
    yield (
        ("ok" if gpu else "note"),
        "gpu",
        "an NVIDIA device is here" if gpu else "none seen; merging does not need one",
    )


# Module, what needs it, the extra that brings it, and whether nothing works without it.
_LIBRARIES: Final = (
    ("alloyd_daemon", "a daemon on this machine", "daemon", True),
    ("numpy", "merging", "daemon", True),
    ("numba", "merging", "daemon", True),
    ("ml_dtypes", "merging", "daemon", True),
    ("blake3", "merging and verifying", "daemon", True),
    ("torch", "scoring", "score", False),
    ("transformers", "scoring", "score", False),
    ("cmaes", "searching by CMA-ES", "search", False),
    ("skopt", "searching by Bayesian optimisation", "search", False),
    ("pymoo", "searching for several objectives", "search", False),
    ("sklearn", "telling which genes mattered", "search", False),
    ("bitsandbytes", "writing and scoring NF4, FP4 and int8", "bitsandbytes", False),
    ("gguf", "writing GGUF", "gguf", False),
    ("llama_cpp", "writing and scoring GGUF", "gguf", False),
    ("lm_eval", "tasks of lm-evaluation-harness", "lm-eval", False),
    ("plotly", "the figures of reports and of the page", "page", False),
    ("h11", "the live page", "page", False),
    ("py3langid", "the language check of answers", "language", False),
)
_DISTRIBUTIONS: Final = {
    "alloyd_daemon": "alloyd",
    "llama_cpp": "llama_cpp_python",
    "sklearn": "scikit-learn",
    "skopt": "scikit-optimize",
}


def _examine_libraries() -> Iterator[tuple[str, str, str]]:
    for name, needed, extra, vital in _LIBRARIES:
        if importlib.util.find_spec(name) is None:
            cure = f"pip install 'alloyd[{extra}]'"
            if name == "llama_cpp":
                # A plain build for this processor crashes where the compiler gets AMX wrong.
                cure = f"'make install-gguf' builds it with safe settings, or CMAKE_ARGS=-DGGML_NATIVE=OFF {cure}"
            yield ("BAD" if vital else "note"), name, f"absent; wanted for {needed}: {cure}"
            continue
        try:
            yield "ok", name, f"{importlib.metadata.version(_DISTRIBUTIONS.get(name, name))}, for {needed}"
        except importlib.metadata.PackageNotFoundError:
            yield "ok", name, f"present, for {needed}"


def _examine_daemon(home: Home) -> Iterator[tuple[str, str, str]]:
    holder = lock_holder(home)
    if holder is None:
        yield "note", "daemon", "none runs; any command that needs one starts it"
        return
    try:
        with Client(home=home.root, autostart=False, strict=False, timeout=5.0) as client:
            greeting = client.hello()
    except AlloydError as error:
        yield "BAD", "daemon", f"{error.message}; {error.hint}"
        return
    if greeting.software != __version__:
        yield "BAD", "daemon", f"it is alloyd {greeting.software}: 'alloy restart'"
    else:
        yield "ok", "daemon", f"alloyd {greeting.software}, process {greeting.pid}"
