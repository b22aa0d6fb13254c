"""CURVE key pairs as files in ZeroMQ's own format: ``NAME.key`` is public, ``NAME.key_secret`` is private."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import ServiceError, UsageError
from .paths import config_home, private_folder

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PUBLIC: Final = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
"""A key as Z85 text: 32 bytes."""
MOST_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Pair:
    """A public key and its private one, as Z85 text."""

    public: str
    secret: str


def folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where this user's own keys lie: ``$XDG_CONFIG_HOME/alloyd/keys``."""
    return config_folder(environ) / "keys"


def config_folder(environ: Mapping[str, str] | None = None) -> Path:
    """This user's configuration folder: ``$XDG_CONFIG_HOME/alloyd``, else ``~/.config/alloyd``."""
    return config_home(environ) / "alloyd"


def check_name(name: str) -> str:
    """``name`` if a key or profile may be called so. Raises UsageError."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot name a key", hint="Use letters, digits, '.', '_' and '-', at most 64 of them."
        )
    return name


def check_public(text: str) -> str:
    """``text`` if it is a public key. Raises UsageError."""
    import zmq.utils.z85

    if PUBLIC.fullmatch(text):
        try:
            if len(zmq.utils.z85.decode(text)) == 32:
                return text
        except (ValueError, KeyError, OverflowError):
            pass
    raise UsageError(
        f"'{text}' is no public key: expected 40 characters of Z85",
        hint="'alloy keys new NAME' prints one; quote it, for the shell reads some of its characters.",
    )


def make(where: Path, name: str) -> Pair:
    """A new pair in the folder ``where``; the private file is this user's alone from its first byte.

    Raises
    ------
    UsageError
        The name cannot be one, or is taken.
    """
    import zmq.auth

    check_name(name)
    private_folder(where, "the key folder")
    secret = where / f"{name}.key_secret"
    try:
        os.close(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise UsageError(
            f"there is a key '{name}' already: {secret}", hint="Choose another name.", path=str(secret)
        ) from None
    try:
        zmq.auth.create_certificates(where, name)
    except BaseException:
        secret.unlink(missing_ok=True)
        raise
    return read_pair(secret)


def see_small(file: str | os.PathLike[str]) -> os.stat_result:
    """The facts of a file that may be a key's. Raises OSError, and ValueError for a pipe or what is large."""
    facts = os.stat(file)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > MOST_BYTES:
        raise ValueError("it is no small file")
    return facts


def read_pair(secret: Path) -> Pair:
    """The pair in a private key's file.

    Raises
    ------
    ServiceError
        It is absent, no key, or others may read it.
    """
    import zmq.auth

    hint = "'alloy keys new' makes one."
    try:
        facts = see_small(secret)
        if stat.S_IMODE(facts.st_mode) & 0o077 or facts.st_uid != os.getuid():
            raise ServiceError(
                f"the private key {secret} may be read by others",
                hint=f"chmod 600 {secret}",
                path=str(secret),
            )
        public, private = zmq.auth.load_certificate(secret)
        pair = Pair(check_public(public.decode()), (private or b"").decode())
        if not PUBLIC.fullmatch(pair.secret):
            raise ValueError("it is cut off, or holds no private key")  # of which nothing is told
        if zmq.curve_public(pair.secret.encode()).decode() != pair.public:
            raise ValueError("its public and its private key are no pair")
    except FileNotFoundError:
        raise ServiceError(f"there is no private key {secret}", hint=hint, path=str(secret)) from None
    except (OSError, ValueError, UsageError, zmq.ZMQError) as wrong:
        raise ServiceError(
            f"the private key {secret} cannot be read: {wrong}", hint=hint, path=str(secret)
        ) from None
    return pair


def server_pair(keys: Path, *, new: bool = False) -> Pair:
    """The server's own pair in a home's ``keys`` folder; made with ``new`` when it is missing."""
    secret = keys / "server.key_secret"
    if new and not secret.exists():
        return make(keys, "server")
    return read_pair(secret)
