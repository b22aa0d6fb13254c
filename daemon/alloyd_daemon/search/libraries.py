"""The libraries of a search: a missing one is one sentence, and linear algebra keeps to one thread."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from alloyd.errors import UsageError


def need(optimiser: str, *modules: str) -> None:
    """Raise UsageError where one of ``modules``, which ``optimiser`` stands on, is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise UsageError(
                f"the optimiser '{optimiser}' needs the library '{module}', which is not installed",
                hint="pip install 'alloyd[search]'",
                optimiser=optimiser,
                library=module,
            )


@contextmanager
def global_luck_kept() -> Iterator[None]:
    """Inside, a library may draw from Python's global random numbers (some do where they are imported): afterwards
    these are as they were.
    """
    before = random.getstate()
    try:
        yield
    finally:
        random.setstate(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, BLAS has one thread: sums do not depend on the number of cores, and scoring keeps the others."""
    with _thread_pools(len(sys.modules)).limit(limits=1, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _thread_pools(modules: int) -> Any:
    """Those of all loaded libraries; to look for them takes long, and only an import can have loaded another."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
