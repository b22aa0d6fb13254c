"""A search's files, written when it ends and when its test is opened: its results, and its winner as recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from alloyd.errors import AlloydError

from ..checkpoints.durable import replace_file
from ..settings import Settings
from .export import MERGEKIT, WINNER, by_layer_of, export, write_files
from .history import History
from .results import Searched, results

RESULTS: Final = "results.json"
IN_THE_FILE: Final = ("spec", "trials", "convergence", "lineage", "genes", "kinship", "notes", "leader")
"""What readers find in the file alone: it grows with the trials, and a job's result travels in one message."""


def publish(
    history: History, searched: Searched, *, winner: int | None, folder: Path, home: Path, settings: Settings
) -> dict[str, Any]:
    """Write ``results.json``, ``winner.yaml`` and ``winner.mergekit.yaml`` into ``folder``; returns the job's result.

    Raises
    ------
    OutputError
        They cannot be written; DiskFull where no room is left.
    AlloydError
        The winner's recipe does not give the winner again.
    """
    found = results(history, searched, winner=winner)
    found["recipes"] = None
    if found["winner"] is not None:
        exported = export(found["winner"]["recipe"], head=_head(found), home=home, settings=settings)
        write_files(exported, folder)
        found["lineage"]["sources"] = exported.sources
        found["winner"]["by_layer"] = exported.by_layer
        found["recipes"] = {
            "alloyd": WINNER,
            "mergekit": None if exported.mergekit is None else MERGEKIT,
            "why_not": exported.why_not,
            "remark": exported.remark,
        }
    _write(folder, found)
    return {
        **{key: value for key, value in found.items() if key not in IN_THE_FILE},
        "folder": str(folder),
        "results": str(folder / RESULTS),
    }


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
