"""Run many recipes through the real mergekit's own command, in one process of mergekit's interpreter.

Usage: ``python -P mergekit_runner.py JOBS.json``, a list of ``{"recipe": path, "out": path, "options": more of
mergekit's}``. Prints one JSON object a job: ``{"out": path, "error": null or text}``. Two things are added to
mergekit from outside. torch's sort, argsort and topk are made stable, because which of several equal magnitudes is
kept is otherwise left to chance. And where a consensus is taken, the elements on which it hangs by a rounding are
written to ``OUT.undecided.safetensors`` (one bool tensor for each output tensor). This file is never imported by the
project.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from mergekit.merge_methods import generalized_task_arithmetic as consensus
from mergekit.scripts.run_yaml import main as mergekit_yaml
from safetensors.torch import save_file

CANCELLED = 2.0**-20


def make_sorts_stable() -> None:
    """Replace torch's sort, argsort and topk by versions that keep the lowest index among equals."""
    sort = torch.sort

    def stable_sort(tensor: Any, dim: int = -1, descending: bool = False, **_: Any) -> Any:
        return sort(tensor, dim=dim, descending=descending, stable=True)

    def stable_argsort(tensor: Any, dim: int = -1, descending: bool = False, **_: Any) -> Any:
        return stable_sort(tensor, dim, descending).indices

    def stable_topk(tensor: Any, k: int, dim: int = -1, largest: bool = True, **_: Any) -> Any:
        found = stable_sort(tensor, dim, largest)
        return torch.return_types.topk((found.values.narrow(dim, 0, k), found.indices.narrow(dim, 0, k)))

    for place in (torch, torch.Tensor):
        place.sort = stable_sort
        place.argsort = stable_argsort
        place.topk = stable_topk


def watch_consensus(undecided: dict[str, Any]) -> None:
    """Note in ``undecided``, by tensor name, where the signed sum is under 2^-20 of the absolute one."""
    merge_group = consensus.GeneralizedTaskArithmeticMerge.merge_group
    get_mask = consensus.get_mask
    names: list[str] = []

    def named_merge_group(self: Any, group: Any, /, **parameters: Any) -> Any:
        names.append(group.metadata.name)
        return merge_group(self, group, **parameters)

    def watched_get_mask(delta: Any, *args: Any, **kwargs: Any) -> Any:
        exact = delta.double()
        total = exact.abs().sum(dim=0)
        undecided[names[-1]] = (total > 0) & (exact.sum(dim=0).abs() < CANCELLED * total)
        return get_mask(delta, *args, **kwargs)

    consensus.GeneralizedTaskArithmeticMerge.merge_group = named_merge_group
    consensus.get_mask = watched_get_mask


def main(jobs_file: str) -> None:
    torch.set_num_threads(1)
    make_sorts_stable()
    undecided: dict[str, Any] = {}
    watch_consensus(undecided)
    with open(jobs_file, encoding="utf-8") as file:
        jobs = json.load(file)
    for job in jobs:
        undecided.clear()
        error = None
        try:
            mergekit_yaml.main([job["recipe"], job["out"], "--quiet", *job["options"]], standalone_mode=False)
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
        save_file(undecided, job["out"] + ".undecided.safetensors")
        print(json.dumps({"out": job["out"], "error": error}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
