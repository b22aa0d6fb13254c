"""Pages of jobs: bounded in bytes, complete when asked for one after the other, in the order that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from alloyd.jobs import JobState, MergeSpec, Order
from alloyd.listing import Listing
from alloyd_daemon.service import store_pages
from alloyd_daemon.service.store import Store
from trial_daemon import TrialDaemon

LONG = "# " + "é" * 400_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path / "jobs.sqlite")
    yield found
    found.close()


def submit(store: Store, number: int, *, recipe: str = "x", priority: int = 0) -> str:
    spec = MergeSpec(recipe=recipe, base_dir="/", out=f"/out-{number}")
    return store.submit(spec, f"t{number}", at_most=10_000, priority=priority).id


def listed(store: Store, limit: int, order: Order = "newest") -> tuple[list[str], int]:
    """The ids of all pages, and how many jobs the largest held."""
    listing, most = Listing((JobState.QUEUED,), limit, order), 0
    while (asked := listing.request()) is not None:
        page = store.jobs(asked.states, asked.limit, asked.order, asked.past)
        most = max(most, len(page))
        listing.take(page)
    return [job.id for job in listing.jobs], most


@pytest.mark.parametrize("order", ["newest", "next"])
def test_a_page_has_no_more_bytes_than_go_into_a_message(store: Store, order: Order) -> None:
    ids = [submit(store, number, recipe=LONG) for number in range(25)]
    found, most = listed(store, 100, order)
    assert found == ids
    assert 1 < most <= store_pages.LARGEST // 800_000 + 1


def test_a_job_that_is_larger_than_a_page_comes_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_pages, "LARGEST", 10)
    ids = [submit(store, number) for number in range(3)]
    assert listed(store, 100) == (ids, 1)
    assert listed(store, 2) == (ids[1:], 1)


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_what_is_next_comes_first(store: Store, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(store_pages, "MOST", most)
    ids = [submit(store, number, priority=[0, 5, -5][number % 3]) for number in range(9)]
    store.place(ids[3], "top")
    store.place(ids[6], "bottom")
    wanted = [each.id for each in store.queue()]
    assert wanted[0] == ids[3]
    assert wanted[-1] == ids[6]
    assert listed(store, 100, "next")[0] == wanted
    assert listed(store, 4, "next")[0] == wanted[:4]
    assert listed(store, 4)[0] == ids[-4:]


def test_a_job_that_is_gone_has_nothing_behind_it(store: Store) -> None:
    submit(store, 1)
    assert store.jobs((), 5, "next", 99) == []


def test_a_client_lists_more_than_goes_into_a_message(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home", ALLOYD_JOBS_PARALLEL="1") as daemon, daemon.client() as client:
        ids = [
            client.submit(MergeSpec(recipe=LONG, base_dir="/", out=str(tmp_path / f"out-{number}"))).id
            for number in range(11)
        ]
        assert [job.id for job in client.jobs()] == ids
