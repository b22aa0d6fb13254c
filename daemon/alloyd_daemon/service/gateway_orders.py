"""What the daemon tells its gateway and hears of it; the daemon itself loads nothing of what speaks to the network."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ..settings import DaemonSettings


class Orders(Struct, frozen=True):
    """To the gateway, one line of JSON on stdin: where to listen, whom to serve, how much to take."""

    home: str
    daemon: DaemonSettings
    listen: str
    events: str
    local_requests: str
    local_events: str
    rate: float
    connections: int
    memory: int


class Said(Struct, frozen=True):
    """From the gateway, one line of JSON on stdout: where it listens, or why not."""

    requests: str = ""
    events: str = ""
    error: dict[str, Any] | None = None
