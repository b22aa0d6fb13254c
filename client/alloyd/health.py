"""Whether a daemon is well, for whoever watches it: alive, and ready to take work."""

from __future__ import annotations

from .api import Client
from .errors import AlloydError


def live(client: Client) -> tuple[bool, str]:
    """Whether the daemon answers at all, and what it said or why it did not."""
    try:
        return True, f"alloyd {client.hello().software}"
    except AlloydError as error:
        return False, error.message


def ready(client: Client) -> tuple[bool, str]:
    """Whether the daemon takes work now, and else why not."""
    try:
        status = client.status()
    except AlloydError as error:
        return False, error.message
    return (False, "stopping") if status.stopping else (True, "ready")
