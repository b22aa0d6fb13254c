"""The element types a kernel reads and writes, as small integers that fit in an argument array."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

BF16: Final = 0
F16: Final = 1
F32: Final = 2
F64: Final = 3
F8_E4M3: Final = 4
F8_E5M2: Final = 5

CODES: Final[Mapping[str, int]] = MappingProxyType(
    {"BF16": BF16, "F16": F16, "F32": F32, "F64": F64, "F8_E4M3": F8_E4M3, "F8_E5M2": F8_E5M2}
)
"""safetensors dtype name -> code; exactly the floating types that can be merged."""

ITEMSIZE: Final[Mapping[str, int]] = MappingProxyType(
    {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "F8_E4M3": 1, "F8_E5M2": 1}
)
"""Bytes of one element."""

LEAF: Final = 65_536
"""Elements of one leaf: every float statistic has one partial per leaf, so that no result depends on block size."""

TILE: Final = 1_024
"""Elements decoded to float32 at a time; a handful of rows of this size stay in the first-level cache."""
