"""The keys that a daemon lets in: one JSON file in its home, written by ``alloy keys`` and read again when it changes.

Like ssh's ``authorized_keys`` it is changed on the daemon's machine only: no message can let another key in.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from .errors import ServiceError, UsageError
from .key_files import NAME, PUBLIC, check_name, check_public
from .paths import private_folder, write_private
from .roles import Role

FILE: Final = "authorized.json"
MOST_BYTES: Final = 2**20


class Authorised(Struct, frozen=True, forbid_unknown_fields=True):
    """One key that is let in."""

    key: str
    role: Role
    added: datetime


class AuthorisedKeys:
    """The keys of one home. ``folder`` is the home's ``keys`` folder; a file that is absent lets nobody in."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._seen: tuple[int, int, int] | None = None
        self._names: dict[str, Authorised] = {}
        self._keys: dict[str, str] = {}

    def names(self) -> dict[str, Authorised]:
        """Every key by its name.

        Raises
        ------
        ServiceError
            The file cannot be read: then nobody is let in.
        """
        try:
            facts = os.stat(self._file)
        except FileNotFoundError:
            self._seen, self._names, self._keys = None, {}, {}
            return {}
        except OSError as wrong:
            self._forget()
            raise self._unreadable(wrong.strerror or str(wrong)) from None
        seen = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        if seen != self._seen:
            self._forget()
            self._names = self._read()
            self._keys = {each.key: name for name, each in self._names.items()}
            self._seen = seen
        return self._names

    def find(self, key: str) -> tuple[str, Authorised] | None:
        """The name and the rights of a public ``key``; ``None`` when it is not let in. Raises as :meth:`names`."""
        names = self.names()
        name = self._keys.get(key)
        return None if name is None else (name, names[name])

    def add(self, name: str, key: str, role: Role) -> None:
        """Let ``key`` in; a name that is there gets the new key and role.

        Raises
        ------
        UsageError
            No name, no key, or a key that has another name already.
        """
        check_name(name)
        check_public(key)
        with self._changing() as names:
            other = next((each for each, had in names.items() if had.key == key and each != name), None)
            if other is not None:
                raise UsageError(
                    f"this key is let in already, as '{other}'", hint=f"alloy keys revoke {other}"
                )
            names[name] = Authorised(key, role, datetime.now(UTC))

    def remove(self, name: str) -> Authorised:
        """Let the key called ``name`` in no longer. Raises UsageError when there is none."""
        with self._changing() as names:
            if name not in names:
                known = ", ".join(sorted(names)) or "none"
                raise UsageError(f"no key is called '{name}'", hint=f"Known: {known}.")
            return names.pop(name)

    def _forget(self) -> None:
        self._seen, self._names, self._keys = (0, 0, 0), {}, {}

    def _read(self) -> dict[str, Authorised]:
        try:
            with open(self._file, "rb") as file:
                data = file.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise self._unreadable("it is too large")
            names = msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8), type=dict[str, Authorised])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            raise self._unreadable(str(wrong)) from None
        keys = [each.key for each in names.values()]
        if len(set(keys)) != len(keys) or not all(map(PUBLIC.fullmatch, keys)):
            raise self._unreadable("a key stands there twice, or is none")
        if not all(map(NAME.fullmatch, names)):
            raise self._unreadable("a name is none")
        return names

    def _unreadable(self, why: str) -> ServiceError:
        return ServiceError(
            f"the list of keys {self._file} cannot be read, so no remote key is let in: {why}",
            hint="Put it right, or move it away and authorize the keys again.",
            path=str(self._file),
        )

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Authorised]]:
        """The keys, to be changed; written at the end so that a reader sees all of it or none."""
        private_folder(self._file.parent, "the key folder")
        lock = os.open(self._file.parent / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            names = dict(self.names())
            yield names
            text = msgspec.json.format(msgspec.json.encode(names), indent=1) + b"\n"
            write_private(self._file, text, surely=True)
        finally:
            os.close(lock)
