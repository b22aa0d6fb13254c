"""The largest number that the whole way can carry: a message, the store, the pipe to a job's process."""

from __future__ import annotations

from typing import Any, Final

LARGEST_NUMBER: Final = 2**63 - 1
"""A larger one, or one as far below zero, is refused."""


def sendable(value: Any) -> bool:
    """Whether every number in ``value``, which is JSON, can be carried."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list | tuple):
            left += each
        elif isinstance(each, int) and abs(each) > LARGEST_NUMBER:
            return False
    return True
