"""CuPy arrays as arrays of the core, and other packages' arrays on a GPU as CuPy arrays."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from gpudiff._arrays import exposes_cuda
from gpudiff._device import DeviceArray, Shape
from gpudiff._errors import DtypeError
from gpudiff._problem import Array

# Not by a plain import: a type checker without CuPy would take this very folder for it.
cupy: Any = import_module("cupy")


class CupyPackage:
    """The `Package` of CuPy; memory comes from its pool, the stream is its current one."""

    name = "cupy"

    def wrap(self, native: Any) -> DeviceArray:
        """The array as the core sees it."""
        memory = native.data
        return DeviceArray(self, native, memory.ptr, native.shape, native.strides, native.dtype, memory.device_id)

    def empty(self, shape: Shape, dtype: np.dtype[Any], device: int) -> DeviceArray:
        """A contiguous array, contents undefined."""
        with cupy.cuda.Device(device):
            return self.wrap(cupy.empty(shape, dtype))

    def empties(self, count: int, shape: Shape, dtype: np.dtype[Any], device: int) -> list[DeviceArray]:
        """Several contiguous arrays, contents undefined."""
        together = self.empty((count, *shape), dtype, device).native
        return [self.wrap(together[i, ...]) for i in range(count)]

    def zeros(self, shape: Shape, dtype: np.dtype[Any], device: int) -> DeviceArray:
        """A contiguous array of zeros."""
        with cupy.cuda.Device(device):
            return self.wrap(cupy.zeros(shape, dtype))

    def eye(self, n: int, dtype: np.dtype[Any], device: int) -> DeviceArray:
        """The identity matrix."""
        with cupy.cuda.Device(device):
            return self.wrap(cupy.eye(n, dtype=dtype))

    def cast(self, native: Any, dtype: np.dtype[Any]) -> Any:
        """The same numbers in another element type."""
        return native.astype(dtype)

    def copy(self, native: Any) -> Any:
        """The same numbers in memory of their own."""
        return native.copy()

    def where(self, keep: Any, native: Any, other: float) -> Any:
        """The entries where `keep` holds, `other` elsewhere, in the element type of the entries."""
        return cupy.where(keep, native, native.dtype.type(other))

    def to_host(self, native: Any) -> Array:
        """A copy as a NumPy array; waits for the current stream."""
        return cupy.asnumpy(native)

    def from_host(self, array: Array, device: int) -> DeviceArray:
        """A copy of a NumPy array on the device."""
        with cupy.cuda.Device(device):
            return self.wrap(cupy.array(array))

    def stream(self, device: int) -> int:
        """The handle of CuPy's current stream."""
        return int(cupy.cuda.get_current_stream(device).ptr)


PACKAGE = CupyPackage()


def to_core(name: str, value: Any) -> Any:
    """An array as the core sees it; what is not on a GPU is left to the core, which says where it should be.

    Raises:
        DtypeError: a sparse matrix.
    """
    if isinstance(value, cupy.ndarray):
        return PACKAGE.wrap(value)
    if hasattr(value, "nnz") and hasattr(value, "toarray"):
        raise DtypeError(f"{name}: expected a dense array, got a sparse {type(value).__name__}; pass {name}.toarray()")
    return PACKAGE.wrap(_borrowed(value)) if exposes_cuda(value) else value


def _borrowed(value: Any) -> Any:
    """An array of another package on a GPU as a CuPy array of the same memory, ordered after what made it."""
    if hasattr(value, "__dlpack__"):
        return cupy.from_dlpack(value)  # the protocol orders the streams
    return cupy.asarray(value)  # looks at the interface's stream by itself, and waits for it


def to_caller(array: Any) -> Any:
    """An array of the core as CuPy's."""
    return array.native if isinstance(array, DeviceArray) else array
