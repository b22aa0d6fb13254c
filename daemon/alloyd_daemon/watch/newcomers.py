"""Which models of a watched folder are new to its rules, and what those that are not taken yet wait for.

What was read of a model is kept under the signature of its files, so that another look costs their sizes and times.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from alloyd.errors import AlloydError
from alloyd.recipe import ModelRef
from alloyd.watch_schema import Rule, Waiting

from . import dropped
from .complete import Incomplete, Whole, examine, identity
from .fine_tune import Resolve, why_not
from .ledger import Folder, Ledger
from .model_folders import Candidate, candidates, look
from .settle import Settling

LONG: Final = 600.0
"""Seconds without a change after which a model that is not complete is not expected to become so soon."""
POLL: Final = 5.0
"""Seconds between two looks while a model is not complete: what happens inside its folder does not ring."""


_LONG: Final = "; it has not changed for long"


class _NoBase(Exception):
    """The base of a rule cannot be read now."""


@dataclass(frozen=True, slots=True)
class _Base:
    """The base of a rule as it was read."""

    named: str
    place: Path
    signature: str
    whole: Whole
    digest: str


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A complete model that a rule has not seen, and what names its content."""

    rule: Rule
    name: str
    path: Path
    digest: str
    changed: float


@dataclass(slots=True)
class Seen:
    """What was read of a model: its content, or what it lacks; and by base, why it was not made from it."""

    digest: str
    lacks: Incomplete | None
    unlike: dict[str, str]


