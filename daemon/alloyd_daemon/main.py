"""``alloyd``: the daemon of one home. Settings, lock, store, worker and sockets are put together here."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from alloyd import __version__, wire
from alloyd.errors import AlloydError, HomeBusy, ServiceError, UsageError
from alloyd.paths import Home, endpoints, find_home, write_private

from . import settings as settings_file
from .checkpoints.libc import share_heap
from .service.child_process import CHILD
from .service.gateway_process import GatewayProcess
from .service.log_file import begin as log_file_of
from .service.notify import Notifier
from .service.server import SIGNALS, Server
from .service.store import Store
from .service.store_file import refuse_network
from .service.worker import Worker
from .ulimits import open_more_files

LOOKS = 0.3
"""Seconds after which a home's lock that is still held is a daemon's."""
LARGEST_STRAY = 1_000_000
"""Bytes of what a daemon in the background wrote to stderr; more is removed when the next one starts."""

log = logging.getLogger("alloyd")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint="'alloyd --help' lists the options.")


class _Starter:
    """Whoever started this daemon and waits for one line: that it is ready, or why it is not."""

    def __init__(self, descriptor: int = -1) -> None:
        self._descriptor = descriptor

    def tell(self, message: dict[str, object]) -> None:
        """Say it, if nothing was said yet: the descriptor's number is soon that of another file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            os.write(descriptor, msgspec.json.encode(message) + b"\n")
            os.close(descriptor)
        except OSError as wrong:
            log.warning("whoever started this daemon has gone: %s", wrong)


def main(
    arguments: Sequence[str] | None = None,
    *,
    child: Sequence[str] = CHILD,
    spare: subprocess.Popen[bytes] | None = None,
) -> int:
    """Run the daemon until it is told to stop; returns its exit status.

    ``child`` is the command that runs one job; only tests give another. ``spare`` is such a child that runs already.
    """
    starter = _Starter()
    try:
        parser = _arguments()
        options = parser.parse_args(arguments)
        starter = _Starter(options.ready_fd)
        home = find_home(options.home)
        loaded = settings_file.load(config=options.config)
        settings_file.check_endpoint(loaded.settings.daemon.endpoint)
        home.create()
        if options.detach:
            _detach(home)
        refuse_network(home.root)
        open_more_files()
        lock = take_lock(home)
        try:
            _serve(home, loaded, options.once, starter, child, spare)
        finally:
            os.close(lock)
        return 0
    except AlloydError as error:
        return _fail(error, starter)
    except OSError as wrong:
        what = f"{wrong.filename} cannot be used" if wrong.filename else "the home cannot be used"
        hint = "Make room on its disk and check its rights, or choose another home."
        return _fail(ServiceError(f"{what}: {wrong.strerror or wrong}", hint=hint), starter)


def _fail(error: AlloydError, starter: _Starter) -> int:
    """Say ``error`` to whoever started this daemon and to its log, which may be on a full disk; its exit status."""
    starter.tell({"error": error.to_dict()})
    with contextlib.suppress(OSError):
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
    return error.status


def take_lock(home: Home) -> int:
    """The home's lock, as a descriptor to keep open.

    Raises
    ------
    HomeBusy
        Another daemon holds it; ``facts['pid']`` says which.
    ServiceError
        It cannot be opened.
    """
    try:
        lock = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as wrong:
        raise ServiceError(
            f"the home {home.root} cannot be used: {home.lock} cannot be opened ({wrong.strerror})",
            hint="Check its rights, or choose another with --home or ALLOYD_HOME.",
            path=str(home.lock),
        ) from None
    if not _locked(lock):
        holder = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise HomeBusy(
            f"the home {home.root} belongs to a running daemon (process {holder})",
            hint="Use that one, stop it with 'alloy stop', or choose another home.",
            path=str(home.root),
            pid=holder,
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _locked(lock: int) -> bool:
    """Lock the file, unless a daemon has: a client that looks who does holds it for a moment only."""
    deadline = time.monotonic() + LOOKS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)


def _serve(
    home: Home,
    loaded: settings_file.Loaded,
    once: bool,
    starter: _Starter,
    child: Sequence[str],
    spare: subprocess.Popen[bytes] | None,
) -> None:
    # A watchdog ends a daemon that hangs by SIGABRT: stderr then tells where.
    faulthandler.enable(2)
    share_heap()  # before there is any thread but this one
    log_file = log_file_of(home, loaded.settings.daemon)
    wakeup = _hear_signals()
    notifier = Notifier()
    requests, events = endpoints(home, loaded.settings.daemon.endpoint)
    remote = loaded.settings.remote.listen and not once
    gateway = GatewayProcess(loaded.settings, home, requests, events) if remote else None
    store = Store(home.store)
    try:
        store.recover()
        worker = Worker(store, home, loaded.settings, child=child, impatient=once)
        if once:
            worker.prepare(spare)
        server = Server(
            store,
            worker,
            home,
            loaded,
            requests=requests,
            events=events,
            wakeup=wakeup,
            leash=0 if once else None,
            notifier=notifier,
            reopen=log_file.reopen,
            gateway=gateway,
        )
        try:
            if gateway is not None:
                said = gateway.start()
                log.info("remote keys are served on %s, events on %s", said.requests, said.events)
            connection = wire.Connection(os.getpid(), __version__, wire.PROTOCOL, requests, events)
            # A daemon that was killed as it wrote its own may have left it half-written.
            for torn in home.root.glob(f".{home.connection.name}.*"):
                torn.unlink(missing_ok=True)
            write_private(home.connection, msgspec.json.encode(connection))
            changed = {key: origin for key, origin in loaded.origins.items() if origin != "default"}
            log.info(
                "alloyd %s serves %s on %s",
                __version__,
                home.root,
                requests,
                extra={
                    "pid": os.getpid(),
                    "settings": msgspec.to_builtins(loaded.settings),
                    "changed": changed,
                },
            )
            starter.tell({"ready": msgspec.to_builtins(connection)})
            notifier.ready()
            server.sweep()
            server.serve()
            log.info("stopped")
        finally:
            with contextlib.suppress(OSError):
                home.connection.unlink(missing_ok=True)
            worker.kill()
            if gateway is not None:
                gateway.close()
            server.close()
    finally:
        store.close()


def _detach(home: Home) -> None:
    """Go on as a process of its own session whose parent has left, and that speaks to its log only."""
    if os.fork():
        os._exit(0)
    os.setsid()
    for place, flags, standard in (
        (os.devnull, os.O_RDONLY, (0,)),
        (home.stray, os.O_WRONLY | os.O_CREAT | os.O_APPEND, (1, 2)),
    ):
        handle = os.open(place, flags, 0o600)
        for descriptor in standard:
            os.dup2(handle, descriptor)
        if place == home.stray and os.fstat(handle).st_size > LARGEST_STRAY:
            os.ftruncate(handle, 0)
        os.close(handle)


def _hear_signals() -> int:
    """A descriptor that gives the number of each signal; handlers do nothing but let it be written."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    return reading


def _arguments() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="alloyd", description="The daemon that merges models; 'alloy' talks to it and starts it."
    )
    parser.add_argument(
        "--home", help="folder of its store and logs (default: $ALLOYD_HOME, ~/.local/state/alloyd)"
    )
    parser.add_argument(
        "--config", type=Path, help="configuration file (default: ~/.config/alloyd/config.toml)"
    )
    parser.add_argument(
        "--once", action="store_true", help="end when stdin does; for a caller that owns the daemon"
    )
    parser.add_argument("--detach", action="store_true", help="go to the background")
    parser.add_argument("--ready-fd", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"alloyd {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
