"""What people do by hand to a running soup, its candidates and its rule: nothing hangs, and theirs is not removed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from alloyd.jobs import JobState, MergeSpec, ScoreSpec, Spec
from alloyd_daemon.checkpoints.card import RECIPE
from watch.test_rules_killed import a_soup, scored
from watch.trial_models import write_model
from watch.trial_watch import SETTLE, Desk


def during(desk: Desk, kind: type[Spec], deed: Callable[[], object]) -> None:
    """Have ``deed`` happen while a job of a ``kind`` runs for the first time."""
    left = [deed]

    def result(spec: Spec) -> dict[str, Any]:
        if isinstance(spec, kind) and left:
            left.pop()()
        return scored(spec)

    desk.daemon.result = result


def soup_of(desk: Desk) -> Path:
    return desk.folder / "soups" / "soup"


@pytest.mark.parametrize("what", ["link", "file"])
def test_a_candidate_in_whose_place_is_something_else_does_not_hold_up_the_soup(
    tmp_path: Path, what: str
) -> None:
    desk, elsewhere = a_soup(tmp_path), tmp_path / "elsewhere"
    candidate = soup_of(desk) / "0001-a-bad"

    def exchange() -> None:
        candidate.rename(elsewhere)
        if what == "link":
            candidate.symlink_to(elsewhere)
        else:
            candidate.write_text("mine\n")

    during(desk, ScoreSpec, exchange)
    write_model(desk.folder / "a-bad")
    desk.look(60 * SETTLE)
    assert desk.status.claims == {"done": 1}, desk.waiting
    assert elsewhere.is_dir()
    assert candidate.is_file() == (what == "file")
    assert not candidate.is_symlink()
    desk.ledger.close()


def test_outputs_that_go_elsewhere_in_mid_run_do_not_hold_up_the_soup(tmp_path: Path) -> None:
    desk = a_soup(tmp_path)
    during(desk, ScoreSpec, lambda: setattr(desk.daemon, "state", JobState.RUNNING))
    write_model(desk.folder / "a-bad")
    desk.look(4 * SETTLE)
    assert desk.status.claims == {"scoring": 1}
    desk.settings = structs.replace(desk.settings, out=str(tmp_path / "other"))
    desk.add()
    desk.daemon.state = JobState.DONE
    desk.look(60 * SETTLE)
    assert desk.status.claims == {"done": 1}, desk.waiting
    assert not (soup_of(desk) / "0001-a-bad").exists()
    desk.ledger.close()


def test_a_model_that_somebody_put_where_a_candidate_was_to_go_stays(tmp_path: Path) -> None:
    desk = a_soup(tmp_path)
    desk.daemon.state = JobState.QUEUED
    write_model(desk.folder / "a-bad")
    desk.look(4 * SETTLE)
    theirs = soup_of(desk) / "0001-a-bad"
    shutil.rmtree(theirs)
    write_model(theirs, 7)
    desk.daemon.state = JobState.FAILED
    desk.look(60 * SETTLE)
    assert desk.status.claims == {"failed": 1}
    assert (theirs / "config.json").is_file()
    desk.ledger.close()


@pytest.mark.parametrize("whose", ["the job's", "another's"])
def test_a_merge_that_is_cancelled_once_it_has_published_leaves_no_candidate(
    tmp_path: Path, whose: str
) -> None:
    desk = a_soup(tmp_path)
    desk.daemon.state = JobState.RUNNING
    write_model(desk.folder / "a-bad")
    desk.look(4 * SETTLE)
    candidate = soup_of(desk) / "0001-a-bad"
    (merge,) = desk.daemon.specs
    assert isinstance(merge, MergeSpec)
    (candidate / RECIPE).write_text(merge.recipe if whose == "the job's" else "merge_method: linear\n")
    desk.daemon.state = JobState.CANCELLED
    desk.look(60 * SETTLE)
    assert desk.status.claims == {"failed": 1}
    assert candidate.exists() == (whose == "another's")
    desk.ledger.close()


def test_a_candidate_that_is_gone_when_it_has_been_scored_does_not_become_the_soup(tmp_path: Path) -> None:
    desk = a_soup(tmp_path)
    during(desk, ScoreSpec, lambda: shutil.rmtree(soup_of(desk) / "0001-a-good"))
    write_model(desk.folder / "a-good")
    write_model(desk.folder / "b-good", 1)
    desk.look(60 * SETTLE)
    assert desk.status.claims["failed"] == 1
    assert [Path(each.current).name for each in desk.status.soups] == ["0002-b-good"]
    assert "is not there" in (desk.folder / "failed" / "a-good.soup.error.txt").read_text()
    desk.ledger.close()


def test_an_end_whose_jobs_are_forgotten_is_told_without_them(tmp_path: Path) -> None:
    """The store of jobs was lost between the decision and its record."""
    desk = a_soup(tmp_path)
    write_model(desk.folder / "a-good")
    find = desk.daemon.job

    def lost(name: str) -> Any:
        if any(each.state == "ending" for each in desk.ledger.open_claims(desk.ledger.folders()[0].id)):
            desk.daemon.named.clear()
        return find(name)

    desk.daemon.job = lost  # type: ignore[method-assign]
    desk.look(60 * SETTLE)
    assert desk.status.claims == {"done": 2}, desk.waiting
    desk.ledger.close()


def test_a_soup_that_was_removed_says_how_to_begin_anew(tmp_path: Path) -> None:
    desk = a_soup(tmp_path)
    write_model(desk.folder / "a-good")
    desk.look(10 * SETTLE)
    shutil.rmtree(soup_of(desk) / "0001-a-good")
    write_model(desk.folder / "b-good", 1)
    desk.look(10 * SETTLE)
    assert "0001-a-good is not there. Put it back; or give the rule another 'name'" in desk.waiting["b-good"]
    desk.ledger.close()
