"""Drives claims of models from one state to the next; each step may be repeated after a kill at any moment.

claimed     on disk in the ledger, once for a model's content and a rule: nothing else can claim it again
submitted   a job of the claim's own key works on it
scoring     of a running soup: another job compares the candidate with the soup
ending      what came of it is decided; its record may or may not be there
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from alloyd.errors import AlloydError, JobNotFound, UsageError
from alloyd.jobs import Job, JobState
from alloyd.watch_schema import Rule, Soup

from ..faults import reach
from . import dropped, moves, soups
from .fine_tune import Resolve
from .ledger import KEPT, Claim, Folder, Ledger
from .link import Daemon, passes
from .newcomers import Newcomer
from .template import fill

log = logging.getLogger("alloyd")


class Rules:
    """The claimed models of all folders; ``roots`` are what rules may name in every folder."""

    def __init__(self, ledger: Ledger, daemon: Daemon, roots: Sequence[Path], resolve: Resolve) -> None:
        self._ledger = ledger
        self._daemon = daemon
        self._roots = tuple(roots)
        self._resolve = resolve

    def why_later(self, folder: Folder, rule: Rule) -> str:
        """Why no model can be taken under a rule now; empty if one can. A soup takes one at a time."""
        if rule.soup is None:
            return ""
        for claim in self._ledger.open_claims(folder.id):
            if claim.rule == rule.name:
                return f"the soup {rule.name} is busy with {claim.name}"
        try:
            soups.current(folder, rule, rule.soup, self._ledger, self._resolve)
        except AlloydError as wrong:
            return (
                f"the soup {rule.name} cannot go on: {'. '.join(filter(None, (wrong.message, wrong.hint)))}"
            )
        return ""

    def begin(self, folder: Folder, model: Newcomer) -> None:
        """Claim a complete model under a rule that has not seen it, then take it as far as it goes."""
        claim = self._ledger.claim_model(
            folder.id,
            model.rule.name,
            model.rule.kind,
            name=model.name,
            path=str(model.path),
            digest=model.digest,
        )
        reach("watch-model-claimed")
        if claim is not None:
            self.drive(folder, claim)

    def drive(self, folder: Folder, claim: Claim) -> None:
        """Take ``claim`` as far as it goes now; raises an error that passes, or OSError."""
        if claim.state == "claimed":
            claim = self._submit(folder, claim)
        if claim.state == "submitted":
            claim = self._follow(folder, claim)
        if claim.state == "scoring":
            claim = self._weigh(folder, claim)
        if claim.state == "ending":
            self._end(folder, claim)

    def _submit(self, folder: Folder, claim: Claim) -> Claim:
        try:
            rule = _rule(folder, claim)
            if not claim.out:
                claim = self._place(folder, rule, claim)
            models = {"model": claim.path, "base": rule.base, "soup": claim.soup}
            job = self._ask(folder, claim, fill(rule.template, rule.name, models))
        except AlloydError as error:
            return self._refuse(folder, claim, error)
        reach("watch-model-submitted")
        return self._ledger.change(claim.id, job=job.id, state="submitted")

    def _place(self, folder: Folder, rule: Rule, claim: Claim) -> Claim:
        """Write down where the output goes, and which soup the model is merged with."""
        if rule.soup is None:
            stem = f"{moves.flat(claim.name)}-{rule.name}"
            return self._ledger.change(claim.id, out=moves.output_place(folder, claim, self._ledger, stem))
        soup = soups.current(folder, rule, rule.soup, self._ledger, self._resolve)
        place = soups.candidate_place(folder, claim, self._ledger)
        return self._ledger.change(claim.id, soup=soup, out=place)

    def _ask(self, folder: Folder, claim: Claim, text: str) -> Job:
        """The job of a filled template."""
        roots = dropped.allowed(folder.path, folder.settings, self._roots)
        dropped.confine(text, f"the rule {claim.rule}", Path(folder.path), roots)
        kind: Any = claim.kind
        Path(claim.out).parent.mkdir(parents=True, exist_ok=True)
        return self._daemon.submit(
            dropped.spec_of(kind, text, claim.rule, folder.path, claim.out),
            key=f"watch:{folder.id}:{claim.id}",
            priority=folder.settings.priority,
            confined=[str(each) for each in roots],
        )

    def _follow(self, folder: Folder, claim: Claim) -> Claim:
        try:
            job = self._daemon.job(claim.job)
        except JobNotFound as error:
            return self._refuse(folder, claim, error)
        if not job.state.ended:
            return claim
        if job.state is not JobState.DONE:
            return self._refuse(folder, claim, _ended_badly(job))
        if claim.kind == "search":
            moves.copy_search(claim, job)
        if not claim.soup:
            return self._decide(folder, claim, "done")
        reach("watch-soup-merged")
        return self._judge(folder, claim)

    def _judge(self, folder: Folder, claim: Claim) -> Claim:
        """Have a candidate and the soup scored on the same items."""
        roots = dropped.allowed(folder.path, folder.settings, self._roots)
        try:
            spec = soups.comparison(folder, _soup(_rule(folder, claim)), claim)
            dropped.hold(spec.tasks, f"the rule {claim.rule}", Path(folder.path), roots)
            job = self._daemon.submit(
                spec,
                key=f"watch:{folder.id}:{claim.id}:score",
                priority=folder.settings.priority,
                confined=[str(each) for each in roots],
            )
        except AlloydError as error:
            return self._refuse(folder, claim, error)
        reach("watch-soup-judged")
        return self._ledger.change(claim.id, judge=job.id, state="scoring")

    def _weigh(self, folder: Folder, claim: Claim) -> Claim:
        """Keep a candidate that has been scored, or do not: one transaction, after which the rest follows."""
        try:
            job = self._daemon.job(claim.judge)
            if not job.state.ended:
                return claim
            if job.state is not JobState.DONE:
                raise _ended_badly(job)
            compared = soups.verdicts(job)
            kept = soups.keeps(_soup(_rule(folder, claim)), compared)
            if kept:
                soups.see(
                    claim.out, "candidate", hint="It went away while it was scored; the soup is as it was."
                )
        except AlloydError as error:
            return self._refuse(folder, claim, error)
        target = soups.folder_of(folder, claim.rule) / Path(claim.out).name
        return self._ledger.weigh(claim, kept=kept, target=f"{target}.json")

    def _refuse(self, folder: Folder, claim: Claim, error: AlloydError) -> Claim:
        if passes(error):
            raise error
        log.warning("refused %s in %s: %s", claim.name, folder.path, error, extra={"code": error.code})
        # What lies where an unmade candidate was to go is somebody else's, and not to be removed.
        out = "" if claim.soup and not self._is_made(claim) else claim.out
        plan = _failure(folder, claim, error)[".error.json"]
        return self._decide(folder, claim, "failed", out=out, plan=plan)

    def _is_made(self, claim: Claim) -> bool:
        """Whether the job of a claim has made its output; one that was cancelled may have, just before."""
        try:
            job = self._daemon.job(claim.job) if claim.job else None
        except JobNotFound:
            return False
        return job is not None and (job.state is JobState.DONE or soups.is_of(job, Path(claim.out)))

    def _decide(self, folder: Folder, claim: Claim, where: str, **fields: object) -> Claim:
        """Write down what came of it and where its record goes, once; what follows repeats itself after a kill."""
        parts = (where, datetime.now().strftime("%Y-%m")) if where == "done" else (where,)
        target = Path(folder.path).joinpath(*parts, f"{moves.flat(claim.name)}.{claim.rule}")
        return self._ledger.change(claim.id, state="ending", target=str(target), **fields)

    def _end(self, folder: Folder, claim: Claim) -> None:
        failed = Path(claim.target).parent.name == "failed"
        if failed:
            told = AlloydError.from_dict(msgspec.json.decode(claim.plan, type=dict[str, Any]))
            sidecars = _failure(folder, claim, told)
        else:
            sidecars = self._success(claim)
            for ending in (".error.json", ".error.txt"):
                Path(folder.path, "failed", f"{moves.flat(claim.name)}.{claim.rule}{ending}").unlink(
                    missing_ok=True
                )
        if claim.soup:
            soups.settle(folder, claim, self._ledger)
        Path(claim.target).parent.mkdir(parents=True, exist_ok=True)
        for ending, text in sidecars.items():
            moves.replace(Path(claim.target + ending), text)
        reach("watch-model-told")
        self._ledger.change(claim.id, state="failed" if failed else "done")

    def _success(self, claim: Claim) -> dict[str, str]:
        """The records of a claim that is done, by what is added to its target."""
        told: dict[str, Any] = {"rule": claim.rule, "model": claim.path}
        try:
            job = self._daemon.job(claim.judge or claim.job)
        except JobNotFound:  # the daemon's record was lost; what was decided stands
            job = None
        if not claim.soup:
            result = {} if job is None else moves.brief(job.result or {})
            return moves.success(claim, **told, result=result)
        kept = claim.plan == KEPT
        told |= {"kept": kept, "soup": claim.soup, "judged_by": claim.judge}
        told["comparisons"] = [] if job is None else soups.verdicts(job)
        return {"": moves.success(claim, **told)[".result.json"]}


def _soup(rule: Rule) -> Soup:
    if rule.soup is None:
        raise UsageError(f"the rule {rule.name} has no soup any more", hint="Give its soup back.")
    return rule.soup


def _rule(folder: Folder, claim: Claim) -> Rule:
    found = next((each for each in folder.settings.rules if each.name == claim.rule), None)
    if found is None:
        raise UsageError(
            f"the rule {claim.rule} is no longer one of {folder.path}",
            hint="'alloy watch add' with --rules brings it back.",
        )
    return found


def _ended_badly(job: Job) -> AlloydError:
    return AlloydError.from_dict(job.error or {"message": f"{job.id} is {job.state.value}"})


def _failure(folder: Folder, claim: Claim, error: AlloydError) -> dict[str, str]:
    retry = (
        f"Put it right, then 'alloy watch add {folder.path} --rules FILE --existing' tries what failed again."
    )
    return moves.failure(error, claim, retry)
