"""What takes room, and what was pruned, as people read it; ages as they write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from alloyd.errors import UsageError
from alloyd.jobs import Event
from alloyd.render import event_line
from alloyd.render_space import pruned_lines, space_lines
from alloyd.space_schema import Disk, Place, Pruned, Room, Space
from alloyd.units import parse_age

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_room_is_told_by_class_with_the_largest_places() -> None:
    places = tuple(Place(f"/out/{n}", Room(1, n, n * 1000), f"merge-{n}", "failed") for n in range(12))
    space = Space(
        home="/home",
        parts={"store": Room(3, 2000, 4096), "logs": Room(), "orphans": Room(1, 10**9, 4096)},
        shared=Place("/cache", Room(1, 5, 4096), note="of all homes"),
        staged=places,
        outputs=(),
        output_count=0,
        published=Room(),
        orphans=(Place("/home/logs/merge-9.log", Room(1, 5, 4096), "merge-9"),),
        disks=(Disk("/home", 10**12, 10**11, 12_000),),
        jobs=2,
        events=9,
        claims=7,
    )
    text = "\n".join(space_lines(space))
    assert "2 jobs and 9 events; 7 files and models that watched folders took" in text
    assert not re.search(r"^logs", text, re.MULTILINE)
    assert re.search(r"^home +4 +1.0 GB +8.2 kB +/home$", text, re.MULTILINE)
    assert "/out/11" in text
    assert "/out/1 " not in text
    assert "and 2 more" in text
    assert re.search(r"^/home +1.0 TB +100 GB +12.0 kB$", text, re.MULTILINE)


def test_what_was_pruned_is_told_with_what_stayed() -> None:
    kept = tuple(Place("", Room(), f"merge-{n}", "job 5 needs it") for n in range(12))
    found = Pruned(
        dry_run=True,
        before=NOW,
        jobs=("merge-1", "merge-2"),
        parts={"logs": Room(2, 10, 8192), "outputs": Room(1, 5 * 10**9, 5 * 10**9)},
        outputs=(Place("/out", Room(1, 5 * 10**9, 5 * 10**9), "merge-1"),),
        claims=3,
        kept=kept,
    )
    lines = list(pruned_lines(found))
    assert lines[-1] == "2 jobs would be forgotten, 5.0 GB given back"
    assert "records of watched folders dropped or cut down: 3" in lines
    assert "  merge-0: job 5 needs it" in lines
    assert "  and 2 more" in lines
    assert list(pruned_lines(Pruned(dry_run=False, before=NOW, jobs=("a",)))) == [
        "1 job forgotten, 0 B given back"
    ]


def test_a_gap_in_events_is_told() -> None:
    assert "events 3 to 7 were pruned" in event_line(Event(7, "", "gap", NOW, {"first": 3, "last": 7}))
    body = {"what": "pruned", "jobs": 2, "events": 5, "reason": "retention"}
    assert "pruned 2 jobs and 5 events (retention)" in event_line(Event(8, "", "daemon", NOW, body))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90s", 90), ("2 h", 7200), ("30d", 2592000), ("1.5w", 907200), ("5MIN", 300)],
)
def test_ages_are_read(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "30", "-1d", "1y", "1d2h", "nan", "9" * 20 + "d", "٣d"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not an age"):
        parse_age(text)
