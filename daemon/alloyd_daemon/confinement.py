"""Has the kernel hold this process to some folders: Linux's Landlock, which no link that is put there later evades.

What a confined job names is checked by its path (:mod:`.service.roots`); between that and the opening of a file a
folder may be exchanged for a link. Landlock looks at what is really opened. It binds this process and all that it
starts.
"""

from __future__ import annotations

import ctypes
import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from .settings import Settings

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_NO_NEW_PRIVILEGES: Final = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
_FIRST: Final = (1 << 13) - 1
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
"""Rights that a single file can have; the kernel refuses others for it."""


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def available() -> int:
    """The version of Landlock that the kernel has; 0 for none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(_syscall(_CREATE_RULESET, None, 0, _VERSION)))


def hold_to(roots: Sequence[str], *, home: Path, settings: Settings, reading: Iterable[str] = ()) -> bool:
    """Let this process, from now on, write in ``roots`` only and read there and where its own parts lie.

    Its own parts are Python and its libraries, devices, the caches and records in ``home`` (not its keys), and what the
    configuration names. Temporary files go to a folder in ``home``. ``False`` where the kernel has no Landlock.

    Raises
    ------
    OSError
        The kernel has it and refuses: then nothing may be done.
    """
    version = available()
    if not version:
        return False
    every = _FIRST | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    scratch = home / "cache" / "tmp"
    for folder in (scratch, home / "scores", home / "searches"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)
    rules = [(path, READ) for path in (*_own_parts(), *_configured(settings), *reading)]
    rules += [
        ("/dev", READ | _WRITE_FILE | (every & _TRUNCATE)),
        ("/dev/shm", every),
        ("/proc", READ | _WRITE_FILE),
    ]
    rules += [(str(home / name), every) for name in ("scores", "searches", "cache", "rates.json")]
    rules += [(path, every) for path in (*roots, _kernel_cache(), str(settings.hub() / "datasets"))]
    handled = ctypes.c_uint64(every)
    ruleset = _syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    if ruleset < 0:
        raise _failed("landlock_create_ruleset")
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights)
        if ctypes.CDLL(None, use_errno=True).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise _failed("prctl")
        if _syscall(_RESTRICT_SELF, ruleset, 0) < 0:
            raise _failed("landlock_restrict_self")
    finally:
        os.close(ruleset)
    return True


def _own_parts() -> Iterator[str]:
    """Where Python, its libraries and those of the system lie."""
    yield from ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt", "/sys")
    yield from (
        f"/etc/{name}" for name in ("ld.so.cache", "localtime", "passwd", "group", "nsswitch.conf", "OpenCL")
    )
    yield from {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, sys.exec_prefix}
    yield from (os.path.abspath(each) for each in sys.path if each)


def _configured(settings: Settings) -> Iterator[str]:
    """What the daemon's configuration names: models, code that scores, and data sets that were downloaded."""
    yield from map(str, settings.model_roots())
    hub = settings.hub()
    yield from (str(hub / name) for name in ("datasets", "modules"))
    for place in settings.scoring.functions.values():
        yield os.path.dirname(place.rpartition(":")[0])
    for path in settings.scoring.harness_files:
        yield os.path.dirname(os.path.realpath(os.path.expanduser(path)))


def _kernel_cache() -> str:
    cache = (
        os.environ.get("NUMBA_CACHE_DIR")
        or os.environ.get("XDG_CACHE_HOME")
        or os.path.expanduser("~/.cache")
    )
    return cache if "NUMBA_CACHE_DIR" in os.environ else os.path.join(cache, "alloyd")


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Add a rule for ``path``, if it is there."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(f"/proc/self/fd/{handle}"):
            rights &= _OF_FILES
        rule = _PathBeneath(rights, handle)
        if _syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0) < 0:
            raise _failed(f"landlock_add_rule for {path}")
    finally:
        os.close(handle)


def _syscall(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return int(library.syscall(ctypes.c_long(number), *arguments))


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
