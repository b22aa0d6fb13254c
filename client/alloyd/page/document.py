"""One HTML document of sections: complete in itself for a file, or served with its scripts beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Final

from . import markup
from .parts import Head, Section
from .plotly_script import plotly_script

NO_SCRIPT: Final = "A script draws the figures, and none runs here; the tables hold their numbers."


def document(head: Head, sections: Sequence[Section], *, live: bool) -> str:
    """The page as text.

    ``live``: a server serves it, with ``/assets/page.css``, ``/assets/page.js`` and ``/assets/plotly.min.js``, and says
    what it may load. Otherwise all of them are in it, and it may load nothing.

    Raises
    ------
    UsageError
        It is not ``live`` and plotly is not installed.
    """
    body = "".join(markup.section(each) for each in sections)
    if live:
        return live_page(
            head,
            body,
            scripts=("plotly.min.js", "page.js", "refresh.js", "listen.js", "live.js"),
            sections=sections,
        )
    texts = (plotly_script(), asset("page.js"))
    return _whole(
        head,
        body,
        sections,
        style=f"<style>{asset('page.css')}</style>",
        scripts="".join(f"<script>{each}</script>" for each in texts),
        policy=f'<meta http-equiv="Content-Security-Policy" content="{_policy(texts)}">',
    )


def live_page(
    head: Head,
    body: str,
    *,
    scripts: Sequence[str],
    styles: Sequence[str] = ("page.css",),
    sections: Sequence[Section] = (),
) -> str:
    """A page around ``body``, which is HTML, with its scripts and styles beside it on the server."""
    return _whole(
        head,
        body,
        sections,
        style="".join(f'<link rel="stylesheet" href="/assets/{each}">' for each in styles),
        scripts="".join(f'<script src="/assets/{each}" defer></script>' for each in scripts),
    )


def _whole(
    head: Head, body: str, sections: Sequence[Section], *, style: str, scripts: str, policy: str = ""
) -> str:
    live = not policy
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"{policy}"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        '<link rel="icon" href="data:,">'
        f"<title>{markup.escape(head.title)}</title>{style}</head>"
        f'<body data-live="{str(live).lower()}"><a class="skip" href="#main">to the content</a>'
        f"{markup.head(head, live=live)}{markup.navigation(sections) if sections else ''}"
        f'<main id="main" tabindex="-1">{body}</main><noscript><p>{NO_SCRIPT}</p></noscript>'
        f"{scripts}</body></html>\n"
    )


@cache
def asset(name: str) -> str:
    """One of our own files, as text."""
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """What an offline page may do: run its own scripts, each known by its digest, and load nothing."""
    digests = " ".join(f"'sha256-{_digest(each)}'" for each in scripts)
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
