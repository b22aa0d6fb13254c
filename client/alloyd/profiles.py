"""Connection profiles: how a daemon on another machine is reached, by a name, in this user's configuration folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from .errors import UsageError, did_you_mean
from .key_files import check_name, check_public, config_folder, read_pair, see_small
from .key_files import folder as key_folder
from .paths import private_folder, write_private

ADDRESS: Final = re.compile(r"tcp://(\[[0-9a-fA-F:.]+\]|[\w.-]+):([0-9]{1,5})", re.ASCII)
MOST_BYTES: Final = 4096


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a daemon is, the public key by which it is known, and the file of the private key to come with."""

    requests: str
    events: str
    server_key: str
    key: str


def folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where profiles lie, one JSON file each."""
    return config_folder(environ) / "profiles"


def make(requests: str, *, events: str = "", server_key: str, key: str = "") -> Profile:
    """A profile from what a person says of it.

    ``events`` is by default the port after that of ``requests``. ``server_key`` is the key itself or a file that holds
    it; ``key`` the name of a pair of this user's, or its private file: by default the only pair there is.

    Raises
    ------
    UsageError
        An address, key or file that is none.
    """
    port = _port(requests)
    events = events or f"{requests.rpartition(':')[0]}:{port + 1}"
    _port(events)
    return Profile(requests, events, _server_key(server_key), str(_private_file(key)))


def add(name: str, profile: Profile) -> Path:
    """Write a profile; one of that name is replaced. The file."""
    check_name(name)
    path = private_folder(folder(), "the profile folder") / f"{name}.json"
    write_private(path, msgspec.json.format(msgspec.json.encode(profile), indent=1) + b"\n")
    return path


def names() -> tuple[str, ...]:
    """Every profile's name, sorted."""
    return tuple(sorted(each.stem for each in folder().glob("[!.]*.json")))


def read(name: str) -> Profile:
    """The profile called ``name``. Raises UsageError when there is none, or it is unreadable."""
    check_name(name)
    path = folder() / f"{name}.json"
    try:
        data = path.read_bytes()[: MOST_BYTES + 1]
        profile = msgspec.json.decode(data, type=Profile)
        for address in (profile.requests, profile.events):
            _port(address)
        check_public(profile.server_key)
    except FileNotFoundError:
        hint = did_you_mean(name, names()) or "alloy profile add NAME tcp://HOST:PORT --server-key KEY"
        raise UsageError(f"there is no profile '{name}'", hint=hint) from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise UsageError(
            f"the profile {path} cannot be read: {wrong}", hint=f"Add it again: alloy profile add {name} ..."
        ) from None
    return profile


def remove(name: str) -> None:
    """Forget a profile. Raises UsageError when there is none."""
    read(name)
    (folder() / f"{name}.json").unlink(missing_ok=True)


def _port(address: str) -> int:
    found = ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65535:
        raise UsageError(f"'{address}' is no address", hint="Write tcp://HOST:PORT, such as tcp://box:5757.")
    return int(found[2])


def _server_key(text: str) -> str:
    if not os.path.exists(text):
        return check_public(text)
    import zmq.auth

    try:
        see_small(text)
        public, _ = zmq.auth.load_certificate(text)
        return check_public(public.decode())
    except (OSError, ValueError) as wrong:
        raise UsageError(f"the key file {text} cannot be read: {wrong}", path=text) from None


def _private_file(key: str) -> Path:
    own = key_folder()
    if not key:
        found = sorted(own.glob("*.key_secret"))
        if len(found) != 1:
            known = ", ".join(each.stem for each in found)
            raise UsageError(
                f"which key? You have {known}" if found else "you have no key yet",
                hint="--key NAME" if found else "Make one: alloy keys new NAME",
            )
        path = found[0]
    elif "/" in key:
        path = Path(os.path.abspath(key))
    else:
        path = own / f"{check_name(key)}.key_secret"
    read_pair(path)
    return path
