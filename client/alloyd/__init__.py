"""alloyd merges large language models out of core; this package says what may be said to its daemon.

>>> import alloyd
>>> with alloyd.Client() as client:  # doctest: +SKIP
...     job = client.merge("ties.yaml", out="merged")
...     print(client.wait(job.id).result)

Names are loaded when they are first used, so that ``import alloyd`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .api import Client
    from .errors import AlloydError
    from .jobs import (
        Event,
        Job,
        JobState,
        KinshipSpec,
        MergeSpec,
        OpenTestSpec,
        PlanSpec,
        RebuildSpec,
        Sample,
        ScoreSpec,
        SearchSpec,
        Subject,
        VerifySpec,
    )
    from .space_schema import Prune, Pruned, Space
    from .watch_schema import Rule, Soup, Watch, WatchSettings

__version__ = "0.1.0"

__all__ = [
    "AlloydError",
    "AsyncClient",
    "Client",
    "Event",
    "Job",
    "JobState",
    "KinshipSpec",
    "MergeSpec",
    "OpenTestSpec",
    "PlanSpec",
    "Prune",
    "Pruned",
    "RebuildSpec",
    "Rule",
    "Sample",
    "ScoreSpec",
    "SearchSpec",
    "Soup",
    "Space",
    "Subject",
    "VerifySpec",
    "Watch",
    "WatchSettings",
    "__version__",
]

_HOMES = {
    "AlloydError": "errors",
    "AsyncClient": "aio",
    "Client": "api",
    "Event": "jobs",
    "Job": "jobs",
    "JobState": "jobs",
    "KinshipSpec": "jobs",
    "MergeSpec": "jobs",
    "OpenTestSpec": "jobs",
    "PlanSpec": "jobs",
    "Prune": "space_schema",
    "Pruned": "space_schema",
    "RebuildSpec": "jobs",
    "Rule": "watch_schema",
    "Sample": "jobs",
    "ScoreSpec": "jobs",
    "SearchSpec": "jobs",
    "Soup": "watch_schema",
    "Space": "space_schema",
    "Subject": "jobs",
    "VerifySpec": "jobs",
    "Watch": "watch_schema",
    "WatchSettings": "watch_schema",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'alloyd' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
