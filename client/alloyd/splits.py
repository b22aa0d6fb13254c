"""Splits of task files by a hash of what is asked, and leaks: items that stand on both sides of a split."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from .errors import UsageError
from .task_file import Record, content_of

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a split: its name, and the share of the items that it gets."""

    name: str
    share: Fraction


@dataclass(frozen=True, slots=True)
class Leak:
    """``other`` gives ``one`` away: it is the same ``item``, asks the same ``question``, or has the same ``id``."""

    kind: Literal["item", "question", "id"]
    one: Record
    other: Record


def parts_of(text: str) -> tuple[Part, ...]:
    """The parts that ``search=0.6,validation=0.2,test=0.2`` names.

    Raises UsageError unless there are two or more, of different names, whose shares are above 0 and sum to 1.
    """
    parts = []
    for each in text.split(","):
        name, _, share = each.strip().partition("=")
        if not _NAME.fullmatch(name) or not re.fullmatch(r"\d*\.?\d+(/[1-9]\d*)?", share):
            raise UsageError(
                f"'{each.strip()}' is no part of a split",
                hint="Write NAME=SHARE, such as test=0.2 or test=1/5.",
            )
        above, _, below = share.partition("/")
        parts.append(Part(name, Fraction(above) / Fraction(below or 1)))
    if len({part.name for part in parts}) < max(2, len(parts)):
        raise UsageError("a split has two parts or more, each of another name", hint="search=0.6,test=0.4")
    total = sum(part.share for part in parts)
    if total != 1 or any(part.share <= 0 for part in parts):
        raise UsageError(f"the shares of a split are above 0 and sum to 1, not to {float(total):g}")
    return tuple(parts)


def part_of(content: str, parts: Sequence[Part], salt: str = "") -> str:
    """The name of the part that ``content`` falls into: its hash, 64 bits of BLAKE2b, among the shares in their order.

    It follows from content, parts and salt alone: items that are added later move no other item.
    """
    digest = hashlib.blake2b(f"{salt}\0{content}".encode(), digest_size=8).digest()
    place = Fraction(int.from_bytes(digest), 1 << 64)
    reached = Fraction(0)
    for part in parts:
        reached += part.share
        if place < reached:
            return part.name
    raise ValueError("the shares of a split sum to 1")


def split(
    records: Iterable[Record], parts: Sequence[Part], *, by: str | None = None, salt: str = ""
) -> dict[str, list[Record]]:
    """The records of each part, in their order; those that ask the same, or are equal under the key ``by``, as one.

    Raises TaskError for a record without the key ``by``.
    """
    found: dict[str, list[Record]] = {part.name: [] for part in parts}
    for record in records:
        content = record.asked if by is None else content_of({"": record.value(by)})
        found[part_of(content, parts, salt)].append(record)
    return found


def leaks(files: Sequence[Sequence[Record]]) -> tuple[Leak, ...]:
    """What stands in several of ``files``: the same item (also twice in one file), question, or id.

    Items are the same where nothing but blanks, the composition of Unicode and the id tells them apart. Each record
    leaks at most once, to the first that it meets.
    """
    items: dict[str, tuple[int, Record]] = {}
    questions: dict[str, tuple[int, Record]] = {}
    ids: dict[str, tuple[int, Record]] = {}
    found: list[Leak] = []
    for number, records in enumerate(files):
        for record in records:
            _, same = items.setdefault(record.content, (number, record))
            asked_in, asked = questions.setdefault(record.asked, (number, record))
            named_in, named = ids.setdefault(record.id, (number, record))
            if same is not record:
                found.append(Leak("item", same, record))
            elif asked_in != number:
                found.append(Leak("question", asked, record))
            elif named_in != number:
                found.append(Leak("id", named, record))
    return tuple(found)
