"""``alloy ui``: the page in the browser, live."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import sys
import webbrowser
from pathlib import Path

from .connecting import async_client_of, client_of
from .console import Console
from .errors import UsageError
from .page.plotly_script import plotly_file
from .paths import Home, find_home, write_private


def ui(options: argparse.Namespace, console: Console) -> int:
    """Serve the page until Ctrl-C."""
    plotly_file()
    if importlib.util.find_spec("h11") is None:
        raise UsageError(
            "the page needs the library 'h11', which is not installed", hint="pip install 'alloyd[page]'"
        )
    from .page.gate import Gate, token_file, token_of
    from .page.serving import bind, serve

    home = find_home(getattr(options, "home", None))
    token = token_of(home)
    with bind(options.port) as place:
        address = f"http://127.0.0.1:{place.getsockname()[1]}/"
        with client_of(
            options
        ) as client:  # starts a daemon, as every command does; the page's own start none
            client.hello()

        def ready() -> None:
            said = {"url": address, "token_file": str(token_file(home))}
            console.line("ui", said)
            # Only a terminal is sure to be nobody's log.
            console.show(_with(address, token) if sys.stdout.isatty() else address)
            console.say(f"the token is in {token_file(home)}; Ctrl-C ends the page, and the jobs go on")
            if options.open or (options.open is None and _has_screen()):
                webbrowser.open(_door(home, _with(address, token)).as_uri())

        async def run() -> None:
            async with async_client_of(options, autostart=False, timeout=5.0) as client:
                await serve(place, Gate(token), client, lambda: client_of(options, autostart=False), ready)

        try:
            asyncio.run(run())
        finally:
            _door_file(home).unlink(missing_ok=True)
    console.result({"url": address})
    return 0


def _with(address: str, token: str) -> str:
    # What follows # never leaves the browser: it is in no request and in no referrer.
    return f"{address}#token={token}"


def _has_screen() -> bool:
    return sys.stdout.isatty() and bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _door_file(home: Home) -> Path:
    return home.root / "page.html"


def _door(home: Home, address: str) -> Path:
    """A file that leads to the page: everybody can see what a browser is started with, so not the token."""
    file = _door_file(home)
    write_private(file, f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">\n'.encode())
    return file
