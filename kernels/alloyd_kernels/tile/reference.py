"""Element types in plain numpy: raw bytes to float64 and back through ml_dtypes, one rounding."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ..dtypes import BF16, F8_E4M3, F8_E5M2, F16, F32, F64

NUMPY_TYPES: dict[int, np.dtype[np.generic]] = {
    BF16: np.dtype(ml_dtypes.bfloat16),
    F16: np.dtype(np.float16),
    F32: np.dtype(np.float32),
    F64: np.dtype(np.float64),
    F8_E4M3: np.dtype(ml_dtypes.float8_e4m3fn),
    F8_E5M2: np.dtype(ml_dtypes.float8_e5m2),
}


def fp8_values(code: int) -> npt.NDArray[np.float32]:
    """The float32 value of each of the 256 codes of an fp8 type; float32 [256]."""
    return np.arange(256, dtype=np.uint8).view(NUMPY_TYPES[code]).astype(np.float32)


def decode(data: npt.NDArray[np.uint8], code: int) -> npt.NDArray[np.float64]:
    """Raw bytes [n * itemsize] to float64 [n]; float64 input is first rounded to float32, as every kernel does."""
    return data.view(NUMPY_TYPES[code]).astype(np.float32).astype(np.float64)


def encode(values: npt.NDArray[np.floating], code: int) -> npt.NDArray[np.uint8]:
    """float64 or float32 [n] to raw bytes [n * itemsize], rounded to nearest even through float32."""
    return values.astype(np.float32).astype(NUMPY_TYPES[code]).view(np.uint8)
