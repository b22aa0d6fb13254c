"""What a page is made of: sections of facts, texts, tables and figures. Plain data; `markup.py` makes HTML of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Plot = dict[str, Any]
"""What plotly draws: ``data`` and ``layout``, in JSON. A colour is ``var(--name)``, which the theme decides."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a head. ``left_out``: how many more there are; ``numeric``: columns that hold numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Toggle:
    """A checkbox that shows and hides some traces of a plot."""

    label: str
    traces: Sequence[int]
    on: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """One of a choice: what it is called, and what it changes of a trace and of the frame."""

    label: str
    trace: Mapping[str, Any]
    layout: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """A list to choose from; what is chosen is put into the trace ``trace``. The first option is shown at first.

    Pointing at a mark chooses, too, where the mark has an option's number in ``customdata``.
    """

    label: str
    trace: int
    options: Sequence[Option]


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture with its main fact in a sentence (``says``) and the rows behind it."""

    title: str
    says: str
    plot: Plot
    table: Table | None = None
    controls: Sequence[Toggle | Choice] = ()
    half: bool = False
    """Whether half of a wide page is room enough; so with other blocks."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A table that is shown as it is."""

    title: str
    says: str
    table: Table
    half: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Short facts, each with its name."""

    title: str
    facts: Sequence[tuple[str, str]]
    half: bool = True


@dataclass(frozen=True, slots=True)
class Code:
    """A text that is meant to be copied, or read as it stands; long ones are folded."""

    title: str
    text: str
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """Sentences. ``kind``: ``plain``, ``info``, ``warning`` or ``error``."""

    sentences: Sequence[str]
    kind: str = "plain"


Block = Figure | Rows | Facts | Code | Words


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page. ``key`` is its place in addresses, and the same in every page."""

    key: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Head:
    """What stands at the top of a page: its title, a state (``done``, ``failed``...) and one sentence."""

    title: str
    state: str = ""
    says: str = ""
    kind: str = ""
