"""Runs the page's server: loopback only, until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Final

from ..aio import AsyncClient
from ..api import Client
from ..errors import ServiceError
from .gate import Gate
from .http import Server
from .server import Site

ADDRESS: Final = "127.0.0.1"


def bind(port: int) -> socket.socket:
    """A socket on this machine's own address; ``port`` 0 is any that is free. Raises ServiceError."""
    place = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((ADDRESS, port))
    except OSError as wrong:
        place.close()
        taken = wrong.errno == errno.EADDRINUSE
        raise ServiceError(
            f"port {port} of {ADDRESS} cannot be used: {wrong.strerror}",
            hint="--port 0 takes one that is free." if taken else "Choose another with --port.",
            port=port,
        ) from None
    return place


async def serve(
    place: socket.socket,
    gate: Gate,
    client: AsyncClient,
    spare: Callable[[], Client],
    ready: Callable[[], None],
) -> None:
    """Serve until SIGINT or SIGTERM; ``ready`` is called when connections are taken."""
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    site = Site(gate, client, spare)
    server = Server(site.handle, _fallen)
    watching = asyncio.ensure_future(site.news.watching.run())
    await server.start(place)
    ready()
    ended = asyncio.ensure_future(over.wait())
    try:
        await asyncio.wait([watching, ended], return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
    finally:
        await server.close()
        for each in (watching, ended):
            each.cancel()
        await asyncio.gather(watching, ended, return_exceptions=True)
        site.close()


def _fallen(wrong: Exception) -> None:
    """A bug: the request is answered with 500, its trace is for whoever looks after the server."""
    traceback.print_exception(wrong, file=sys.stderr)
