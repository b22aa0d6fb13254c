"""Merges the tensors of the next part in the background while the present one computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from alloyd.errors import JobError, SourceError

from ..engine.in_memory import Weights
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
) -> Generator[tuple[int, Tensors | JobError], None, None]:
    """(number of the part, its tensors by parameter, or why its weights cannot be had), in order.

    With ``ahead`` the next part is begun before it is asked for. Tensors have the type and device that the model
    computes with. A part that is not ``wanted`` when its turn comes is passed over. Merging is done by one thread at a
    time, for :class:`Weights` are not safe with several. Raises AlloydError as merging does.
    """
    waiting: deque[tuple[int, Future[Tensors | JobError]]] = deque()
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


def _merge(part: Part, group: Group, weights: Weights) -> Tensors | JobError:
    merged = weights.of(dict.fromkeys(part.tensors.values()))
    tensors = {name: torch_tensor(each.data, each.dtype, each.shape) for name, each in merged.items()}
    if group.rounding is not None:
        for name, tensor in tensors.items():
            try:
                group.rounding.apply(name, tensor)
            except SourceError as error:
                return JobError(error.message, hint=error.hint)
    anatomy = group.anatomy
    return {
        place: _computable(tensors[name], anatomy.dtype_of(place), anatomy.device)
        for place, name in part.tensors.items()
    }


def _computable(tensor: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    if device.type != "cpu":
        # Pinned pages let the copy run beside the computation.
        tensor = tensor.pin_memory()
    return tensor.to(device=device, dtype=dtype, non_blocking=True)
