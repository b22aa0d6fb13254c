"""What the page cache holds of a file, so that a job gives back only the pages that it brought in itself."""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import Final

from .libc import address_of, cached_pages, resident_pages

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
GRANULE: Final = 1024 * 1024
_LOOK: Final = 256 * 1024 * 1024


def cached_granules(handle: int, size: int) -> bytes:
    """One byte per MiB of an open file of ``size`` bytes: 1 where the page cache holds any page of it.

    All ones where the kernel will not say (it tells only those who could write the file).
    """
    granules = -(-size // GRANULE)
    held = cached_pages(handle, 0, size)
    if held is None:
        return _by_mapping(handle, size)
    if held == 0:
        return bytes(granules)
    if held >= -(-size // PAGE):
        return b"\1" * granules
    return bytes(cached_pages(handle, each * GRANULE, GRANULE) != 0 for each in range(granules))


def uncached_parts(cached: bytes, first: int, last: int) -> list[tuple[int, int]]:
    """The parts of bytes [first, last) that lie in granules marked 0, neighbours joined."""
    parts: list[tuple[int, int]] = []
    for granule in range(first // GRANULE, -(-last // GRANULE)):
        if cached[granule]:
            continue
        begin, end = max(first, granule * GRANULE), min(last, (granule + 1) * GRANULE)
        if parts and parts[-1][1] == begin:
            parts[-1] = (parts[-1][0], end)
        else:
            parts.append((begin, end))
    return parts


def _by_mapping(handle: int, size: int) -> bytes:
    """The same on kernels before 6.5, page by page."""
    result = bytearray()
    with contextlib.suppress(OSError), mmap.mmap(handle, size, prot=mmap.PROT_READ) as mapping:
        address = address_of(mapping)
        for begin in range(0, size, _LOOK):
            flags = resident_pages(address + begin, min(_LOOK, size - begin))
            if flags is None:
                break
            pages = GRANULE // PAGE
            result += bytes(b"\1" in flags[each : each + pages] for each in range(0, len(flags), pages))
    return bytes(result) + b"\1" * (-(-size // GRANULE) - len(result))
