"""Settings of a watched folder: what cannot be meant is refused, whatever its size."""

from __future__ import annotations

from typing import Any

import pytest

from alloyd.errors import UsageError
from alloyd.watch_schema import WatchSettings, check


@pytest.mark.parametrize(
    "wrong",
    [
        {"in_flight": 0},
        {"in_flight": 10**4000},
        {"priority": -(10**4000)},
        {"settle": -1.0},
        {"rescan": 1e300},
        {"out": "relative"},
        {"roots": ("relative",)},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        check("/folder", WatchSettings(**wrong))
    assert next(iter(wrong)).removesuffix("s") in caught.value.message
    assert caught.value.hint
