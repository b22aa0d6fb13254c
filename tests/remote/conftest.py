"""A real daemon that serves 127.0.0.1 with real CURVE keys, and clients of it that have a HOME of their own."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from alloyd import Client
from alloyd.authorised_keys import AuthorisedKeys
from alloyd.key_files import Pair, folder, make, server_pair
from alloyd.profiles import add
from alloyd.profiles import make as make_profile
from alloyd.roles import Role
from trial_daemon import TrialDaemon


@contextlib.contextmanager
def free_ports() -> Iterator[int]:
    """A port that is free, as is the one after it, and stays so while a daemon is away.

    They lie below those that the kernel gives to whoever asks for any, and a name on this machine says to the tests of
    other processes that they are taken.
    """
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(10_000, 30_000, 2)
        with socket.socket(socket.AF_UNIX) as mine:
            try:
                mine.bind(f"\0alloyd-test-port-{port}")
                with socket.socket() as one, socket.socket() as other:
                    one.bind(("127.0.0.1", port))
                    other.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            yield port
            return


@dataclass
class Far:
    """A daemon on "another machine": its own home, and roots that its remote keys keep to."""

    daemon: TrialDaemon
    root: Path
    address: str
    server_key: str

    @property
    def keys(self) -> AuthorisedKeys:
        return AuthorisedKeys(self.daemon.home.keys)

    @property
    def log(self) -> str:
        """What the daemon has said; the test's daemon writes to the test's own stderr, so it is kept in a file."""
        return (self.root.parent / "daemon.err").read_text()

    def key(self, name: str, role: Role | None, *, server_key: str = "") -> Pair:
        """A pair and a profile of this user, let in with ``role``."""
        pair = make(folder(), name)
        if role is not None:
            self.keys.add(name, pair.public, role)
        add(name, make_profile(self.address, server_key=server_key or self.server_key, key=name))
        return pair

    def client(self, name: str, **options: Any) -> Client:
        return Client(connect=name, **{"timeout": 30.0, **options})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own machine: a HOME without anything in it."""
    home = tmp_path / "here"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def far(tmp_path: Path, here: Path, request: pytest.FixtureRequest) -> Iterator[Far]:
    """A daemon with remote keys; ``@pytest.mark.parametrize("far", [{"RATE": "5"}], indirect=True)`` sets more."""
    with free_ports() as port:
        root = tmp_path / "far" / "models"
        root.mkdir(parents=True)
        address = f"tcp://127.0.0.1:{port}"
        settings = {f"ALLOYD_REMOTE_{key}": value for key, value in getattr(request, "param", {}).items()}
        daemon = TrialDaemon(
            tmp_path / "far" / "home",
            ALLOYD_REMOTE_LISTEN=address,
            ALLOYD_REMOTE_ROOTS=str(root),
            **settings,
        )
        daemon.home.create()
        pair = server_pair(daemon.home.keys, new=True)
        said = os.open(root.parent / "daemon.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        kept = os.dup(2)
        os.dup2(said, 2)
        try:
            daemon.__enter__()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(said)
        try:
            yield Far(daemon, root, address, pair.public)
        finally:
            daemon.__exit__(None, None, None)
