"""Drives claims of dropped files from one state to the next; each step may be repeated after a kill at any moment.

claiming    on disk in the ledger; the rename may or may not have happened
claimed     the file lies in .work/<claim>/; its content, kind and output are known
submitted   a job of the claim's own key works on it
ending      where it goes is decided; sidecars and the move may or may not be there
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from alloyd.errors import AlloydError, JobNotFound
from alloyd.jobs import Job, JobState

from ..faults import reach
from . import dropped, moves
from .ledger import Claim, Folder, Ledger
from .link import Daemon, passes

MOST_TRIALS = 5
"""Times that a claim is taken up without getting further, before it is put away as failed."""
log = logging.getLogger("alloyd")


class Drops:
    """The dropped files of all folders; ``roots`` are what recipes may name in every folder."""

    def __init__(self, ledger: Ledger, daemon: Daemon, roots: Sequence[Path]) -> None:
        self._ledger = ledger
        self._daemon = daemon
        self._roots = tuple(roots)

    def begin(self, folder: Folder, name: str) -> None:
        """Claim a file that has settled, then take it; raises OSError when that cannot be done now."""
        path = Path(folder.path, name)
        try:
            digest = dropped.read(path).digest
        except FileNotFoundError:
            return
        except AlloydError:
            digest = ""  # it will be told when it is ours
        claim = self._ledger.claim(folder.id, name, digest)
        reach("watch-claimed")
        self.drive(folder, claim)

    def drive(self, folder: Folder, claim: Claim) -> None:
        """Take ``claim`` as far as it goes now; raises an error that passes, or OSError."""
        if claim.state in ("claiming", "claimed"):
            claim = self._ledger.change(claim.id, trials=claim.trials + 1)
        if claim.state == "claiming":
            if not moves.take(folder, claim):
                self._ledger.forget(claim.id)
                return
            reach("watch-taken")
            claim = self._read(folder, claim)
        if claim.state == "claimed":
            claim = self._submit(folder, claim)
        if claim.state == "submitted":
            claim = self._follow(folder, claim)
        if claim.state == "ending":
            self._end(folder, claim)

    def _read(self, folder: Folder, claim: Claim) -> Claim:
        """The file is ours: what counts is what is in it now, whoever wrote to it until the rename."""
        try:
            found = dropped.read(moves.work_place(folder, claim))
            claim = self._ledger.change(claim.id, digest=found.digest)
            earlier = self._ledger.same_content(claim)
            done = next((each for each in reversed(earlier) if each.state == "done"), None)
            # One more than the last: claims of earlier attempts may have been pruned.
            attempt = 1 + max(
                (each.attempt for each in earlier if each.state in ("failed", "done")), default=-1
            )
            if done is not None and folder.settings.duplicates == "skip":
                return self._decide(folder, claim, "done", job=done.job, out=done.out, plan="duplicate")
            kind, _ = dropped.kind_of(found)
        except (AlloydError, OSError) as wrong:
            return self._refuse(folder, claim, dropped.as_error(wrong))
        again = next((each.out for each in reversed(earlier) if each.out), "")
        out = again or moves.output_place(folder, claim, self._ledger, claim.name.rsplit(".", 1)[0])
        return self._ledger.change(claim.id, kind=kind, attempt=attempt, out=out, state="claimed", trials=0)

    def _submit(self, folder: Folder, claim: Claim) -> Claim:
        if claim.trials > MOST_TRIALS:
            text = f"{claim.name} was taken up {MOST_TRIALS} times and never became a job"
            return self._refuse(folder, claim, AlloydError(text, hint="The daemon's log tells why."))
        try:
            found = dropped.read(moves.work_place(folder, claim))
            kind, text = dropped.kind_of(found)
            roots = dropped.allowed(folder.path, folder.settings, self._roots)
            dropped.confine(text, claim.name, Path(folder.path), roots)
            spec = dropped.spec_of(kind, text, claim.name, folder.path, claim.out)
            Path(claim.out).parent.mkdir(parents=True, exist_ok=True)
        except (AlloydError, OSError) as wrong:
            return self._refuse(folder, claim, dropped.as_error(wrong))
        try:
            job = self._daemon.submit(
                spec,
                key=f"watch:{folder.id}:{claim.digest}:{claim.attempt}",
                priority=folder.settings.priority,
                confined=[str(each) for each in roots],
            )
        except AlloydError as error:
            if passes(error):
                self._ledger.change(claim.id, trials=0)
                raise
            return self._refuse(folder, claim, error)
        reach("watch-submitted")
        claim = self._ledger.change(claim.id, job=job.id, state="submitted", trials=0)
        self._tell(folder, claim, job)
        return claim

    def _follow(self, folder: Folder, claim: Claim) -> Claim:
        try:
            job = self._daemon.job(claim.job)
        except JobNotFound as error:
            return self._refuse(folder, claim, error)
        if not job.state.ended:
            return claim
        if job.state is JobState.DONE:
            if claim.kind == "search":
                moves.copy_search(claim, job)
            return self._decide(folder, claim, "done")
        why = AlloydError.from_dict(job.error or {"message": f"{job.id} is {job.state.value}"})
        return self._refuse(folder, claim, why)

    def _refuse(self, folder: Folder, claim: Claim, error: AlloydError) -> Claim:
        log.warning("refused %s in %s: %s", claim.name, folder.path, error, extra={"code": error.code})
        sidecars = self._failure(folder, claim, error)
        return self._decide(folder, claim, "failed", plan=sidecars[".error.json"])

    def _failure(self, folder: Folder, claim: Claim, error: AlloydError) -> dict[str, str]:
        retry = f"Put it right, or leave it as it is, and move it back into {folder.path}."
        return moves.failure(error, claim, retry)

    def _decide(self, folder: Folder, claim: Claim, where: str, **fields: object) -> Claim:
        """Write down where the file goes, once; what follows repeats itself after a kill."""
        parts = (where, datetime.now().strftime("%Y-%m")) if where == "done" else (where,)
        parent = Path(folder.path).joinpath(*parts)
        target = moves.free_place(parent, claim.name)
        return self._ledger.change(claim.id, state="ending", target=str(target), **fields)

    def _end(self, folder: Folder, claim: Claim) -> None:
        failed = Path(claim.target).parent.name == "failed"
        if failed:
            told = AlloydError.from_dict(msgspec.json.decode(claim.plan, type=dict[str, Any]))
            sidecars = self._failure(folder, claim, told)
        elif claim.plan == "duplicate":
            note = "The same content was done before; nothing was run again (alloy watch add --duplicates run does)."
            sidecars = moves.success(claim, duplicate=True, note=note)
        else:
            result = self._daemon.job(claim.job).result or {}
            sidecars = moves.success(claim, duplicate=False, result=moves.brief(result))
            for ending in (".error.json", ".error.txt"):
                Path(folder.path, "failed", claim.name + ending).unlink(missing_ok=True)
        moves.put_away(folder, claim, sidecars)
        reach("watch-put-away")
        state = "failed" if failed else "duplicate" if claim.plan == "duplicate" else "done"
        self._ledger.change(claim.id, state=state)

    def _tell(self, folder: Folder, claim: Claim, job: Job) -> None:
        """For people who see the folder only: what became of the file that was here a moment ago."""
        place = Path(folder.path, f"{claim.name}.status.json")
        told = moves.success(claim, state=job.state.value)[".result.json"]
        try:
            moves.replace(place, told)
        except OSError:
            return
