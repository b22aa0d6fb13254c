"""The page of a search while it runs: every picture grows with it, and what the reader did with the page stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from page.browser import NARROW, findings, fits, picture, see, window
from page.quick_search import ALL, BASELINES, Gate, QuickDaemon, spec
from page.ui import Ui, serving
from trial_daemon import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FIRST = BASELINES + 1


# Each test has a daemon of its own: a search that waits at its gate would keep all that come after it waiting.
@pytest.fixture
def daemon(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuickDaemon]:
    with QuickDaemon(tmp_path_factory.mktemp("daemon") / "home") as found:
        yield found


@pytest.fixture
def ui(daemon: QuickDaemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    with serving(daemon, tmp_path_factory.mktemp("ui")) as found:
        yield found
        assert "Traceback" not in found.printed.read_text()


HASTE = """
const slow = window.setTimeout;
window.setTimeout = (act, wait, ...more) => slow(act, wait > 4000 && wait < 20000 ? 400 : wait, ...more);
"""
"""What a page waits for between two looks, shortened."""


def in_time(page: Page, check: Callable[[], object]) -> None:
    """Wait until ``check`` is true."""

    def now() -> object:
        page.wait_for_timeout(100)
        return check()

    eventually(now, seconds=240)


def says(page: Page, section: str, words: str) -> Callable[[], bool]:
    """Whether a section is there and says so."""
    return lambda: words in "".join(page.locator(f"#{section}").all_text_contents())


def points(page: Page, figure: str, trace: str) -> int:
    """How many marks a plot has drawn."""
    found: int = page.evaluate(
        "([figure, trace]) => document.querySelector(`${figure} .plot`)?.data"
        "?.find((each) => each.name === trace)?.x.length ?? 0",
        [figure, trace],
    )
    return found


def height(page: Page) -> float:
    """Where in the window the table of trials begins, once the browser has drawn, and so scrolled, what changed."""
    found: float = page.evaluate(
        """() => new Promise((tell) => requestAnimationFrame(() => requestAnimationFrame(
            () => tell(document.querySelector("#trials .scroll").getBoundingClientRect().top))))"""
    )
    return found


def test_a_search_is_followed_from_its_plan_to_its_winner(
    browser: Browser, ui: Ui, daemon: QuickDaemon, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    with window(browser) as seen, daemon.client() as client:
        page = seen.page
        page.add_init_script(HASTE)
        page.emulate_media(reduced_motion="reduce")  # what scrolls is there at once
        job = client.search(spec(tmp_path, gate, candidates=40))
        page.goto(f"{ui.url}jobs/{job.id}#token={ui.token}")
        see(page.locator("#top .state")).to_have_text("running")
        page.evaluate("window.still = true")
        in_time(page, says(page, "plan", "11, scored first: math_wide"))
        see(page.locator("#top .says")).to_contain_text("0 of 11 baselines")
        see(page.get_by_role("progressbar")).to_be_visible()
        assert page.locator("#search").count() == 0

        gate.until(1)
        in_time(page, lambda: points(page, "#search-convergence", "baselines") == BASELINES)
        in_time(page, says(page, "search", "It is a baseline, which no candidate has beaten"))
        see(page.locator("#winner")).to_contain_text("The best so far")

        # What the reader does: opens and scrolls a table, has the focus on it, zooms a plot.
        numbers = page.locator("#search-convergence-rows")
        numbers.locator("summary").click()
        table = page.locator("#trials .scroll")
        table.focus()
        table.evaluate("each => { each.scrollTop = 40; }")
        page.evaluate(
            "Plotly.relayout(document.querySelector('#search-convergence .plot'), { 'xaxis.range': [5, 15] })"
        )
        place, scrolled = height(page), page.evaluate("scrollY")
        gate.until(FIRST + 20)
        in_time(page, lambda: points(page, "#search-convergence", "candidates") >= 5)
        in_time(page, says(page, "winner", "Its genes"))
        in_time(page, says(page, "learnt", "weight[math_wide]"))
        in_time(page, says(page, "trust", "rung 1 and 2"))
        assert numbers.get_attribute("open") is not None
        assert page.evaluate("document.activeElement.matches('#trials .scroll')")
        assert page.evaluate("document.activeElement.scrollTop") == 40
        assert page.evaluate("document.querySelector('#search-convergence .plot').layout.xaxis.range") == [
            5,
            15,
        ]
        assert height(page) == pytest.approx(place, abs=10), "what the reader looks at stays where it is"
        assert page.evaluate("scrollY") > scrolled + 200, "though parts grew above it"
        assert findings(page) == []
        picture(page, "search-running")

        client.pause(job.id)
        see(page.locator("#top .state")).to_have_text("paused")
        daemon.kill_all()
        see(page.locator(".lost")).to_contain_text("The daemon is away")
        daemon.start()
        see(page.locator(".lost")).to_be_hidden()
        client.resume(job.id)
        gate.until(ALL)
        in_time(page, lambda: page.locator("#top .state").text_content() == "done")
        in_time(page, says(page, "leaderboard", "The winner, trial"))
        see(page.locator("#top .says")).to_contain_text("The winner is trial")
        see(page.locator("main > section").nth(1)).to_contain_text("Leaderboard")
        see(page.get_by_role("progressbar")).to_be_hidden()
        assert page.evaluate("window.still") is True


def test_a_front_grows_and_a_chosen_family_stays_chosen(
    browser: Browser, ui: Ui, daemon: QuickDaemon, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    gate.until(FIRST + 20)
    with window(browser) as seen, daemon.client() as client:
        page = seen.page
        page.add_init_script(HASTE)
        job = client.search(spec(tmp_path, gate, candidates=60, goal="pareto"))
        page.goto(f"{ui.url}jobs/{job.id}#token={ui.token}")
        page.set_viewport_size({"width": NARROW, "height": 900})
        front = "#search-pareto-front"
        in_time(page, lambda: page.locator(f"{front} select option").count() > 1)
        chosen = page.locator(f"{front} select")
        chosen.select_option(index=1)
        name = chosen.evaluate("each => each.selectedOptions[0].textContent")
        in_time(page, lambda: points(page, front, "parents") >= 3)
        before = page.locator(f"{front} select option").count()
        gate.until(FIRST + 40)
        in_time(page, lambda: page.locator(f"{front} select option").count() > before)
        assert chosen.evaluate("each => each.selectedOptions[0].textContent") == name
        assert points(page, front, "parents") >= 3
        assert fits(page)
        gate.until("broken")
        in_time(page, lambda: page.locator("#top .state").text_content() == "failed")
        see(page.locator("#overview .error")).to_contain_text("candidates failed one after the other")
        in_time(page, says(page, "trials", "is broken"))
        assert page.locator(front).is_visible()
