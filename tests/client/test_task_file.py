"""Task files are checked line by line; items keep their ids wherever they are put."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd import task_file, task_name
from alloyd.errors import TaskError
from alloyd.task_file import Record, parse, read

FILE = "some.search.jsonl"
GOOD = '{"id": "a", "prompt": "2 + 2 :", "answer": "4"}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 3: not JSON (Expecting property name enclosed in double quotes at column 2)"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' * 3000 + "1" + "}" * 3000, "nested too deeply"),
        ('"text"', "expected a JSON object, found text"),
        ("null", "expected a JSON object, found null"),
        ("[1]", "expected a JSON object, found an array"),
        ('{"prompt": NaN}', "NaN is not a JSON number"),
        ('{"prompt": ' + "9" * 5000 + "}", "not JSON"),
        ('{"id": 7, "prompt": "x"}', "'id' must be text, found a number"),
        ('{"id": null, "prompt": "x"}', "'id' must be text, found null"),
        ('{"id": " ", "prompt": "x"}', "'id' is empty"),
        ('{"id": "b", "id": "c", "prompt": "x"}', "'id' stands there twice"),
        ('{"prompt": {"a": 1, "a": 2}}', "'a' stands there twice"),
        ('{"prompt": "\\ud800"}', "half a surrogate pair"),
        ('{"prompt": ["x", {"\\ud800": 1}]}', "half a surrogate pair"),
        (GOOD, "the id 'a' already stands on line 1"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(line: str, said: str) -> None:
    with pytest.raises(TaskError) as refused:
        parse(f"{GOOD}\n\n{line}\n".encode(), FILE)
    assert said in refused.value.message
    assert "some.search.jsonl, line 3" in refused.value.message
    assert refused.value.hint
    assert refused.value.facts["line"] == 3


def test_bytes_that_are_not_utf8_are_refused_with_their_line() -> None:
    with pytest.raises(TaskError, match="line 2: not UTF-8 at byte 3"):
        parse(GOOD.encode() + b"\nabc\xff", FILE)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf", b" \r\n"])
def test_a_file_without_items_is_refused(data: bytes) -> None:
    with pytest.raises(TaskError, match="holds no items"):
        parse(data, FILE)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"gone\.jsonl cannot be read"):
        read(tmp_path / "gone.jsonl")
    with pytest.raises(TaskError, match="cannot be read"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(TaskError, match="is no regular file"):
        read(tmp_path / "pipe.jsonl")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.jsonl").write_text(GOOD)
    monkeypatch.setattr(task_file, "MAX_BYTES", 10)
    with pytest.raises(TaskError, match="larger than 10 bytes"):
        read(tmp_path / "t.jsonl")


def test_a_byte_order_mark_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n")
    (record,) = read(path)
    assert (record.id, record.fields["answer"], record.line) == ("a", "4", 1)


def test_an_id_that_is_not_given_follows_from_the_content() -> None:
    one, two = parse(b'{"prompt": "caf\xc3\xa9  au lait", "answer": "1"}\n{"prompt": "x"}\n', FILE)
    moved, other = parse(
        b'{"prompt": "y"}\n\n{"answer": "1", "prompt": " cafe\xcc\x81 au lait"}\n', "other.jsonl"
    )
    assert len(one.id) == 16
    assert one.id == other.id
    assert one.content == other.content
    assert len({one.id, two.id, moved.id}) == 3
    (named,) = parse(b'{"id": "n", "prompt": "x"}', FILE)
    assert (named.id, named.content) == ("n", two.content)


def test_the_same_item_without_an_id_stands_once() -> None:
    with pytest.raises(TaskError, match=r"line 2: the same item already stands on line 1"):
        parse(b'{"prompt": "x y"}\n{"prompt": "x  y"}\n', FILE)


def test_a_record_tells_what_it_lacks() -> None:
    record = Record(FILE, 3, {"prompt": "x", "context": "y", "n": 1, "blank": " "})
    for ask, said in (
        (lambda: record.only("prompt", "context", "m"), "unknown key 'n'"),
        (lambda: record.text("answer"), "the key 'answer' is missing"),
        (lambda: record.text("n"), "'n' must be text, found a number"),
        (lambda: record.text("blank"), "'blank' is empty"),
        (lambda: record.question("prompt", "context"), "'prompt' and 'context' mean the same here"),
        (lambda: record.question("question"), "the key 'question' is missing"),
    ):
        with pytest.raises(TaskError, match=said) as refused:
            ask()
        assert refused.value.hint
    assert record.question("question", "context") == "y"


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(words, words), min_size=1, unique_by=lambda item: item[0]), st.booleans())
def test_what_is_written_is_what_is_read(items: list[tuple[str, str]], escape: bool) -> None:
    text = "\n".join(
        json.dumps(dict(zip(("id", "prompt"), item, strict=True)), ensure_ascii=escape) for item in items
    )
    assert [(each.id, each.fields["prompt"]) for each in parse(text.encode(), FILE)] == items


@given(st.binary(max_size=200) | st.text('{}[]":,\\u0d8 a1\n', max_size=60).map(str.encode))
def test_any_bytes_either_read_or_are_refused_as_a_task(data: bytes) -> None:
    refused = None
    try:
        records = parse(data, FILE)
    except TaskError as error:
        refused = error
    if refused is None:
        assert records
    else:
        assert FILE in refused.message


@pytest.mark.parametrize(
    ("text", "evaluator", "source"),
    [
        ("tasks/a.jsonl", "", "tasks/a.jsonl"),
        ("last_number:a.jsonl", "last_number", "a.jsonl"),
        ("lm_eval:hellaswag", "lm_eval", "hellaswag"),
        ("./regex:a.jsonl", "", "./regex:a.jsonl"),
        ("/x:y.jsonl", "", "/x:y.jsonl"),
        ("regex:", "", "regex:"),
    ],
)
def test_a_task_goes_by_evaluator_and_source(text: str, evaluator: str, source: str) -> None:
    assert task_name.split(text) == (evaluator, source)


def test_a_file_is_seen_from_its_folder_and_a_name_stays(tmp_path: Path) -> None:
    assert task_name.absolute("regex:a.jsonl", tmp_path) == f"regex:{tmp_path}/a.jsonl"
    assert task_name.absolute("/x/a.jsonl", tmp_path) == "/x/a.jsonl"
    (tmp_path / "arc_easy").mkdir()
    assert task_name.absolute("lm_eval:arc_easy", tmp_path) == "lm_eval:arc_easy"
    (tmp_path / "items").touch()
    assert task_name.absolute("regex:items", tmp_path) == f"regex:{tmp_path}/items"
    assert task_name.absolute("lm_eval:mine.yaml", tmp_path) == f"lm_eval:{tmp_path}/mine.yaml"
