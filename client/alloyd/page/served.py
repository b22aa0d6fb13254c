"""Scripts and styles as the server gives them: packed once, and kept by the browser until they change."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from typing import Final

from .document import asset
from .http import Answer, Request
from .plotly_script import plotly_script

NAMES: Final = (
    "page.css",
    "page.js",
    "refresh.js",
    "listen.js",
    "live.js",
    "queue.css",
    "queue.js",
    "plotly.min.js",
)
_KINDS: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


def served(name: str, request: Request) -> Answer | None:
    """The answer to a request for ``name``; ``None`` if there is nothing of that name."""
    if name not in NAMES:
        return None
    plain, packed, mark = _stored(name)
    headers = {
        "content-type": _KINDS[name.rpartition(".")[2]],
        "etag": mark,
        "cache-control": "private, no-cache",
        "vary": "accept-encoding",
    }
    if request.headers.get("if-none-match") == mark:
        return Answer(304, b"", headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Answer(200, packed, {**headers, "content-encoding": "gzip"})
    return Answer(200, plain, headers)


@cache
def _stored(name: str) -> tuple[bytes, bytes, str]:
    """The bytes, the same packed, and a mark that only they have."""
    plain = (plotly_script() if name == "plotly.min.js" else asset(name)).encode()
    return plain, gzip.compress(plain, 6, mtime=0), f'"{hashlib.sha256(plain).hexdigest()[:32]}"'
