"""Reports as files in a real browser: complete in themselves, readable in both themes, by keyboard, and narrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from alloyd.page.report import write_report
from page.browser import (
    WIDE,
    appearances,
    drawn,
    findings,
    focused,
    is_marked,
    picture,
    see,
    window,
)
from page.stories import merge_story, search_story

if TYPE_CHECKING:
    from playwright.sync_api import Browser

KINDS = ("search", "merge")


@pytest.fixture(scope="module")
def reports(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the report of each kind of job lies."""
    folder = tmp_path_factory.mktemp("reports")
    stories = {"search": search_story(folder), "merge": merge_story()}
    for kind, story in stories.items():
        write_report(story, folder / f"{kind}.html")
    return {kind: (folder / f"{kind}.html").as_uri() for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_needs_nothing_and_names_are_text(
    kind: str, browser: Browser, reports: dict[str, str]
) -> None:
    with window(browser) as seen:
        page = seen.page
        page.goto(reports[kind])
        drawn(page)
        assert page.locator(".plot svg").count() > 0
        assert seen.asked == [reports[kind]]
        assert page.locator("main img").count() == 0
        assert "<img src=x" in (page.locator("main").text_content() or "")
        for figure in page.locator("figure").all():
            assert figure.locator("figcaption").text_content()
            assert figure.locator("[role=img]").get_attribute("aria-label")


@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing_serious_and_nothing_is_cut_off(
    kind: str, browser: Browser, reports: dict[str, str]
) -> None:
    with window(browser) as seen:
        page = seen.page
        page.goto(reports[kind])
        drawn(page)
        for theme, width in appearances(page):
            picture(page, f"report-{kind}-{theme}-{width}")
            if width == WIDE:
                page.locator("details").evaluate_all("all => all.forEach((each) => { each.open = true; })")
                assert findings(page) == []


def test_a_report_is_read_by_keyboard(browser: Browser, reports: dict[str, str]) -> None:
    with window(browser) as seen:
        page = seen.page
        page.goto(reports["search"])
        drawn(page)
        page.keyboard.press("Tab")
        assert focused(page) == "to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        visited = []
        for _ in range(60):
            page.keyboard.press("Tab")
            name = focused(page)
            if page.evaluate("document.activeElement === document.body"):
                break
            assert is_marked(page), name
            visited.append(name)
            if page.evaluate("document.activeElement.tagName") == "SUMMARY":
                details = page.locator("details:has(summary:focus)")
                before = details.evaluate("each => each.open")
                page.keyboard.press("Enter")
                assert details.evaluate("each => each.open") is not before
        assert len(visited) == len(page.locator(":focus-visible").all()) or len(visited) > 5
        theme = page.get_by_role("button", name="theme")
        theme.focus()
        page.keyboard.press("Space")
        see(theme).to_have_text("theme: light")
