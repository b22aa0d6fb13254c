"""Whether somebody listens on a socket of the file system."""

from __future__ import annotations

import socket
from pathlib import Path

from alloyd.errors import ServiceError


def connect(place: Path) -> None:
    """Be answered by whoever listens at a socket, or raise OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        probe.connect(str(place))


def refuse_taken(place: Path) -> None:
    """Raise ServiceError where somebody listens: binding there would take the socket away from a living daemon."""
    try:
        connect(place)
    except BlockingIOError:  # more wait to be let in than there is room for
        pass
    except OSError:
        return
    raise ServiceError(
        f"another daemon listens on {place}",
        hint="Each home needs sockets of its own: set another daemon.endpoint, or none.",
        path=str(place),
    )
