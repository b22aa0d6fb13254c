"""What a search asks of its libraries: linear algebra on one thread, whichever was loaded when."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("scipy")
LATE = """
from threadpoolctl import threadpool_info
from alloyd_daemon.search.libraries import one_thread

def threads():
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

import numpy
print(*threads())
with one_thread():
    print(*threads())
import scipy.linalg
with one_thread():
    print(*threads())
print(*threads())
"""


def test_blas_that_is_loaded_later_has_one_thread_too_and_all_have_theirs_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LATE],
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    before, first, second, after = ([int(each) for each in line.split()] for line in done.stdout.splitlines())
    assert set(first) == {1}
    assert len(second) > len(first)
    assert set(second) == {1}
    assert set(after) == set(before)
