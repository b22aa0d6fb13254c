"""A journal gives back what was kept of the same score, whatever a kill or a damaged disk left of it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import DiskFull, SourceError
from alloyd_daemon.evaluator import ItemScore
from alloyd_daemon.scoring.records import Journal, write_items
from alloyd_daemon.scoring.run import Scored

SCORES = [ItemScore(str(n), {"score": n / 3}, f"wrote {n}\n\u2028 ꭰ\udc80") for n in range(5)]


def filled(path: Path) -> None:
    with Journal(path, "this") as journal:
        for score in SCORES:
            journal.keep("a", 0, score)
        journal.lose("b", SourceError("broken", hint="Mend it."))


def test_what_was_kept_comes_back_exactly(tmp_path: Path) -> None:
    filled(tmp_path / "j")
    with Journal(tmp_path / "j", "this") as journal:
        assert not journal.stale
        assert list(journal.scores("a", 0).values()) == SCORES
        assert journal.scores("a", 1) == {}
        error = journal.lost("b")
        assert isinstance(error, SourceError)
        assert error.hint == "Mend it."


def test_a_full_disk_is_told_with_its_place_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(tmp_path / "j", "this") as journal:
        journal.keep("a", 0, SCORES[0])
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            with pytest.raises(DiskFull, match=str(tmp_path)) as raised:
                journal.keep("a", 0, SCORES[1])
    assert raised.value.hint
    with Journal(tmp_path / "j", "this") as journal:
        assert list(journal.scores("a", 0).values()) == SCORES[:1]


def test_another_score_is_not_gone_on_with(tmp_path: Path) -> None:
    filled(tmp_path / "j")
    with Journal(tmp_path / "j", "other") as journal:
        assert journal.stale
        assert journal.scores("a", 0) == {}
    with Journal(tmp_path / "j", "other") as journal:
        assert not journal.stale


def test_what_was_lost_can_be_tried_again(tmp_path: Path) -> None:
    filled(tmp_path / "j")
    with Journal(tmp_path / "j", "this") as journal:
        journal.forget_lost()
    with Journal(tmp_path / "j", "this") as journal:
        assert journal.lost("b") is None
        assert len(journal.scores("a", 0)) == len(SCORES)


@given(data=st.data())
def test_a_journal_cut_anywhere_keeps_its_whole_lines_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "j"
    filled(path)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut] + data.draw(st.sampled_from([b"", b"\x00\x00", b"{]\n", b'{"model": 1}\n'])))
    with Journal(path, "this") as journal:
        kept = list(journal.scores("a", 0).values())
        lines = whole[:cut].count(b"\n")
        assert kept == SCORES[: max(0, min(lines - 1, len(SCORES)))]
        for score in SCORES[len(kept) :]:
            journal.keep("a", 0, score)
        if journal.lost("b") is None:
            journal.lose("b", SourceError("broken", hint="Mend it."))
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "line",
    [
        {"model": "a", "task": "0", "id": "x", "values": {}, "output": ""},
        {"model": "a", "task": 0, "id": 7, "values": {}, "output": ""},
        {"model": "a", "task": 0, "id": "x", "values": {"score": "1"}, "output": ""},
        {"model": "a", "task": 0, "id": "x", "values": [1], "output": ""},
        {"model": "a", "task": 0, "id": "x", "values": {}},
        {"model": "a", "lost": "why"},
        {"model": 3, "lost": {}},
        [],
    ],
)
def test_a_line_that_lies_ends_the_journal(tmp_path: Path, line: object) -> None:
    filled(tmp_path / "j")
    data = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(data + json.dumps(line).encode() + b"\n" + data.splitlines(keepends=True)[1])
    with Journal(tmp_path / "j", "this") as journal:
        assert list(journal.scores("a", 0).values()) == SCORES
    assert (tmp_path / "j").read_bytes() == data


def test_every_item_is_written_in_order_and_reads_as_json(tmp_path: Path) -> None:
    path = tmp_path / "scores" / "items.jsonl"
    scored = {
        "a": Scored((tuple(SCORES), ())),
        "b": Scored(error=SourceError("broken")),
        "c": Scored(((), (SCORES[0],))),
    }
    write_items(path, ["one", "two"], scored, order=["c", "a", "b"])
    lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    assert [(each["model"], each["task"], each["id"]) for each in lines] == [
        ("c", "two", "0"),
        *(("a", "one", str(n)) for n in range(5)),
    ]
    assert lines[0] == {
        "model": "c",
        "task": "two",
        "id": "0",
        "values": {"score": 0.0},
        "output": SCORES[0].output,
    }
