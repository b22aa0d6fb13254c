"""The runner of the tests of the search, which scores without a model."""

from __future__ import annotations

import pytest

from alloyd_daemon.runner import RUNNERS
from search.toy import Toy


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    one = Toy()
    RUNNERS.open()
    monkeypatch.setitem(RUNNERS._found, "toy", one.runner())
    return one
