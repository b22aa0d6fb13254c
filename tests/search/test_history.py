"""The record of a search: what is kept, when it is on disk, and files that are no record."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import JobError, SourceError, StoreError
from alloyd_daemon.evaluator import ItemScore
from alloyd_daemon.search.history import History
from alloyd_daemon.search.objective import Place
from alloyd_daemon.search.trial import Trial


def trial(number: int, **changes: object) -> Trial:
    plain: dict[str, object] = {
        "number": number,
        "batch": 1,
        "origin": "optimiser",
        "name": f"trial {number}",
        "point": {"a": 0.1, "b": "x", "c": 3},
        "parents": (1, 2),
        "how": "crossover",
    }
    return Trial(**(plain | changes))  # type: ignore[arg-type]


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    error = SourceError("it broke", hint="mend it", path="/x")
    told = trial(1, state="failed", error=error, seconds=1.5, items={0: 25, 1: 3}, recipe={"a": [1]})
    with History(tmp_path / "history.db") as history:
        history.ask([trial(1), trial(2)], phase=0, batch=1, count=5)
        history.tell([told])
        history.count(1, -1, 7)
        (first, second) = history.trials()
        assert history.told() == (1,)
    assert first.error is not None
    assert first.error.to_dict() == error.to_dict()
    assert (first.state, first.items, first.recipe) == ("failed", {0: 25, 1: 3, -1: 7}, {"a": [1]})
    assert second == trial(2)
    again = History.read(tmp_path / "history.db")
    assert [each.number for each in again.trials()] == [1, 2]
    assert again.entries("ask")[0].data == {"count": 5}


def test_scores_are_seen_by_others_when_they_are_flushed(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with History(path) as history:
        history.ask([trial(1)])
        other = History.read(path)
        history.keep(1, 0, 0, ItemScore("i", {"v": 0.1 + 0.2, "w": -1e-300}, "out ✓"))
        assert other.scores(1, 0) == {}
        history.flush()
        assert other.scores(1, 0) == history.scores(1, 0)
        assert other.scores(1, 0)[0]["i"] == ItemScore("i", {"v": 0.1 + 0.2, "w": -1e-300}, "out ✓")
        other.close()


def test_half_a_second_of_scores_is_the_most_that_a_kill_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("alloyd_daemon.search.history.time.monotonic", lambda: clock[0])
    path = tmp_path / "history.db"
    with History(path) as history:
        history.ask([trial(1)])
        seen = History.read(path)
        for number in range(10):
            clock[0] += 0.2
            history.keep(1, 0, 0, ItemScore(str(number), {"v": 1.0}))
            assert len(seen.scores(1, 0).get(0, {})) >= number - 2
        seen.close()


def test_scores_of_one_rung_stand_at_another(tmp_path: Path) -> None:
    with History(tmp_path / "history.db") as history:
        history.ask([trial(1)])
        for item in "abc":
            history.keep(1, 0, 2, ItemScore(item, {"v": 1.0}))
        history.keep(1, 1, 2, ItemScore("a", {"v": 5.0}))
        history.carry(1, 0, 1, [Place(2, "a"), Place(2, "b")])
        assert {item: each.values["v"] for item, each in history.scores(1, 1)[2].items()} == {
            "a": 5.0,
            "b": 1.0,
        }


def test_deaths_are_counted_until_there_is_another_item_or_an_orderly_stop(tmp_path: Path) -> None:
    with History(tmp_path / "history.db") as history:
        history.ask([trial(1), trial(2)])
        assert history.begin([1, 2]) == {1: 0, 2: 0}
        assert history.begin([1, 2]) == {1: 1, 2: 1}
        history.keep(1, 0, 0, ItemScore("a", {"v": 1.0}))
        history.flush()
        assert history.begin([1, 2]) == {1: 0, 2: 2}
        assert history.most_deaths() == 3
        history.rest([1, 2])
        assert history.begin([1, 2]) == {1: 0, 2: 0}


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    with History(tmp_path / "history.db") as history:
        assert history.enter("note", "k", {"text": "first"})
        assert not history.enter("note", "k", {"text": "second"})
        assert [each.data for each in history.entries("note")] == [{"text": "first"}]


def test_the_locked_test_opens_once_and_goes_on_for_its_own_job(tmp_path: Path) -> None:
    with History(tmp_path / "history.db") as history:
        assert history.opening() is None
        first = history.open_test("test-1")
        assert history.open_test("test-1") == first
        with pytest.raises(JobError, match=f"opened at .*{first.at[:10]}.* by test-1"):
            history.open_test("test-2")
        history.close_test({"models": []} | {"x": 1})
        with pytest.raises(JobError, match="opens once"):
            history.open_test("test-1")


def test_a_second_writer_waits_and_then_is_refused(tmp_path: Path) -> None:
    with (
        History(tmp_path / "history.db"),
        pytest.raises(JobError, match="another process writes the record"),
    ):
        History(tmp_path / "history.db", patience=0.1)
    History(tmp_path / "history.db", patience=0.1).close()


def test_a_record_begins_with_another_ones_trials(tmp_path: Path) -> None:
    with History(tmp_path / "a" / "history.db") as one:
        one.ask([trial(1)])
        one.tell([trial(1, state="scored", losses=(0.25,))])
        with History(tmp_path / "b" / "history.db") as other:
            other.copy_from(tmp_path / "a" / "history.db")
            assert other.trials() == one.trials()


@pytest.mark.parametrize("make", ["foreign", "newer", "text", "nothing"])
def test_what_is_no_record_is_refused_by_name(tmp_path: Path, make: str) -> None:
    path = tmp_path / "history.db"
    if make == "text":
        path.write_text("trial: 1\n" * 1000)
    elif make != "nothing":
        History(path).close()
        db = sqlite3.connect(path)
        db.execute("PRAGMA application_id = 7" if make == "foreign" else "PRAGMA user_version = 99")
        db.commit()
        db.close()
    with pytest.raises(StoreError, match=r"history\.db"):
        History.read(path)
    if make != "nothing":
        with pytest.raises(StoreError, match=r"history\.db"):
            History(path, patience=0.1)


@given(at=st.integers(0, 40_000), bytes_=st.binary(min_size=1, max_size=64))
def test_a_damaged_record_is_refused_or_read_but_never_breaks(
    tmp_path_factory: pytest.TempPathFactory, at: int, bytes_: bytes
) -> None:
    path = tmp_path_factory.mktemp("lies") / "history.db"
    with History(path) as history:
        history.ask([trial(1), trial(2)])
        history.keep(1, 0, 0, ItemScore("a", {"v": 1.0}))
        history.tell([trial(1, state="scored", losses=(0.5,))])
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at : at + len(bytes_)] = bytes_
    path.write_bytes(data)
    with contextlib.suppress(StoreError):
        history = History.read(path)
        history.trials()
        history.scores(1, 0)
        history.close()


@pytest.mark.parametrize(
    ("column", "value"),
    [("point", "{"), ("losses", '"low"'), ("items", "[1]"), ("error", "7"), ("parents", "null")],
)
def test_a_row_that_makes_no_sense_is_refused(tmp_path: Path, column: str, value: str) -> None:
    path = tmp_path / "history.db"
    with History(path) as history:
        history.ask([trial(1)])
    db = sqlite3.connect(path)
    db.execute(f"UPDATE trials SET {column} = ?", (value,))
    db.commit()
    db.close()
    history = History.read(path)
    if column == "losses":
        assert history.trials()  # letters are no numbers, but a tuple of them is one nonetheless
        return
    with pytest.raises(StoreError, match="makes no sense"):
        history.trials()


def test_every_trial_with_an_item_lives(tmp_path: Path) -> None:
    with History(tmp_path / "history.db") as history:
        history.ask([trial(1), trial(2)])
        history.begin([1, 2])
        for each in (1, 2):  # in one transaction
            history.keep(each, 0, 0, ItemScore("a", {"score": 1.0}))
        history.flush()
        assert history.most_deaths() == 0
