"""Where things lie: the home (store, logs, lock, connection file) and the folder of its sockets."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import ServiceError

# sockaddr_un.sun_path holds 108 bytes, the closing zero included.
LONGEST_SOCKET_PATH = 107


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one daemon: its store, its logs, its lock. One daemon at a time owns it."""

    root: Path

    @property
    def store(self) -> Path:
        """The SQLite file of jobs and events."""
        return self.root / "jobs.sqlite"

    @property
    def lock(self) -> Path:
        """Locked (flock) by the daemon as long as it lives; holds its process id."""
        return self.root / "daemon.lock"

    @property
    def start_lock(self) -> Path:
        """Locked by a client while it starts a daemon, so that two clients start one."""
        return self.root / "start.lock"

    @property
    def connection(self) -> Path:
        """Says where the living daemon listens; written once it does, removed when it stops."""
        return self.root / "connection.json"

    @property
    def logs(self) -> Path:
        """The folder of logs: ``daemon.log`` and one ``<job>.log`` a job."""
        return self.root / "logs"

    @property
    def stray(self) -> Path:
        """What a daemon in the background wrote to stderr: nothing, unless it could not start, or crashed."""
        return self.logs / "daemon.stderr"

    @property
    def keys(self) -> Path:
        """The folder of the server's own CURVE keys and of the list of keys that it lets in."""
        return self.root / "keys"

    def log(self, job: str) -> Path:
        """The log of one job."""
        return self.logs / f"{job}.log"

    def resources(self, job: str) -> Path:
        """What the processes of one job used, a sample a line."""
        return self.root / "resources" / f"{job}.jsonl"

    def create(self) -> None:
        """Make the folders, private to this user.

        Raises
        ------
        ServiceError
            The home belongs to another user, is no folder, or cannot be made.
        """
        private_folder(self.root, "the home")
        private_folder(self.logs, "the log folder")
        private_folder(self.root / "resources", "the folder of resource samples")


def find_home(flag: str | None = None, environ: Mapping[str, str] | None = None) -> Home:
    """The home: ``--home``, else ``$ALLOYD_HOME``, else ``$XDG_STATE_HOME/alloyd``, else ``~/.local/state/alloyd``.

    Raises
    ------
    ServiceError
        Its path is no text, so that no message could name it.
    """
    environ = os.environ if environ is None else environ
    chosen = flag or environ.get("ALLOYD_HOME", "")
    if not chosen:
        state = environ.get("XDG_STATE_HOME", "")
        if not os.path.isabs(state):  # the XDG rule: a relative path is to be ignored
            state = os.path.join(os.path.expanduser("~"), ".local", "state")
        chosen = os.path.join(state, "alloyd")
    place = os.path.realpath(os.path.expanduser(chosen))
    if os.fsencode(place).decode("utf-8", "replace") != place:
        raise ServiceError(
            f"the home is not text in UTF-8: {place!a}", hint="Choose another with --home or ALLOYD_HOME."
        )
    return Home(Path(place))


def runtime_folder(environ: Mapping[str, str] | None = None) -> Path:
    """A private folder with a short path for sockets: ``$XDG_RUNTIME_DIR/alloyd``, else ``/tmp/alloyd-<uid>``.

    Raises
    ------
    ServiceError
        The folder belongs to another user or cannot be made private.
    """
    environ = os.environ if environ is None else environ
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and len(os.fsencode(runtime)) <= LONGEST_SOCKET_PATH - 40:
        try:
            facts = os.stat(runtime)
            if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and os.access(runtime, os.W_OK):
                return private_folder(Path(runtime) / "alloyd", "the runtime folder")
        except OSError:
            pass
    return private_folder(Path("/tmp") / f"alloyd-{os.getuid()}", "the runtime folder")


def endpoints(home: Home, endpoint: str = "", environ: Mapping[str, str] | None = None) -> tuple[str, str]:
    """The addresses of requests and events of ``home``'s daemon.

    The path carries a hash of the home, not the home, because a socket's path is limited to 107 bytes.

    Raises
    ------
    ServiceError
        The path is too long all the same.
    """
    if endpoint:
        base = endpoint.removeprefix("ipc://")
    else:
        from hashlib import blake2b

        name = blake2b(os.fsencode(home.root), digest_size=8).hexdigest()
        base = str(runtime_folder(environ) / name)
    requests, events = f"{base}.requests", f"{base}.events"
    if len(os.fsencode(requests)) > LONGEST_SOCKET_PATH:
        raise ServiceError(
            f"the socket path {requests} is longer than {LONGEST_SOCKET_PATH} bytes",
            hint="Set daemon.endpoint to a shorter path.",
            path=requests,
        )
    return f"ipc://{requests}", f"ipc://{events}"


def expanded(text: str) -> Path:
    """``text`` as a path, with the folder of the user that a leading ``~`` names; that of nobody stays as it is."""
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError):
        return Path(text)


def private_folder(path: Path, what: str) -> Path:
    """``path`` as a folder of mode 0700 that belongs to this user, made if it is missing."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = os.lstat(path)
        if not stat.S_ISDIR(facts.st_mode):
            raise ServiceError(f"{what} {path} is not a folder", path=str(path))
        if facts.st_uid != os.getuid():
            raise ServiceError(
                f"{what} {path} belongs to user {facts.st_uid}, not to you ({os.getuid()})",
                hint="Choose another with --home, ALLOYD_HOME or XDG_RUNTIME_DIR.",
                path=str(path),
            )
        if stat.S_IMODE(facts.st_mode) & 0o077:
            os.chmod(path, 0o700)
    except OSError as wrong:
        raise ServiceError(
            f"{what} {path} cannot be used: {wrong.strerror}",
            hint="Choose another with --home or ALLOYD_HOME.",
            path=str(path),
        ) from wrong
    return path


def config_home(environ: Mapping[str, str] | None = None) -> Path:
    """Where this user's configuration lies: ``$XDG_CONFIG_HOME``, else ``~/.config``."""
    environ = os.environ if environ is None else environ
    chosen = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(chosen):  # the XDG rule: a relative path is to be ignored
        chosen = os.path.join(os.path.expanduser("~"), ".config")
    return Path(chosen)


def write_private(file: Path, data: bytes, *, surely: bool = False, first: bool = False) -> None:
    """Write a small private file so that a reader sees the old one or the new one, whole; ``surely``: it is on disk.

    ``first`` raises FileExistsError where one is there, also one that another process wrote a moment ago.
    """
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(handle, "wb") as fresh:
            fresh.write(data)  # all of it: a full disk takes a part and says nothing at first
            fresh.flush()
            if surely:
                os.fsync(fresh.fileno())
        if first and _link(beside, file):
            beside.unlink()
        else:
            os.replace(beside, file)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    if surely:
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _link(one: Path, other: Path) -> bool:
    """Give a file a second name; False where the file system has no such thing. Raises FileExistsError."""
    try:
        os.link(one, other)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def lock_holder(home: Home) -> int | None:
    """The process id of the daemon that owns ``home``; ``None`` when none does, 0 when it is not written."""
    import fcntl

    try:
        handle = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.read(handle, 32).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(handle)
    return None
