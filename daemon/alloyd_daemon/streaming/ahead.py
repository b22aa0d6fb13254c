"""Merges the tensors of the next part in the background while the present one computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from ..engine.in_memory import Merged, Weights
from ..torch_bytes import torch_tensor
from .groups import Group
from .schedule import Part

Tensors = dict[str, torch.Tensor]


def merged_parts(
    parts: Sequence[Part],
    groups: Sequence[Group],
    weights: Sequence[Weights],
    *,
    wanted: Callable[[Part], bool],
    ahead: bool,
) -> Generator[tuple[int, Tensors], None, None]:
    """(number of the part, its tensors by parameter) in order; with ``ahead`` the next is begun before it is asked for.

    Tensors have the type and device that the model computes with. A part that is not ``wanted`` when its turn comes is
    passed over. Merging is done by one thread at a time, for :class:`Weights` are not safe with several. Raises
    AlloydError as merging does.
    """
    waiting: deque[tuple[int, Future[Tensors]]] = deque()
    numbers = iter(range(len(parts)))
    pool = ThreadPoolExecutor(1, thread_name_prefix="merge-ahead")

    def begin() -> None:
        for number in numbers:
            part = parts[number]
            if wanted(part):
                task = pool.submit(_merge, part, groups[part.group], weights[part.candidate])
                waiting.append((number, task))
                return

    try:
        begin()
        while waiting:
            number, task = waiting.popleft()
            tensors = task.result()
            if ahead:
                begin()
            yield number, tensors
            # Nothing of a part may outlive it here, or three would be held where two were counted.
            del tensors, task
            if not ahead:
                begin()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _merge(part: Part, group: Group, weights: Weights) -> Tensors:
    merged = weights.of(dict.fromkeys(part.tensors.values()))
    anatomy = group.anatomy
    return {
        place: _computable(merged[name], anatomy.dtype_of(place), anatomy.device)
        for place, name in part.tensors.items()
    }


def _computable(merged: Merged, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    tensor: torch.Tensor = torch_tensor(merged.data, merged.dtype, merged.shape)
    if device.type != "cpu":
        # Pinned pages let the copy run beside the computation.
        tensor = tensor.pin_memory()
    return tensor.to(device=device, dtype=dtype, non_blocking=True)
