"""The daemon with remote keys that the remote tests have, for the fuzz of the protocol."""

from __future__ import annotations

from remote.conftest import far, here

__all__ = ["far", "here"]
