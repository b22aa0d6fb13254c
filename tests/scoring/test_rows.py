"""Rows answer every span, share what can be shared, and are batched by the spans alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alloyd_daemon.scoring.encoding import Span
from alloyd_daemon.scoring.rows import TOKENS, batches_of, rows_of

ids = st.lists(st.integers(0, 3), min_size=2, max_size=6).map(tuple)
spans = st.lists(ids, max_size=30).map(lambda found: [Span(n, each, 1) for n, each in enumerate(found)])


def test_answers_of_one_token_to_one_question_are_one_row() -> None:
    asked = [Span(n, (7, 8, 9, answer), 3) for n, answer in enumerate((1, 2, 3))]
    (row,) = rows_of(asked)
    assert (row.ids, row.spans) == ((7, 8, 9), (0, 1, 2))
    longer = rows_of([*asked, Span(3, (7, 8, 9, 1, 2), 3)])
    assert [(row.ids, row.spans) for row in longer] == [((7, 8, 9, 1), (0, 1, 2, 3))]


@given(spans)
def test_every_span_is_asked_once_of_a_row_that_begins_with_its_input(asked: list[Span]) -> None:
    rows = rows_of(asked)
    assert sorted(place for row in rows for place in row.spans) == list(range(len(asked)))
    for row in rows:
        assert all(asked[place].ids[:-1] == row.ids[: len(asked[place].ids) - 1] for place in row.spans)
        assert not any(row.ids == other.ids[: len(row.ids)] for other in rows if other is not row)
    assert [len(row.ids) for row in rows] == sorted((len(row.ids) for row in rows), reverse=True)


@given(spans, st.integers(1, 7))
def test_batches_are_the_rows_in_order_and_no_larger_than_asked(asked: list[Span], size: int) -> None:
    rows = rows_of(asked)
    batches = batches_of(rows, size)
    assert [row for batch in batches for row in batch] == rows
    assert all(1 <= len(batch) <= size for batch in batches)


def test_long_rows_make_small_batches() -> None:
    rows = rows_of([Span(n, (n, *(5,) * (TOKENS // 2)), 1) for n in range(4)])
    assert [len(batch) for batch in batches_of(rows)] == [2, 2]
    rows = rows_of([Span(n, (n, *(5,) * (2 * TOKENS)), 1) for n in range(2)])
    assert [len(batch) for batch in batches_of(rows, 8)] == [1, 1]
