"""Room on another machine: every key may look, only an admin may prune, and nothing outside of the roots is touched."""

from __future__ import annotations

import asyncio

import pytest

from alloyd import AsyncClient
from alloyd.errors import AccessDenied
from alloyd.roles import Role
from remote.conftest import Far
from trial_daemon import PATIENCE, trial


def test_who_may_look_and_who_may_prune(far: Far) -> None:
    for name, role in (("reader", Role.READ), ("worker", Role.SUBMIT), ("owner", Role.ADMIN)):
        far.key(name, role)
    with far.client("worker") as worker:
        job = worker.submit(trial(far.root / "out", 1)).id
        worker.wait(job, timeout=PATIENCE)
        with pytest.raises(
            AccessDenied, match="'prune' needs the role admin, and the key 'worker' has submit"
        ):
            worker.prune(older_than=0.0)
    with far.client("reader") as reader:
        assert reader.space().jobs == 1
        with pytest.raises(AccessDenied):
            reader.prune(older_than=0.0, dry_run=True)
        assert reader.job(job).id == job

    async def go() -> tuple[str, ...]:
        async with AsyncClient(connect="owner", timeout=PATIENCE) as owner:
            assert (await owner.space()).jobs == 1
            return (await owner.prune(older_than=0.0)).jobs

    assert asyncio.run(go()) == (job,)
