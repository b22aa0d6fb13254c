"""Filters that part tensors as asked: in a recipe the first filter that is a piece of a tensor's name decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from .model_shape import Part

Key = TypeVar("Key", bound=Hashable)
Rules = tuple[tuple[str | None, Key], ...]

_WHOLE_NAME: Final = 3


def fits(filter: str | None, name: str) -> bool:
    """Whether ``filter`` takes the tensor ``name``, as recipes have it."""
    return filter is None or filter == "*" or filter in name


def rules(
    keys: Mapping[str, Key],
    parts: Mapping[str, Part],
    *,
    others: Iterable[str] = (),
    within: str | None = None,
    pieces: Sequence[str] = (),
) -> Rules[Key]:
    """Filters in order, the fewest that were found, by which each tensor of ``keys`` meets its key first.

    None takes a tensor of ``others``. The last is ``within``, a filter that takes all of ``keys`` and none of
    ``others`` (``None``: there are no others). ``parts`` says where each tensor stands; ``pieces`` are parts of names
    that are tried as filters as they are.
    """
    others = tuple(others)
    commonest = Counter(keys.values()).most_common(1)[0][0]
    if len(set(keys.values())) == 1:
        return ((within, commonest),)
    exact = []
    for level in range(_WHOLE_NAME + 1):
        found = _ordered(dict(_filters(keys, parts, pieces, level)), pieces)
        if _exact(found, keys, others):
            exact.append(_shortened(found, keys, within))
    # The whole names, longest first, part every set of names.
    return min(exact, key=len)


def _shortened(found: Rules[Key], keys: Mapping[str, Key], within: str | None) -> Rules[Key]:
    """``found`` with one filter for whatever is left in the place of all those of one key."""
    for key, _ in Counter(key for _, key in found).most_common():
        fewer = (*(each for each in found if each[1] != key), (within, key))
        if _exact(fewer, keys, ()):
            return fewer
    return (*found, (within, found[-1][1]))


def _filters(
    keys: Mapping[str, Key], parts: Mapping[str, Part], pieces: Sequence[str], level: int
) -> Iterator[tuple[str, Key]]:
    """A filter and its key for every tensor, the widest that are of one key.

    ``level`` says which are tried: 0 pieces and submodules of any layer, 1 layers, 2 submodules of layers, 3 none but
    the whole name, which always does.
    """
    groups: dict[str, set[Key]] = {}
    options: dict[str, list[str]] = {}
    for name, key in keys.items():
        options[name] = list(_spellings(name, parts[name], pieces, level))
        for each in options[name]:
            groups.setdefault(each, set()).add(key)
    for name, key in keys.items():
        chosen = next((each for each in options[name] if len(groups[each]) == 1), name)
        yield chosen, key


def _spellings(name: str, part: Part, pieces: Sequence[str], level: int) -> Iterator[str]:
    """Filters that take ``name``, the widest first."""
    if level == _WHOLE_NAME:
        yield name
        return
    if level == 0:
        yield from (each for each in pieces if each in name)
        if part.layer is not None:
            top = part.rest.split(".")
            yield from (".".join(top[:length]) + "." for length in range(1, len(top)))
            yield part.rest
    elif part.layer is not None:
        prefix = name.removesuffix(part.rest)
        yield prefix
        if level == 2:
            top = part.rest.split(".")
            yield from (prefix + ".".join(top[:length]) + "." for length in range(1, len(top)))
    yield name


def _ordered(found: Mapping[str, Key], pieces: Sequence[str]) -> Rules[Key]:
    """Longer filters first, for they say more; the given pieces keep their order after them."""
    place = {each: number for number, each in enumerate(pieces)}
    inner = sorted((each for each in found if each not in place), key=lambda each: (-len(each), each))
    outer = sorted((each for each in found if each in place), key=lambda each: place[each])
    return tuple((each, found[each]) for each in (*inner, *outer))


def _exact(rules: Rules[Key], keys: Mapping[str, Key], others: Iterable[str]) -> bool:
    """Whether the first rule that fits gives every tensor its key, and none takes one of ``others``."""
    for name, key in keys.items():
        decided = next((each for filter, each in rules if fits(filter, name)), _NOTHING)
        if decided != key:
            return False
    return not any(fits(filter, name) for name in others for filter, _ in rules)


class _Nothing:
    """Equal to no key."""


_NOTHING: Final = _Nothing()
