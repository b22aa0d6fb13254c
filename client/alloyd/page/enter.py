"""What a browser without the token gets: a page that takes it from the address, or asks for it."""

from __future__ import annotations

import base64
import hashlib
from functools import cache

from . import markup
from .document import asset
from .http import Answer


@cache
def enter() -> Answer:
    """The answer to whoever is not known."""
    script, style = asset("enter.js"), asset("page.css")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    label = markup.tag("label", "Token ", for_="token")
    field = '<input id="token" type="password" autocomplete="off" spellcheck="false" required>'
    body = (
        '<header class="top"><h1>alloyd</h1></header><main id="main"><div class="card">'
        "<p>This page is for whoever started it. Open the address that <code>alloy ui</code> prints, with its token, "
        "or paste the token from the file <code>page.token</code> in the daemon's home.</p>"
        f'<form><p>{label}{field} <button>enter</button></p></form><p id="said" role="status"></p></div></main>'
        "<noscript><p>Without scripts nothing can be shown here.</p></noscript>"
    )
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>alloyd</title><style>{style}</style></head><body>{body}<script>{script}</script></body></html>\n"
    )
    headers = {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": policy,
        "www-authenticate": "Bearer",
    }
    return Answer(401, text.encode(), headers)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