class Newcomers:
    """The models of one folder; ``roots`` are the folders that it may use, ``resolve`` finds models by name."""

    def __init__(
        self, folder: Folder, ledger: Ledger, roots: Sequence[Path], resolve: Resolve, settle: float
    ) -> None:
        self._folder = folder
        self._ledger = ledger
        allowed = dropped.allowed(folder.path, folder.settings, roots)
        self._roots = [Path(os.path.realpath(each)) for each in allowed]
        self._resolve = resolve
        self._settling = Settling(settle)
        self._since: dict[str, tuple[str, float]] = {}
        self._seen: dict[str, Seen] = {}
        self._passed: set[tuple[str, str]] = set()
        self._read_now: dict[str, str] = {}
        self._bases: dict[str, _Base] = {}

    def look(self, now: float, waiting: list[Waiting]) -> tuple[list[Newcomer], float]:
        """The models that are ready, those that changed first before others, and seconds until the next look.

        Raises OSError where the folder cannot be read.
        """
        ready: list[Newcomer] = []
        wait = 3600.0
        found = list(candidates(self._folder.path, self._folder.settings))
        self._forget_all_but(found)
        for each in found:
            rules = [rule for rule in self._folder.settings.rules if matches(rule, each.name)]
            rules = [rule for rule in rules if (rule.name, each.signature) not in self._passed]
            if not rules:
                continue
            quiet = now - self._first_seen(each, now)
            left = self._settling.look(str(each.path), each.signature, now)
            why = self._why_held(each, left)
            if each.empty and not each.held:
                wait = min(wait, POLL if quiet <= LONG else 3600.0)
                continue
            if why:
                waiting.append(Waiting(each.name, why + (_LONG if quiet > LONG else "")))
                wait = min(wait, left or 3600.0, POLL if quiet <= LONG else 3600.0)
                continue
            if self._ledger.is_ours(self._folder.id, str(each.path)):
                self._passed |= {(rule.name, each.signature) for rule in rules}
                continue
            wait = min(wait, self._take(each, rules, quiet, ready, waiting))
        self._ledger.keep_identities(self._read_now)
        self._read_now = {}
        return sorted(ready, key=lambda one: (one.changed, one.name)), wait

    def _forget_all_but(self, found: Sequence[Candidate]) -> None:
        paths, signatures = {str(each.path) for each in found}, {each.signature for each in found}
        self._settling.keep(paths)
        self._since = {path: since for path, since in self._since.items() if path in paths}
        self._seen = {each: seen for each, seen in self._seen.items() if each in signatures}
        self._passed = {each for each in self._passed if each[1] in signatures}

    def _first_seen(self, one: Candidate, now: float) -> float:
        signature, since = self._since.get(str(one.path), ("", now))
        if signature != one.signature:
            since = now
        self._since[str(one.path)] = (one.signature, since)
        return since

    def _why_held(self, one: Candidate, left: float) -> str:
        if one.held:
            return one.held
        if left:
            return "was changed a moment ago"
        real = Path(os.path.realpath(one.path))
        if not any(real.is_relative_to(root) for root in self._roots):
            return "it lies outside the folders that this one may use ('alloy watch add DIR --root FOLDER')"
        return ""

    def _take(
        self,
        one: Candidate,
        rules: Sequence[Rule],
        quiet: float,
        ready: list[Newcomer],
        waiting: list[Waiting],
    ) -> float:
        """Find out under which rules a quiet model is new; seconds until it is to be looked at again."""
        seen = self._read(one, rules)
        if seen is None:
            waiting.append(Waiting(one.name, "was changed a moment ago"))
            return POLL
        if seen.lacks is not None:
            why = seen.lacks.why
            if quiet > LONG:
                why = f"cannot become complete: {why}" if seen.lacks.hopeless else why + _LONG
            waiting.append(Waiting(one.name, why))
            return POLL if quiet <= LONG else 3600.0
        for rule in rules:
            if rule.base and seen.unlike[rule.base]:
                waiting.append(Waiting(one.name, f"not for the rule {rule.name}: {seen.unlike[rule.base]}"))
                continue
            if self._ledger.was_present(self._folder.id, rule.name, one.signature):
                self._ledger.claim_model(
                    self._folder.id,
                    rule.name,
                    rule.kind,
                    name=one.name,
                    path=str(one.path),
                    digest=seen.digest,
                    known=True,
                )
            if self._ledger.has_model(self._folder.id, rule.name, seen.digest):
                self._passed.add((rule.name, one.signature))
            else:
                ready.append(Newcomer(rule, one.name, one.path, seen.digest, one.changed))
        return 3600.0

    def _read(self, one: Candidate, rules: Sequence[Rule]) -> Seen | None:
        """What is known of a model, read if it must be; ``None`` if it changed while it was."""
        bases = {rule.base for rule in rules if rule.base}
        known = self._seen.get(one.signature)
        if known is not None and (known.lacks is not None or bases <= known.unlike.keys()):
            return known
        digest = self._ledger.identity(one.signature)
        if digest and not bases:
            self._seen[one.signature] = Seen(digest, None, {})
            return self._seen[one.signature]
        try:
            made_from = {base: self._base(base) for base in bases}
        except _NoBase as wrong:
            return Seen("", Incomplete(str(wrong)), {})  # not for ever: the base may be put right
        try:
            whole = examine(one.path)
            digest = digest or identity(whole)
            unlike = {name: self._unlike(whole, digest, base) for name, base in made_from.items()}
            seen = Seen(digest, None, unlike)
        except Incomplete as lacks:
            seen = Seen("", lacks, {})
        except OSError:
            return None
        again = look(one.name, one.path)
        if again is None or again.signature != one.signature:
            return None
        if seen.lacks is None:
            self._read_now[one.signature] = digest
        self._seen[one.signature] = seen
        return seen

    def _base(self, named: str) -> _Base:
        """The base of a rule, read if it is not the one that was; raises _NoBase."""
        try:
            place = self._resolve(ModelRef.parse(named), base_dir=Path(self._folder.path))
            dropped.hold([str(place)], "the rule", place, self._roots)
            found = look(named, place)
            signature = "" if found is None else found.signature
            known = self._bases.get(named)
            if known is None or known.signature != signature:
                whole = examine(place)
                known = self._bases[named] = _Base(named, place, signature, whole, identity(whole))
            return known
        except Incomplete as lacks:
            raise _NoBase(f"the base {named} of its rule is not complete: {lacks.why}") from None
        except AlloydError as wrong:
            raise _NoBase(f"the base {named} of its rule cannot be read: {wrong.message}") from None
        except OSError as wrong:
            raise _NoBase(f"the base {named} of its rule cannot be read: {wrong.strerror}") from None

    def _unlike(self, whole: Whole, digest: str, base: _Base) -> str:
        """Why a model was not made from ``base``; empty if it was."""
        if base.digest == digest:
            return "it is the base itself"
        return why_not(whole, base.whole, base.place, base.named, self._resolve)


def matches(rule: Rule, name: str) -> bool:
    """Whether the name of a model is one that a rule waits for; a pattern without ``/`` is about its last part."""
    return any(fnmatchcase(name if "/" in each else name.rpartition("/")[2], each) for each in rule.match)
