"""Who may see the page: whoever has its token, at this machine's own address, from no other site. Pure."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..errors import ServiceError
from ..paths import Home, write_private
from .http import Request

HOST: Final = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?")
"""What a browser calls this machine, also at the near end of a tunnel, where the port is another."""
ORDER: Final = "alloyd-order"
"""The header that a page's own script adds to an order."""
LEAST: Final = 32


def token_file(home: Home) -> Path:
    """Where the token lies, which only this user can read."""
    return home.root / "page.token"


def token_of(home: Home) -> str:
    """The token of this home's page; made if there is none. Without the file, the next one is another."""
    file = token_file(home)
    if not os.path.lexists(file):
        home.create()
        # Of two pages that begin at once, both have the token that is in the file.
        with contextlib.suppress(FileExistsError):
            write_private(file, f"{secrets.token_urlsafe(LEAST)}\n".encode(), first=True)
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as wrong:
        raise ServiceError(f"{file} cannot be read: {wrong}", hint="Remove it.", path=str(file)) from wrong
    if len(text) < LEAST or not text.isprintable() or " " in text or file.stat().st_mode & 0o077:
        raise ServiceError(
            f"{file} holds no token that is this user's alone",
            hint="Remove it; the next 'alloy ui' makes another.",
            path=str(file),
        )
    return text


class Gate:
    """Opens to one token. A browser shows it once and then has a cookie, which the token cannot be read from."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._cookie = _derived(token, "cookie")
        self.order = _derived(token, "order")
        # Cookies know no ports: each daemon's page has one of its own name.
        self._name = f"alloyd-{_derived(token, 'name')[:8]}"

    def near(self, request: Request) -> bool:
        """Whether it was asked by an address of this machine: a name that others gave it is a trap."""
        return HOST.fullmatch(request.headers.get("host", "").lower()) is not None

    def of_itself(self, request: Request) -> bool:
        """Whether no other site's page asks."""
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "none")
        return origin in (None, f"http://{request.headers.get('host', '')}") and site in (
            "same-origin",
            "none",
        )

    def bears(self, request: Request) -> bool:
        """Whether it shows the token itself."""
        kind, _, shown = request.headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and _same(shown.strip(), self._token)

    def knows(self, request: Request) -> bool:
        """Whether it shows the token or the cookie that was had for it."""
        return self.bears(request) or _same(_cookies(request.headers).get(self._name, ""), self._cookie)

    def orders(self, request: Request) -> bool:
        """Whether it may change something: a form of another site cannot add a header."""
        return self.of_itself(request) and (
            self.bears(request) or (self.knows(request) and _same(request.headers.get(ORDER, ""), self.order))
        )

    @property
    def cookie(self) -> str:
        """The header that gives a browser its cookie, until it is closed."""
        return f"{self._name}={self._cookie}; Path=/; HttpOnly; SameSite=Strict"


def _derived(token: str, what: str) -> str:
    return hmac.new(token.encode(), what.encode(), hashlib.sha256).hexdigest()


def _same(shown: str, right: str) -> bool:
    return hmac.compare_digest(shown.encode("utf-8", "replace"), right.encode())


def _cookies(headers: Mapping[str, str]) -> dict[str, str]:
    pairs = (each.partition("=") for each in headers.get("cookie", "").split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}
