"""What the watcher asks of the daemon, as an ordinary client of its local socket."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from alloyd.api import Client
from alloyd.errors import AlloydError, ProtocolError
from alloyd.jobs import Job, Spec

from ..settings import Settings


class Daemon(Protocol):
    """The daemon as the watcher sees it; tests put another in its place."""

    def submit(self, spec: Spec, *, key: str, priority: int, confined: Sequence[str]) -> Job:
        """Add a job that keeps to the folders ``confined``, or find the one of the same key."""
        ...

    def job(self, name: str) -> Job:
        """One job as it is now."""
        ...


class Link:
    """The living daemon of a home."""

    def __init__(self, home: Path) -> None:
        self._client = Client(home=home, autostart=False)

    def submit(self, spec: Spec, *, key: str, priority: int, confined: Sequence[str]) -> Job:
        return self._client.submit(spec, key=key, priority=priority, confined=confined)

    def job(self, name: str) -> Job:
        return self._client.job(name)

    def settings(self) -> Settings:
        """The daemon's own settings."""
        sections: dict[str, dict[str, Any]] = {}
        for name, value in self._client.config().values.items():
            section, _, key = name.partition(".")
            sections.setdefault(section, {})[key] = value
        return msgspec.convert(sections, Settings)

    def close(self) -> None:
        """Let go of the daemon."""
        self._client.close(now=True)


def passes(error: AlloydError) -> bool:
    """Whether the daemon may well take the same submission in a moment: it is full, stopping, or gone."""
    return error.retryable or (
        error.code in ("E_SERVICE", "E_UNREACHABLE", "E_STORE") and not isinstance(error, ProtocolError)
    )
