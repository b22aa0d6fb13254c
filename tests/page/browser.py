"""A real headless Chromium: what it shows, what it asks for, and what axe finds in it.

``ALLOYD_SCREENSHOTS=FOLDER`` keeps a picture of every page in each theme, wide and narrow.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from extras import absent, need
from trial_daemon import PATIENCE, eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, LocatorAssertions, Page, Request

WIDE: Final = 1280
NARROW: Final = 400
SECONDS: Final = PATIENCE
THEMES: Final = ("light", "dark")
NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
QUIET: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def browsing() -> Iterator[Browser]:
    """The browser of this machine; skipped where there is none."""
    need("page", "plotly", "h11")
    need("browser", "playwright", "axe_playwright_python")
    from playwright.sync_api import expect, sync_playwright

    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        absent("browser", f"none of {', '.join(NAMES)} is installed; Debian's package 'chromium' brings one")
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=list(QUIET), timeout=4 * SECONDS * 1000
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass(slots=True)
class Window:
    """One page, with what it asked for and what it complained about."""

    page: Page
    asked: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def outside(self) -> list[str]:
        """Requests that went beyond this machine."""
        found = []
        for address in self.asked:
            parts = urlsplit(address)
            if parts.scheme not in ("data", "blob", "file") and parts.hostname not in (
                "127.0.0.1",
                "localhost",
            ):
                found.append(address)
        return found


@contextmanager
def window(browser: Browser) -> Iterator[Window]:
    """A fresh profile whose every request is looked at; none that leads outside is let through."""
    context = browser.new_context(
        color_scheme="light", viewport={"width": WIDE, "height": 900}, service_workers="block"
    )
    context.set_default_timeout(SECONDS * 1000)
    made = Window(context.new_page())

    def look(route: Any, request: Request) -> None:
        made.asked.append(request.url)
        route.abort() if made.outside() else route.continue_()

    context.route("**/*", look)
    made.page.on("pageerror", lambda wrong: made.wrong.append(str(wrong)))
    made.page.on("dialog", lambda dialog: dialog.accept())
    made.page.on(
        "console",
        lambda said: (
            made.wrong.append(said.text) if said.type == "error" and not _expected(said.text) else None
        ),
    )
    try:
        yield made
        assert made.outside() == []
        assert made.wrong == []
    finally:
        context.close()


def _expected(text: str) -> bool:
    """What Chromium says of a request that is refused, or of a server that is away, both on purpose."""
    return any(each in text for each in ("status of 401", "status of 404", "status of 503", "net::ERR_"))


def see(what: Locator) -> LocatorAssertions:
    """What is to be seen of ``what``, sooner or later."""
    from playwright.sync_api import expect

    return expect(what)


def drawn(page: Page) -> None:
    """Wait until every figure is drawn."""
    eventually(
        lambda: page.evaluate(
            "[...document.querySelectorAll('.plot')].every((each) => each.dataset.drawn === 'yes')"
        )
    )


def fits(page: Page) -> bool:
    """Whether the page is not wider than its window."""
    found: bool = page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    return found


def findings(page: Page) -> list[str]:
    """What axe calls serious or critical."""
    from axe_playwright_python.sync_playwright import Axe

    return [
        f"{each['impact']} {each['id']}: {', '.join(str(node['target']) for node in each['nodes'][:5])}"
        for each in Axe().run(page).response["violations"]
        if each["impact"] in ("serious", "critical")
    ]


def appearances(page: Page) -> Iterator[tuple[str, int]]:
    """Show the page in each theme and width, one after the other."""
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        for width in (WIDE, NARROW):
            page.set_viewport_size({"width": width, "height": 900})
            eventually(lambda: fits(page))
            yield theme, width


def picture(page: Page, name: str) -> None:
    """Keep a picture of the whole page where the environment says."""
    folder = os.environ.get("ALLOYD_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(500)  # for figures to have another size
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def focused(page: Page) -> str:
    """What has the focus, by what it is called."""
    name: str = page.evaluate(
        "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent).trim().slice(0, 60)"
    )
    return name


def is_marked(page: Page) -> bool:
    """Whether one sees what has the focus."""
    style: dict[str, str] = page.evaluate(
        "(() => { const s = getComputedStyle(document.activeElement); "
        "return { style: s.outlineStyle, width: s.outlineWidth }; })()"
    )
    return style["style"] != "none" and style["width"] != "0px"
