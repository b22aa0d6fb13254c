"""The verb watch: folders in which recipes are dropped, and models that rules wait for."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import watch_rules
from .connecting import client_of
from .console import Console
from .errors import UsageError
from .specs import place_for
from .watch_schema import Rule, RunningSoup, Watch


def watch(options: argparse.Namespace, console: Console) -> int:
    """Add, list or remove a watched folder."""
    rules = _rules(options) if options.action == "add" else ()
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
                rules=rules,
                existing=options.existing,
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


def _rules(options: argparse.Namespace) -> tuple[Rule, ...]:
    """The rules of --rules, which must not lie where they would be taken for a dropped recipe."""
    if options.rules is None:
        if options.existing:
            raise UsageError(
                "--existing is about models, and there are no rules for them", hint="--rules FILE"
            )
        return ()
    file = Path(options.rules).absolute()
    if file.parent.resolve() == Path(options.folder).resolve():
        raise UsageError(
            f"{file.name} lies in the watched folder, where it would be taken for a recipe",
            hint="Put it and its templates beside the folder, or into one of its subfolders.",
            path=str(file),
        )
    return watch_rules.load(file)


def _show(one: Watch, console: Console) -> None:
    counts = (
        ", ".join(f"{number} {state}" for state, number in sorted(one.claims.items())) or "nothing taken yet"
    )
    console.show(f"{one.path}  {one.state}{f', {one.mode}' if one.mode else ''}: {counts}")
    if one.message:
        console.show(f"  {one.message}")
    soups = {each.rule: each for each in one.soups}
    for rule in one.settings.rules:
        made = f" made from {rule.base}" if rule.base else ""
        console.show(f"  rule {rule.name}: {rule.kind} for each new {' or '.join(rule.match)}{made}")
        if rule.soup is not None:
            soup = soups.get(rule.name) or RunningSoup(rule.name, rule.soup.start)
            console.show(f"    soup {soup.current}: {soup.kept} kept, {soup.rejected} rejected")
    for each in one.waiting:
        console.show(f"  {each.name}: {each.why}")
    if one.waits > len(one.waiting):
        console.show(f"  and {one.waits - len(one.waiting)} more")
