"""What a ledger forgets: all that tells a story, and nothing that keeps the same content from being run again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from alloyd.errors import AlloydError
from alloyd.jobs import JobState
from alloyd_daemon.watch import ledger_prune
from alloyd_daemon.watch.ledger import Ledger
from alloyd_daemon.watch.ledger_prune import count_claims
from trial_daemon import TrialDaemon, eventually
from watch.test_service import drop, put_away, recipe
from watch.trial_models import rule, write_model
from watch.trial_watch import Desk

LATER = timedelta(seconds=1)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    one = Desk(tmp_path)
    yield one
    one.ledger.close()


def claims(ledger: Ledger) -> list[tuple[str, int]]:
    rows = ledger._db.execute("SELECT state, attempt FROM claims ORDER BY number")
    return [tuple(row) for row in rows]


def prune(desk: Desk) -> int:
    """Prune all that has ended, after the same was counted; how much that was."""
    now = datetime.now(UTC) + LATER
    would = sum(desk.ledger.prune(now, dry_run=True))
    assert sum(desk.ledger.prune(now)) == would
    assert sum(desk.ledger.prune(now)) == 0, "once is enough"
    desk.begin()
    return would


def dropped(desk: Desk, name: str, text: str) -> None:
    drop(desk.folder, name, text)
    desk.look(10)


def test_content_that_was_done_is_not_done_again(desk: Desk) -> None:
    for name in ("a.yaml", "b.yaml", "c.yaml"):
        dropped(desk, name, recipe())
    assert claims(desk.ledger) == [("done", 0), ("duplicate", 0), ("duplicate", 0)]
    assert prune(desk) == 3
    assert claims(desk.ledger) == [("done", 0)]
    shutil.rmtree(desk.folder / "done")
    dropped(desk, "d.yaml", recipe())
    assert claims(desk.ledger) == [("done", 0), ("duplicate", 0)]
    told = json.loads(next((desk.folder / "done").rglob("*.result.json")).read_text())
    assert told["out"] == str(desk.folder / "out" / "a")
    assert len(desk.daemon.specs) == 1


def test_what_failed_is_tried_again_as_a_job_of_its_own_and_at_its_own_place(desk: Desk) -> None:
    desk.daemon.state = JobState.FAILED
    for _ in range(3):
        dropped(desk, "a.yaml", recipe())
        shutil.rmtree(desk.folder / "out")
    assert claims(desk.ledger) == [("failed", 0), ("failed", 1), ("failed", 2)]
    prune(desk)
    assert claims(desk.ledger) == [("failed", 2)]
    desk.daemon.state = JobState.DONE
    dropped(desk, "a.yaml", recipe())
    assert claims(desk.ledger) == [("failed", 2), ("done", 3)]
    assert len(desk.daemon.jobs) == 4
    assert {each.out for each in desk.daemon.specs} == {str(desk.folder / "out" / "a")}
    prune(desk)
    assert claims(desk.ledger) == [("done", 3)]


def test_what_cannot_be_read_leaves_nothing(desk: Desk) -> None:
    os.symlink("/etc/passwd", desk.folder / "a.yaml")
    desk.look(10)
    assert claims(desk.ledger) == [("failed", 0)]
    prune(desk)
    assert claims(desk.ledger) == []


def test_a_model_that_is_still_there_is_not_used_again(desk: Desk) -> None:
    write_model(desk.folder / "new")
    desk.look(10)
    assert claims(desk.ledger) == [("done", 0)]
    assert prune(desk) == 1
    desk.add()
    desk.look(10)
    shutil.copytree(desk.folder / "new", desk.folder / "copy")
    desk.look(10)
    assert claims(desk.ledger) == [("done", 0)]
    assert len(desk.daemon.specs) == 1


def test_models_that_were_there_before_a_rule_stay_known_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    for place, name in enumerate(("here", "away", "other", "again")):
        write_model(folder / name, place)
    desk = Desk(tmp_path, rule("plain", match="[ah]*"), rule("gone"))
    assert len(present(desk)) == 8
    desk.look(10)
    prune(desk)
    # Of a model with a claim the claim is enough; the name of the other may still become one that the rule is for.
    assert [name for name, _ in present(desk)] == ["plain"]
    shutil.move(folder / "away", tmp_path / "away")
    desk.look(10)
    prune(desk)
    shutil.move(tmp_path / "away", folder / "away")
    (folder / "other").rename(folder / "another")
    desk.look(10)
    for _ in range(2):
        prune(desk)
        assert present(desk) == []
        desk.look(10)
    assert desk.daemon.specs == []
    write_model(folder / "a new one", 9)
    desk.look(10)
    assert len(desk.daemon.specs) == 2, "under each of the rules"
    desk.ledger.close()


def test_a_rule_or_a_folder_that_comes_back_is_told_anew_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    write_model(folder / "here")
    desk = Desk(tmp_path, rule("kept", match="other*"), rule("back", match="other*"))
    both = desk.settings
    desk.settings = msgspec.structs.replace(both, rules=both.rules[:1])
    desk.add()
    prune(desk)
    assert [name for name, _ in present(desk)] == ["kept"]
    desk.settings = both
    desk.add()
    assert [name for name, _ in present(desk)] == ["back", "kept"]
    desk.ledger.remove(str(folder))
    prune(desk)
    assert len(present(desk)) == 2, "it is still being left"
    desk.look(10)
    prune(desk)
    assert present(desk) == []
    desk.add()
    desk.begin()
    (folder / "here").rename(folder / "other one")
    desk.look(10)
    assert desk.daemon.specs == []
    desk.ledger.close()


def present(desk: Desk) -> list[tuple[str, str]]:
    """What is written down of models that were there before a rule."""
    return [tuple(row) for row in desk.ledger._db.execute("SELECT rule, signature FROM present")]


def test_an_output_of_its_own_is_still_no_newcomer(desk: Desk) -> None:
    desk.daemon.state = JobState.DONE
    write_model(desk.folder / "new")
    desk.look(10)
    (out,) = (Path(each.out) for each in desk.daemon.specs)
    prune(desk)
    assert desk.ledger.is_ours(desk.ledger.folders()[0].id, str(out))


def test_what_is_younger_or_not_at_its_end_stays_whole(desk: Desk) -> None:
    dropped(desk, "a.yaml", recipe(1))
    dropped(desk, "b.yaml", recipe(1))
    moment = datetime.now(UTC)
    desk.daemon.state = JobState.RUNNING
    dropped(desk, "c.yaml", recipe(2))
    before = [tuple(row) for row in desk.ledger._db.execute("SELECT * FROM claims WHERE state = 'submitted'")]
    assert sum(desk.ledger.prune(moment - timedelta(hours=1))) == 0
    assert prune(desk) == 2
    assert [
        tuple(row) for row in desk.ledger._db.execute("SELECT * FROM claims WHERE state = 'submitted'")
    ] == before
    desk.daemon.state = JobState.DONE
    desk.look(10)
    assert put_away(desk.folder, "done") == {"a.yaml", "b.yaml", "c.yaml"}


def test_many_go_piece_by_piece_and_the_file_shrinks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_prune, "CLAIMS_AT_ONCE", 100)
    with desk.ledger._writing():
        desk.ledger._db.executemany(
            "INSERT INTO claims (id, folder, kind, name, digest, attempt, state, created, ended, plan)"
            " VALUES (?, 'f', 'recipe', 'n', ?, ?, 'failed', '2026', '2026', ?)",
            [(str(n), str(n % 10), n // 10, "x" * 2000) for n in range(1000)],
        )
    assert count_claims(desk.ledger.path) == 1000
    desk.ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = desk.ledger.path.stat().st_size
    pieces = list(desk.ledger.prune(datetime.now(UTC)))
    assert pieces[:10] == [100] * 10
    assert not any(pieces[10:])
    desk.ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert desk.ledger.path.stat().st_size < size / 10
    assert count_claims(desk.ledger.path) == 10
    assert {attempt for _, attempt in claims(desk.ledger)} == {99}


def test_a_killed_pruning_loses_nothing(daemon: TrialDaemon, tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    with daemon.client() as client:
        client.watch_add(folder, settle=0.1)
        for name in ("a.yaml", "b.yaml"):
            drop(folder, name, recipe())
            eventually(lambda name=name: name in put_away(folder, "done"))
        eventually(lambda: client.watches()[0].claims == {"done": 1, "duplicate": 1})
        assert client.space().claims == 2
    daemon.kill()
    daemon.start(ALLOYD_FAULT="watch-pruned")
    with daemon.client(timeout=5.0) as client, pytest.raises(AlloydError):
        client.prune(older_than=0.0)
    daemon.kill()
    daemon.start(ALLOYD_FAULT="")
    with daemon.client() as client:
        client.prune(older_than=0.0)
        assert client.space().claims == 1
        drop(folder, "c.yaml", recipe())
        eventually(lambda: client.watches()[0].claims == {"done": 1, "duplicate": 1})
        assert len(list((folder / "done").rglob("*.yaml"))) == 3
        assert client.jobs() == []
