"""Reports as files in a real browser: complete in themselves, readable in both themes, by keyboard, and narrow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from alloyd.page.report import write_report
from page.browser import (
    WIDE,
    appearances,
    drawn,
    findings,
    fits,
    focused,
    is_marked,
    picture,
    see,
    window,
)
from page.real_stories import HOSTILE, NAMES, renamed, told
from trial_daemon import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EACH_TIME = ("front", "merge")
"""Stories whose pages are looked at in every run; the others' in the soak."""
PAPER = 717
"""Pixels across a sheet of A4 between its margins."""
PAINT = "each => getComputedStyle(each).backgroundColor"
CUT_OFF = """[...document.querySelectorAll("figure")].filter((figure) =>
  figure.querySelector(".main-svg").getBoundingClientRect().right > figure.getBoundingClientRect().right
).map((figure) => figure.id)"""
SCROLLED = """[...document.querySelectorAll(".scroll, pre")].filter((each) =>
  each.scrollHeight > each.clientHeight + 1 || each.scrollWidth > each.clientWidth + 1
).map((each) => each.getAttribute("aria-label"))"""


@pytest.fixture(scope="module")
def reports(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the report of each real story lies, and of one whose every name is hostile."""
    folder = tmp_path_factory.mktemp("reports")
    stories = {name: told(name) for name in NAMES}
    story = stories["search"]
    stories["hostile"] = replace(
        story,
        job=msgspec.structs.replace(story.job, out=HOSTILE, owner=HOSTILE),
        results=renamed(story.results, lambda name: f"{name} {HOSTILE}"),
        log=HOSTILE,
    )
    for name, story in stories.items():
        write_report(story, folder / f"{name}.html")
    return {name: (folder / f"{name}.html").as_uri() for name in stories}


def test_names_are_text(browser: Browser, reports: dict[str, str]) -> None:
    with window(browser) as seen:
        page = seen.page
        page.goto(reports["hostile"])
        drawn(page)
        assert page.locator(".plot svg").count() > 0
        assert page.locator("main img, main b").count() == 0
        assert "<img src=x" in (page.locator("main").text_content() or "")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in EACH_TIME else pytest.mark.soak) for name in NAMES]
)
def test_a_report_needs_nothing_is_accessible_and_fits(
    name: str, browser: Browser, reports: dict[str, str]
) -> None:
    with window(browser) as seen:
        page = seen.page
        page.goto(reports[name])
        drawn(page)
        assert seen.asked == [reports[name]], "it loads nothing"
        for figure in page.locator("figure").all():
            assert figure.locator("figcaption").text_content()
            assert figure.locator("[role=img]").get_attribute("aria-label")
        # One of each kind: all of the tables would keep axe busy for long, and they are alike.
        for kind in ("figure details", "details.code"):
            page.locator(kind).evaluate_all("all => all.slice(0, 1).forEach((each) => { each.open = true; })")
        for theme, width in appearances(page):
            picture(page, f"report-{name}-{theme}-{width}")
            if width == WIDE:
                assert findings(page) == []


def test_a_report_is_read_by_keyboard(browser: Browser, reports: dict[str, str]) -> None:
    with window(browser) as seen:
        page = seen.page
        page.goto(reports["score"])
        drawn(page)
        page.keyboard.press("Tab")
        assert focused(page) == "to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        opened = 0
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement === document.body"):
                break
            assert is_marked(page), focused(page)
            if page.evaluate("document.activeElement.tagName") == "SUMMARY":
                details = page.locator("details:has(> summary:focus)")
                before = details.evaluate("each => each.open")
                page.keyboard.press("Enter")
                assert details.evaluate("each => each.open") is not before
                opened += 1
        assert opened >= page.locator("figure details").count() > 0
        theme = page.get_by_role("button", name="theme")
        theme.focus()
        page.keyboard.press("Space")
        see(theme).to_have_text("theme: light")


def test_paper_shows_everything_and_has_no_buttons(browser: Browser, reports: dict[str, str]) -> None:
    with window(browser) as seen:
        page = seen.page
        page.emulate_media(color_scheme="dark")
        page.goto(reports["search"])
        drawn(page)
        folded = page.locator("details:not([open])").count()
        assert folded > 5
        page.set_viewport_size({"width": PAPER, "height": 1000})
        page.emulate_media(media="print")
        see(page.locator("details:not([open])")).to_have_count(0)
        see(page.locator("button:visible, nav:visible, progress:visible, input:visible")).to_have_count(0)
        assert fits(page)
        eventually(lambda: page.evaluate(CUT_OFF) == [])
        assert page.locator(".card").first.evaluate(PAINT) == "rgb(255, 255, 255)"
        assert page.evaluate(SCROLLED) == []
        picture(page, "report-search-paper")
        page.emulate_media(media="screen")
        see(page.locator("details:not([open])")).to_have_count(folded)
        assert page.pdf(format="A4", print_background=True).startswith(b"%PDF")
