"""A search's files, written when it ends and when its test is opened: its results, and its winner as recipes."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from alloyd.errors import AlloydError
from alloyd.jobs import Note, Progress

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.durable import replace_file
from ..engine.contents import known_content, read_contents
from ..engine.findings import FindingCache
from ..settings import Settings
from .export import MERGEKIT, WINNER, by_layer_of, export, write_files
from .history import History
from .lineage import as_keys, recalled, sources_of
from .results import Searched, results

RESULTS: Final = "results.json"
IN_THE_FILE: Final = ("spec", "trials", "convergence", "lineage", "genes", "kinship", "notes", "leader")
"""What readers find in the file alone: it grows with the trials, and a job's result travels in one message."""

SHARE: Final = 0.05
LEAST: Final = 60.0
"""For this part of a search's own time, and at least for so many seconds, its sources are read for their digests."""


def publish(
    history: History,
    searched: Searched,
    *,
    winner: int | None,
    folder: Path,
    home: Path,
    settings: Settings,
    findings: FindingCache,
) -> Published:
    """Write ``results.json``, ``winner.yaml`` and ``winner.mergekit.yaml`` into ``folder``.

    Of the winner's sources they say what ``findings`` and the record know; :meth:`Published.read_sources` reads them.

    Raises
    ------
    OutputError
        They cannot be written; DiskFull where no room is left.
    AlloydError
        The winner's recipe does not give the winner again.
    """
    found = results(history, searched, winner=winner)
    found["recipes"] = None
    checkpoints: Sequence[Checkpoint] = ()
    if found["winner"] is not None:
        exported = export(found["winner"]["recipe"], head=_head(found), home=home, settings=settings)
        checkpoints = exported.candidate.prepared.checkpoints
        contents = [known_content(each, findings) for each in checkpoints]
        found["lineage"]["sources"] = recalled(history, sources_of(exported.candidate, contents))
        found["winner"]["by_layer"] = exported.by_layer
        found["recipes"] = {
            "alloyd": WINNER,
            "mergekit": None if exported.mergekit is None else MERGEKIT,
            "why_not": exported.why_not,
            "remark": exported.remark,
        }
    _write(folder, found)
    if found["winner"] is not None:
        write_files(exported, folder)
    return Published(found, folder, checkpoints)


@dataclass(frozen=True, slots=True)
class Published:
    """The files of a search that has ended, all written; ``found`` is what ``results.json`` holds."""

    found: dict[str, Any]
    folder: Path
    checkpoints: Sequence[Checkpoint]

    @property
    def result(self) -> dict[str, Any]:
        """The job's result."""
        return {
            **{key: value for key, value in self.found.items() if key not in IN_THE_FILE},
            "folder": str(self.folder),
            "results": str(self.folder / RESULTS),
        }

    def read_sources(
        self, history: History, findings: FindingCache
    ) -> Generator[Progress | Note, None, None]:
        """Read what has no digest yet of the winner's sources, and write the results again with what was found.

        It takes at most :data:`SHARE` of the time that the search took, or :data:`LEAST` seconds. Closing it leaves the
        results as they are; what was read whole is known to the next one.
        """
        sources = self.found["lineage"].get("sources", [])
        waiting = [place for place, each in enumerate(sources) if each["digest"] is None]
        if not waiting:
            return
        names = ", ".join(sources[place]["name"] for place in waiting)
        yield Note("info", f"the results are written; for the digests of its contents is read: {names}")
        contents = yield from read_contents(
            [self.checkpoints[place] for place in waiting],
            findings,
            seconds=max(LEAST, SHARE * self.found["spent"]["seconds"]),
        )
        for place, content in zip(waiting, contents, strict=True):
            sources[place] |= as_keys(content)
            if content.digest is None:
                yield Note(
                    "info", f"{sources[place]['name']} has no digest in the lineage: {content.why_not}"
                )
        history.set_fact("sources", sources)
        _write(self.folder, self.found)


def so_far(history: History, searched: Searched, *, folder: Path, home: Path, settings: Settings) -> None:
    """Write ``results.json`` of a search that runs, for whoever looks. Raises OutputError as :func:`publish` does."""
    found = {**results(history, searched, winner=None, ended=False), "recipes": None}
    if found["leader"] is not None:
        with suppress(AlloydError):  # its sources may have gone: the search says so
            found["leader"]["by_layer"] = by_layer_of(found["leader"]["recipe"], home, settings)
    _write(folder, found)


def _write(folder: Path, found: Mapping[str, Any]) -> None:
    replace_file(folder / RESULTS, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def _head(found: Mapping[str, Any]) -> Sequence[str]:
    """What a recipe's first lines say of where it comes from."""
    winner = found["winner"]
    named = f" of {found['name']}" if found["name"] else ""
    lines = [f"The winner{named}: {winner['name']} of {found['job']}, seed {found['lineage']['seed']}."]
    for objective in found["objectives"]:
        for each in winner["figures"]:
            if (each["number"], each["metric"]) == (objective["number"], objective["metric"]):
                between = (
                    "" if each["low"] is None else f" (95 % interval {each['low']:.4f} to {each['high']:.4f})"
                )
                lines.append(
                    f"Validation: {each['task']} {each['metric']} {each['value']:.4f}{between}, {each['n']} items."
                )
    return lines
