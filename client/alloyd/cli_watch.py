"""The verb watch: folders in which recipes are dropped."""

from __future__ import annotations

import argparse

from .connecting import client_of
from .console import Console
from .errors import UsageError
from .specs import place_for
from .watch_schema import Watch


def watch(options: argparse.Namespace, console: Console) -> int:
    """Add, list or remove a watched folder."""
    with client_of(options) as client:
        if options.action == "list":
            found = client.watches()
            for each in found:
                _show(each, console)
            if not found:
                console.say("no folder is watched; 'alloy watch add DIR' begins")
            console.result(found)
        elif options.action == "add":
            one = client.watch_add(
                options.folder,
                out=place_for(options.out, client.far) if options.out else "",
                roots=tuple(place_for(each, client.far) for each in options.root),
                priority=options.priority,
                settle=options.settle,
                rescan=options.rescan,
                mode=options.mode,
                in_flight=options.in_flight,
                duplicates=options.duplicates,
            )
            console.show(one.path)
            console.result(one)
        else:
            if not client.watch_remove(options.folder):
                raise UsageError(
                    f"{place_for(options.folder, client.far)} is not watched",
                    hint="'alloy watch list' lists folders.",
                )
            console.result({"removed": place_for(options.folder, client.far)})
    return 0


def _show(one: Watch, console: Console) -> None:
    counts = (
        ", ".join(f"{number} {state}" for state, number in sorted(one.claims.items())) or "nothing taken yet"
    )
    console.show(f"{one.path}  {one.state}{f', {one.mode}' if one.mode else ''}: {counts}")
    if one.message:
        console.show(f"  {one.message}")
    for each in one.waiting:
        console.show(f"  {each.name}: {each.why}")
    if one.waits > len(one.waiting):
        console.show(f"  and {one.waits - len(one.waiting)} more")
