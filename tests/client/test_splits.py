"""Splits follow from what is asked; leaks are found however they are dressed."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.cli import main
from alloyd.errors import TaskError, UsageError
from alloyd.splits import Part, leaks, part_of, parts_of, split
from alloyd.task_file import Record, parse

PARTS = parts_of("search=0.6,validation=0.2,test=0.2")


def records(*fields: dict[str, str], path: str = "t.jsonl") -> tuple[Record, ...]:
    return parse("\n".join(json.dumps(each) for each in fields).encode(), path)


def many(count: int) -> tuple[Record, ...]:
    return records(*({"prompt": f"question {k}", "answer": str(k)} for k in range(count)))


def test_shares_are_exact() -> None:
    assert parts_of("a=1/3, b=2/3") == (Part("a", Fraction(1, 3)), Part("b", Fraction(2, 3)))
    assert sum(part.share for part in parts_of("a=0.1,b=0.2,c=0.7")) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no part"),
        ("a", "is no part"),
        ("a=0.5,b=half", "is no part"),
        ("a=1/0,b=1", "is no part"),
        ("a=-1,b=2", "is no part"),
        ("../a=0.5,b=0.5", "is no part"),
        ("a=1", "two parts or more"),
        ("a=0.5,a=0.5", "each of another name"),
        ("a=0.5,b=0.4", "sum to 1, not to 0.9"),
        ("a=0,b=1", "above 0"),
    ],
)
def test_shares_that_make_no_sense_are_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parts_of(text)


def test_every_item_falls_into_one_part_of_about_its_share() -> None:
    found = split(many(3000), PARTS)
    assert [len(each) for each in found.values()] == pytest.approx([1800, 600, 600], rel=0.1)
    assert len({each.id for part in found.values() for each in part}) == 3000
    again = split(many(3000), PARTS, salt="other")
    assert {each.id for each in again["test"]} != {each.id for each in found["test"]}


def test_items_that_are_added_move_no_other() -> None:
    before, after = split(many(200), PARTS), split(many(400), PARTS)
    for name, each in before.items():
        assert {record.id for record in each} <= {record.id for record in after[name]}


def test_what_asks_the_same_stays_together() -> None:
    same = records(
        *(
            {"id": f"{k} {answer}", "prompt": f"who  is {k}", "answer": answer}
            for k in range(50)
            for answer in "ab"
        )
    )
    for part in split(same, PARTS).values():
        assert len({each.asked for each in part}) * 2 == len(part)
    by = records(*({"prompt": f"q {k}", "story": str(k % 7)} for k in range(50)))
    found = split(by, PARTS, by="story")
    stories = [{each.fields["story"] for each in part} for part in found.values()]
    assert sum(map(len, stories)) == 7
    with pytest.raises(TaskError, match=r"t\.jsonl, line 1: the key 'tale' is missing"):
        split(by, PARTS, by="tale")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(max_size=5).filter(str.isprintable))
def test_any_content_falls_into_a_part_and_always_the_same(content: str, salt: str) -> None:
    assert part_of(content, PARTS, salt) == part_of(content, PARTS, salt)
    assert part_of(content, PARTS, salt) in {"search", "validation", "test"}


def test_leaks_are_found_and_told_apart() -> None:
    one = records(
        {"id": "a", "prompt": "caf\u00e9 au lait", "answer": "1"},
        {"id": "b", "prompt": "two", "answer": "2"},
        {"id": "c", "prompt": "three", "answer": "3"},
        path="one.jsonl",
    )
    two = records(
        {"id": "x", "prompt": "cafe\u0301  au lait", "answer": "1"},
        {"id": "y", "prompt": "two", "answer": "zwei"},
        {"id": "c", "prompt": "four", "answer": "4"},
        {"id": "d", "prompt": "five", "answer": "5"},
        {"id": "e", "prompt": "five", "answer": "5"},
        path="two.jsonl",
    )
    found = [(each.kind, each.other.where, each.one.where) for each in leaks([one, two])]
    assert found == [
        ("item", "two.jsonl, line 1", "one.jsonl, line 1"),
        ("question", "two.jsonl, line 2", "one.jsonl, line 2"),
        ("id", "two.jsonl, line 3", "one.jsonl, line 3"),
        ("item", "two.jsonl, line 5", "two.jsonl, line 4"),
    ]
    assert leaks([one]) == ()


def test_a_split_has_no_leaks() -> None:
    assert leaks(list(split(many(300), PARTS).values())) == ()


def test_the_command_writes_the_lines_as_they_stand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"prompt": f"q {k}", "answer": "é"}, ensure_ascii=k % 2 == 0) for k in range(60)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    assert main(["split", str(tmp_path / "t.jsonl")]) == 0
    parts = [
        (tmp_path / f"t.{name}.jsonl").read_text(encoding="utf-8")
        for name in ("search", "validation", "test")
    ]
    assert sorted("".join(parts).splitlines()) == sorted(lines)
    files = [str(tmp_path / f"t.{name}.jsonl") for name in ("search", "validation", "test")]
    assert main(["leaks", *files]) == 0
    assert main(["split", str(tmp_path / "t.jsonl")]) == 6
    assert "is there already" in capsys.readouterr().err
    assert main(["split", str(tmp_path / "t.jsonl"), "--into", "a=0.5,b=0.5", "--force", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sum(each["items"] for each in result["value"].values()) == 60
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_command_tells_of_leaks_and_ends_with_their_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "x", "answer": "1"}')
    (tmp_path / "b.jsonl").write_text('{"prompt": "y", "answer": "1"}\n{"prompt": "x ", "answer": "1"}')
    files = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    assert main(["leaks", *files]) == 7
    said = capsys.readouterr()
    assert "b.jsonl, line 2 is the same item as" in said.out
    assert "items leak: 1 by item" in said.err
    assert main(["leaks", files[0], files[0]]) == 2
    (tmp_path / "few.jsonl").write_text('{"prompt": "x"}')
    assert main(["split", str(tmp_path / "few.jsonl")]) == 7
    assert "would be empty" in capsys.readouterr().err


def test_the_zoo_s_splits_share_no_item() -> None:
    from alloyd.task_file import read

    folder = Path(__file__).parents[2] / "zoo" / "tasks"
    for task in {path.name.split(".")[0] for path in folder.glob("*.jsonl")}:
        files = [read(folder / f"{task}.{name}.jsonl") for name in ("search", "validation", "test")]
        assert not leaks(files)
