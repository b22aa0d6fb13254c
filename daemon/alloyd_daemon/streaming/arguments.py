"""Keeps what layers are called with, batch by batch, as far as a budget goes; what is not kept is computed again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch.utils._pytree import tree_leaves

from .forwards import Arguments
from .groups import Group


class ArgumentCache:
    """The arguments of every layer for a batch of a group; the least recently used are let go beyond ``room`` bytes."""

    def __init__(self, groups: Sequence[Group], room: int) -> None:
        self._groups = groups
        self._room = room
        self._kept: OrderedDict[tuple[int, int], tuple[tuple[Arguments, ...], int]] = OrderedDict()
        self._held = 0

    def of(self, group: int, batch: int) -> tuple[Arguments, ...]:
        """What each layer is called with beside its input."""
        place = group, batch
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place][0]
        anatomy = self._groups[group].anatomy
        found = anatomy.arguments(anatomy.inputs(self._groups[group].batches[batch]))
        size = _nbytes(found)
        self._held += size
        while self._kept and self._held > self._room:
            _, (_, gone) = self._kept.popitem(last=False)
            self._held -= gone
        self._kept[place] = found, size
        return found


def _nbytes(arguments: Sequence[Arguments]) -> int:
    """Bytes of all tensors, one that several layers get counted once."""
    tensors = (each for each in tree_leaves(list(arguments)) if isinstance(each, torch.Tensor))
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
    return sum(storages.values())
