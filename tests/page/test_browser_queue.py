"""The live page in a real browser: it is entered, shows what happens, takes orders, and outlives its servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from alloyd.jobs import JobState
from page.browser import WIDE, appearances, findings, focused, is_marked, picture, see, window
from page.ui import Ui, serving
from trial_daemon import TrialDaemon, eventually, let_go, trial

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = "<img src=x onerror=alert(1)>'\"&amp;\u202e<script>_"


@pytest.fixture(scope="module")
def daemon(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path_factory.mktemp("daemon") / "home") as found:
        yield found


@pytest.fixture(scope="module")
def ui(daemon: TrialDaemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    with serving(daemon, tmp_path_factory.mktemp("ui")) as found:
        yield found
        assert "Traceback" not in found.printed.read_text()


def test_it_is_entered_by_its_token_once(browser: Browser, ui: Ui) -> None:
    with window(browser) as seen:
        page = seen.page
        page.goto(ui.url)
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        see(page.get_by_role("status")).to_have_text("This is not the token of this page.")
        assert findings(page) == []
        picture(page, "enter")
        page.get_by_label("Token").fill(ui.token)
        page.keyboard.press("Enter")
        see(page.get_by_role("heading", name="Running or paused")).to_be_visible()
    with window(browser) as seen:
        page = seen.page
        page.goto(f"{ui.url}jobs/merge-999#token={ui.token}")
        see(page.get_by_text("merge-999").first).to_be_visible()
        assert ui.token not in page.url
        assert page.evaluate("document.cookie") == ""
        assert ui.token not in page.content()
        assert not any(ui.token in address for address in seen.asked)


def test_what_happens_is_seen_without_a_reload(
    browser: Browser, ui: Ui, daemon: TrialDaemon, tmp_path: Path
) -> None:
    with window(browser) as seen, daemon.client() as client:
        page = seen.page
        page.goto(ui.entry)
        see(page.get_by_text("Nothing waits.")).to_be_visible()
        page.evaluate("window.still = true")
        job = client.submit(trial(tmp_path / "soup", 60, at={20: "hold", 40: "hold"}))
        waiting = client.submit(trial(tmp_path / "next", 3))
        row = page.locator("#running li", has_text=job.id)
        see(row).to_contain_text("running")
        see(page.locator("#waiting li", has_text=waiting.id)).to_contain_text(f"waits for {job.id}")
        bar = row.locator("progress")
        first = float(bar.evaluate("each => each.value"))
        let_go(tmp_path / "soup", 20)
        eventually(lambda: bar.evaluate("each => each.value") > first)
        see(row).to_contain_text("B/s")
        let_go(tmp_path / "soup")
        for name in (job.id, waiting.id):
            see(page.locator("#ended li", has_text=name)).to_contain_text("done")
        assert page.locator("#said").text_content() in (f"{job.id} is done", f"{waiting.id} is done")
        assert page.evaluate("window.still") is True
        see(page.locator("#top .says")).to_contain_text("done")


def test_the_page_of_a_job_follows_it(browser: Browser, ui: Ui, daemon: TrialDaemon, tmp_path: Path) -> None:
    with window(browser) as seen, daemon.client() as client:
        page = seen.page
        job = client.submit(trial(tmp_path / "soup", 30, at={20: "hold"}))
        page.goto(f"{ui.url}jobs/{job.id}#token={ui.token}")
        see(page.locator("#top .state")).to_have_text("running")
        page.evaluate("window.still = true")
        let_go(tmp_path / "soup")
        client.wait(job.id)
        see(page.locator("#top .state")).to_have_text("done")
        assert page.evaluate("window.still") is True
        page.get_by_role("link", name="all jobs").click()
        see(page.locator("#ended li", has_text=job.id)).to_be_visible()


def test_daemon_and_server_may_go_and_come(browser: Browser, daemon: TrialDaemon, tmp_path: Path) -> None:
    with window(browser) as seen, daemon.client() as client:
        page = seen.page
        with serving(daemon, tmp_path) as ui:
            job = client.submit(trial(tmp_path / "soup", at={2: "hold"}))
            page.goto(ui.entry)
            row = page.locator("#running li", has_text=job.id)
            see(row).to_be_visible()
            page.evaluate("window.still = true")
            daemon.kill_all()
            see(page.locator("#lost")).to_contain_text("The daemon is away")
            see(row).to_be_visible()
            daemon.start()
            see(page.locator("#lost")).to_be_hidden()
            see(row).to_contain_text("running")
        see(page.locator("#lost")).to_contain_text("alloy ui")
        with serving(daemon, tmp_path, port=ui.port):
            see(page.locator("#lost")).to_be_hidden()
            client.cancel(job.id)
            see(page.locator("#ended li", has_text=job.id)).to_contain_text("cancelled")
        assert page.evaluate("window.still") is True


def test_names_from_outside_are_text(browser: Browser, ui: Ui, daemon: TrialDaemon, tmp_path: Path) -> None:
    with window(browser) as seen, daemon.client() as client:
        page = seen.page
        folder = tmp_path / "<b>bold"
        folder.mkdir()
        job = client.submit(trial(folder / HOSTILE, 3, at={1: "refuse"}))
        page.goto(ui.entry)
        see(page.locator("#ended li", has_text=job.id)).to_contain_text("failed")
        running = client.submit(trial(folder / HOSTILE, at={2: "hold"}))
        see(page.locator("#running .what")).to_contain_text("<img src=x onerror=alert(1)>'\"&amp;\\u202e")
        assert page.locator("main img, main b").count() == 0
        page.goto(f"{ui.url}jobs/{job.id}")
        see(page.get_by_role("heading", level=1)).to_contain_text("<img src=x onerror=alert(1)>")
        assert page.locator("main img, main b").count() == 0
        client.cancel(running.id)


def test_everything_is_done_by_keyboard(
    browser: Browser, ui: Ui, daemon: TrialDaemon, tmp_path: Path
) -> None:
    with window(browser) as seen, daemon.client() as client:
        page = seen.page
        job = client.submit(trial(tmp_path / "soup", at={2: "hold"}))
        page.goto(ui.entry)
        see(page.locator("#running li")).to_contain_text("running")
        order = []
        for _ in range(5):
            page.keyboard.press("Tab")
            order.append(focused(page))
            assert is_marked(page), order[-1]
        assert order == ["to the content", "theme: auto", job.id, f"pause {job.id}", f"cancel {job.id}"]
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        see(page.locator("#running li")).to_contain_text("paused")
        eventually(lambda: focused(page) == f"resume {job.id}")  # the focus stays where it was
        page.keyboard.press("Space")
        see(page.locator("#running li")).to_contain_text("running")
        page.get_by_role("button", name=f"cancel {job.id}").focus()
        page.keyboard.press("Enter")
        see(page.locator("#ended li", has_text=job.id)).to_contain_text("cancelled")
        theme = page.get_by_role("button", name=re.compile("theme"))
        theme.focus()
        background = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(background)
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        see(theme).to_have_text("theme: dark")
        assert page.evaluate(background) != light
        page.reload()
        see(theme).to_have_text("theme: dark")


def test_axe_finds_nothing_serious_and_nothing_is_cut_off(
    browser: Browser, ui: Ui, daemon: TrialDaemon, tmp_path: Path
) -> None:
    with daemon.client() as client:
        client.submit(trial(tmp_path / "refused", 3, at={1: "refuse"}))
        client.wait(client.submit(trial(tmp_path / "well")).id)
        running = client.submit(trial(tmp_path / ("a-long-name-" * 8), at={2: "hold"}))
        eventually(lambda: client.job(running.id).state is JobState.RUNNING)
        paused = client.submit(trial(tmp_path / "paused", 3))
        client.pause(paused.id)
        waiting = [client.submit(trial(tmp_path / f"next-{place}"), priority=place) for place in range(3)]
        with window(browser) as seen:
            page = seen.page
            page.goto(ui.entry)
            see(page.locator("#running li", has_text=running.id).locator("progress")).to_be_visible()
            see(page.locator("#waiting li")).to_have_count(3)
            for theme, width in appearances(page):
                picture(page, f"queue-{theme}-{width}")
                if width == WIDE:
                    assert findings(page) == []
            page.goto(f"{ui.url}jobs/{running.id}")
            see(page.locator("#top .state")).to_have_text("running")
            for theme, width in appearances(page):
                picture(page, f"job-{theme}-{width}")
                if width == WIDE:
                    assert findings(page) == []
        for each in (*waiting, paused, running):
            client.cancel(each.id)
