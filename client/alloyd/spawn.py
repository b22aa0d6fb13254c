"""Finds the daemon of a home, and starts one when there is none."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from . import systemd
from .errors import AlloydError, DaemonUnreachable, HomeBusy, ServiceError
from .paths import Home, lock_holder, runtime_folder
from .wire import Connection

START_SECONDS = 30.0


class _Ready(Struct):
    ready: Connection | None = None
    error: dict[str, object] | None = None


@dataclass(slots=True)
class Private:
    """A daemon that belongs to one client, in a home of its own: ``--no-daemon``."""

    home: Home
    process: subprocess.Popen[bytes]
    connection: Connection

    def close(self, *, now: bool = False) -> None:
        """End it (its job keeps what it staged), wait for it, and remove its home."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        if now:
            self.process.kill()  # its child sees its pipe close and ends by itself
        try:
            self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.home.root, ignore_errors=True)


def find(home: Home) -> Connection | None:
    """Where the living daemon of ``home`` listens; ``None`` when none lives.

    Raises
    ------
    DaemonUnreachable
        One lives but has not said in time where it listens.
    """
    deadline = time.monotonic() + START_SECONDS
    while (holder := lock_holder(home)) is not None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            connection = msgspec.json.decode(home.connection.read_bytes(), type=Connection)
            if holder in (0, connection.pid):
                return connection
        if time.monotonic() > deadline:
            raise DaemonUnreachable(
                f"a daemon (process {holder}) owns {home.root} but does not say where it listens",
                hint=f"See {home.log('daemon')}.",
                pid=holder,
            )
        time.sleep(0.02)
    return None


def reach(home: Home, *, autostart: bool) -> Connection:
    """Where the daemon of ``home`` listens, started first if it does not live and ``autostart`` allows it.

    Raises
    ------
    AlloydError
        None lives, or none can be started.
    """
    found = find(home)
    if found is None and not autostart:
        raise gone(home)
    return found or start(home)


def lives(home: Home, connection: Connection) -> bool:
    """Whether the daemon that listens there is still that of ``home``; one that does not say who it is may be."""
    return lock_holder(home) in (0, connection.pid)


def start(home: Home) -> Connection:
    """The daemon of ``home``, started unless it lives; of several clients at once, one starts it.

    Raises
    ------
    DaemonUnreachable
        It could not be started.
    AlloydError
        What the daemon says kept it from starting.
    """
    home.create()
    with _start_lock(home):
        found = find(home)
        if found is None and systemd.start(home):
            found = find(home)
        if found is not None:
            return found
        with open(home.stray, "ab") as log:
            begun = log.tell()
            command = _command(home, "--detach")
            process, ready = _run(command, stdin=subprocess.DEVNULL, log=log.fileno(), cwd=home.root)
            process.wait()
        try:
            return _await(ready, home, begun)
        except HomeBusy:  # somebody ran `alloyd` by hand in this moment
            found = find(home)
            if found is None:
                raise
            return found


def start_private() -> Private:
    """A daemon for this process alone, in a fresh home in the runtime folder; it ends when this process does."""
    home = Home(Path(tempfile.mkdtemp(prefix="once-", dir=runtime_folder())))
    try:
        home.create()
        with open(home.stray, "ab") as log:
            process, ready = _run(
                _command(home, "--once"), stdin=subprocess.PIPE, log=log.fileno(), cwd=home.root
            )
        try:
            return Private(home, process, _await(ready, home, 0))
        except BaseException:
            assert process.stdin is not None
            process.stdin.close()
            process.kill()
            process.wait()
            raise
    except BaseException:
        shutil.rmtree(home.root, ignore_errors=True)
        raise


def gone(home: Home, what: str = "") -> DaemonUnreachable:
    """The error for a daemon that is not there."""
    return DaemonUnreachable(
        what or f"no daemon runs for {home.root}",
        hint="Any command that needs one starts it; so does 'alloyd'.",
        path=str(home.root),
    )


def _command(home: Home, how: str) -> list[str]:
    if importlib.util.find_spec("alloyd_daemon") is None:
        raise DaemonUnreachable(
            "no daemon runs and this installation has none to start", hint="pip install 'alloyd[daemon]'"
        )
    # -P keeps the working folder, whatever lies in it, off the daemon's import path.
    return [sys.executable, "-P", "-m", "alloyd_daemon", "--home", str(home.root), how]


def _run(command: list[str], *, stdin: int, log: int, cwd: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start a daemon; the descriptor is the one on which it says that it is ready, or why not."""
    environ = dict(os.environ)
    if "PYTHONPATH" in environ:  # it runs elsewhere, so relative entries would mean something else
        parts = environ["PYTHONPATH"].split(os.pathsep)
        environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(part) for part in parts if part)
    ready, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [*command, "--ready-fd", str(writing)],
            stdin=stdin,
            stdout=log,
            stderr=log,
            cwd=cwd,
            env=environ,
            pass_fds=[writing],
            start_new_session=True,
        )
    except OSError as wrong:
        os.close(ready)
        raise DaemonUnreachable(f"the daemon could not be started: {wrong}") from wrong
    finally:
        os.close(writing)
    return process, ready


def _await(ready: int, home: Home, begun: int) -> Connection:
    """What the daemon being started says on ``ready``; ``begun`` is where its part of the log starts."""
    said = b""
    deadline = time.monotonic() + START_SECONDS
    try:
        while not said.endswith(b"\n"):
            readable, _, _ = select.select([ready], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise DaemonUnreachable(
                    f"the daemon was not ready after {START_SECONDS:.0f} s", hint=f"See {home.log('daemon')}."
                )
            piece = os.read(ready, 65536)
            if not piece:
                break
            said += piece
    finally:
        os.close(ready)
    if not said:
        with open(home.stray, "rb") as log:
            log.seek(begun)
            last = log.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        raise DaemonUnreachable(
            f"the daemon ended while it was started: {' '.join(last) or 'it said nothing'}",
            hint=f"See {home.stray}.",
        )
    message = msgspec.json.decode(said, type=_Ready)
    if message.ready is None:
        raise AlloydError.from_dict(message.error or {})
    return message.ready


@contextlib.contextmanager
def _start_lock(home: Home) -> Iterator[None]:
    try:
        handle = os.open(home.start_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as wrong:
        raise ServiceError(
            f"the home {home.root} cannot be used: {home.start_lock} cannot be opened ({wrong.strerror})",
            hint="Check its rights, or choose another with --home or ALLOYD_HOME.",
            path=str(home.start_lock),
        ) from None
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ServiceError(
                        f"another client has been starting a daemon for {home.root} too long"
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(handle)
