"""What the watcher asks of the daemon, as an ordinary client of its local socket."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from alloyd import wire
from alloyd.api import Client
from alloyd.errors import AlloydError, ProtocolError
from alloyd.jobs import Job, Spec, spec_fields


class Daemon(Protocol):
    """The daemon as the watcher sees it; tests put another in its place."""

    def submit(self, spec: Spec, token: str, *, priority: int, confined: Sequence[str]) -> Job:
        """Add a job that keeps to the folders ``confined``, or find the one of the same token."""
        ...

    def job(self, name: str) -> Job:
        """One job as it is now."""
        ...


class Link:
    """The living daemon of a home."""

    def __init__(self, home: Path) -> None:
        self._client = Client(home=home, autostart=False)

    def submit(self, spec: Spec, token: str, *, priority: int, confined: Sequence[str]) -> Job:
        request = wire.Submit(spec_fields(spec), token, priority, confined=tuple(confined))
        return self._client._ask(request, Job)

    def job(self, name: str) -> Job:
        return self._client.job(name)

    def model_places(self) -> tuple[Path, ...]:
        """The folders in which the daemon looks for models by name."""
        from ..settings import ModelSettings, Settings

        values = self._client.config().values
        models = ModelSettings(tuple(values["models.roots"]), values["models.hf_home"])
        settings = Settings(models=models)
        return (*settings.model_roots(), settings.hub())

    def close(self) -> None:
        """Let go of the daemon."""
        self._client.close(now=True)


def passes(error: AlloydError) -> bool:
    """Whether the daemon may well take the same submission in a moment: it is full, stopping, or gone."""
    return error.retryable or (
        error.code in ("E_SERVICE", "E_UNREACHABLE", "E_STORE") and not isinstance(error, ProtocolError)
    )
