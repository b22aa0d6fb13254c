"""What a process loads: the client stays light, the daemon's server never meets the arithmetic."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ARITHMETIC = {"numpy", "numba", "torch", "transformers", "ml_dtypes"}


def _loaded(code: str) -> set[str]:
    """The top-level modules a fresh interpreter has loaded when ``code`` has run or asked to exit."""
    wrapped = (
        "import sys, json, io, contextlib\n"
        "with contextlib.redirect_stdout(io.StringIO()) as said:\n"
        f"    try:\n        exec({code!r})\n"
        "    except SystemExit as end:\n        assert not end.code, end.code\n"
        "print(json.dumps([sorted({name.partition('.')[0] for name in sys.modules}), said.getvalue()]))"
    )
    done = subprocess.run([sys.executable, "-c", wrapped], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names, _ = json.loads(done.stdout)
    return set(names)


@pytest.mark.parametrize(
    "code",
    [
        "import alloyd",
        "from alloyd.cli import main; main(['--help'])",
        "from alloyd.cli import main; main(['merge', '--help'])",
    ],
)
def test_the_client_loads_nothing_heavy(code: str) -> None:
    assert not _loaded(code) & (ARITHMETIC | {"rich", "alloyd_daemon", "alloyd_kernels"})


def test_import_alloyd_loads_no_library_at_all() -> None:
    assert not _loaded("import alloyd") & {"msgspec", "zmq", "yaml"}


def test_the_recipe_schema_needs_no_socket() -> None:
    assert not _loaded("import alloyd.recipe") & (ARITHMETIC | {"zmq", "rich"})


def test_the_server_never_meets_the_arithmetic() -> None:
    code = "import alloyd_daemon.main; from alloyd_daemon.service import server, store, worker"
    assert not _loaded(code) & (ARITHMETIC | {"alloyd_kernels", "rich", "asyncio", "ssl"})


def test_a_merge_needs_no_torch_and_no_numba_before_it_compiles() -> None:
    code = (
        "from alloyd_daemon.job import JOBS\n"
        "from alloyd_daemon.merge_method import METHODS\n"
        "assert JOBS.get('merge') and METHODS.get('ties')"
    )
    assert not _loaded(code) & {"torch", "transformers", "rich", "numba"}
