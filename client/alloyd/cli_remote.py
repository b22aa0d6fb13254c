"""The verbs about the network: keys, profile."""

from __future__ import annotations

import argparse

import msgspec

from . import key_files, profiles
from .authorised_keys import AuthorisedKeys
from .columns import columns
from .console import Console
from .paths import find_home
from .roles import Role


def keys(options: argparse.Namespace, console: Console) -> int:
    """Make keys, let them in, list them."""
    home = find_home(getattr(options, "home", None))
    listed = AuthorisedKeys(home.keys)
    if options.what == "new" and options.name:
        pair = key_files.make(key_files.folder(), options.name)
        path = key_files.folder() / f"{options.name}.key_secret"
        console.say(f"private key: {path}")
        console.say(
            f"on the daemon's machine: alloy keys authorize {options.name} '{pair.public}' --role submit"
        )
        console.show(pair.public)
        console.result({"name": options.name, "public": pair.public, "private_file": str(path)})
    elif options.what == "new":
        home.create()
        pair = key_files.server_pair(home.keys, new=True)
        console.say(
            f"the daemon of {home.root} is known by this key; give it to 'alloy profile add' elsewhere:"
        )
        console.show(pair.public)
        console.result({"name": "server", "public": pair.public})
    elif options.what == "authorize":
        home.create()
        server = key_files.server_pair(home.keys, new=True)
        listed.add(options.name, options.key, Role(options.role))
        console.say(f"'{options.name}' may {options.role}; this daemon's own key: {server.public}")
        console.result({"name": options.name, "role": options.role, "server_key": server.public})
    elif options.what == "revoke":
        gone = listed.remove(options.name)
        console.say(f"'{options.name}' is let in no longer")
        console.result({"name": options.name, "public": gone.key})
    else:
        names = listed.names()
        rows = [(name, each.role.value, f"{each.added:%Y-%m-%d}", each.key) for name, each in names.items()]
        for line in columns(rows) if rows else ():
            console.show(line)
        if not rows:
            console.say("no remote key is let in; 'alloy keys authorize' lets one in")
        console.result([{"name": name, **msgspec.to_builtins(each)} for name, each in names.items()])
    return 0


def profile(options: argparse.Namespace, console: Console) -> int:
    """Add, list and forget profiles."""
    if options.what == "add":
        made = profiles.make(
            options.address, events=options.events, server_key=options.server_key, key=options.key
        )
        path = profiles.add(options.name, made)
        console.say(f"{path}: 'alloy --connect {options.name} status' tries it")
        console.result(made)
    elif options.what == "rm":
        profiles.remove(options.name)
        console.result({"name": options.name})
    else:
        found = {name: profiles.read(name) for name in profiles.names()}
        rows = [(name, each.requests, each.events, each.key) for name, each in found.items()]
        for line in columns(rows) if rows else ():
            console.show(line)
        if not rows:
            console.say("no profiles; 'alloy profile add' makes one")
        console.result([{"name": name, **msgspec.to_builtins(each)} for name, each in found.items()])
    return 0
