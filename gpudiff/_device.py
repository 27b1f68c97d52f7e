"""Arrays on a GPU as the core sees them, whichever package they belong to.

The core never imports a package of device arrays. It works on `DeviceArray`, which has the few attributes and operators
of a NumPy array that the core uses, so that one code serves both; each package implements `Package` in the module of
gpudiff that serves it (gpudiff.torch, gpudiff.cupy). Nothing in here waits for the device but `DeviceArray.to_host` and
what says so.

Memory comes from the caller's own package, on its current stream, and is used on that stream alone: the package's
allocator then knows when it may be handed out again, and a CUDA graph that is being captured owns what it needs.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Shape: TypeAlias = tuple[int, ...]


class Memory(Protocol):
    """What a backend needs: arrays in device memory, and the way there and back; `native` is such an array.

    Attributes:
        name: what to call its arrays in messages, such as "torch".
    """

    name: str

    def wrap(self, native: Any) -> DeviceArray:
        """The array as the core sees it; nothing is copied."""
        ...

    def empty(self, shape: Shape, dtype: np.dtype[Any], device: int) -> DeviceArray:
        """A contiguous array of its own, contents undefined."""
        ...

    def empties(self, count: int, shape: Shape, dtype: np.dtype[Any], device: int) -> list[DeviceArray]:
        """Several such arrays, which may be parts of one; cheaper than one after the other."""
        ...

    def zeros(self, shape: Shape, dtype: np.dtype[Any], device: int) -> DeviceArray:
        """A contiguous array of zeros."""
        ...

    def to_host(self, native: Any) -> NDArray[Any]:
        """A copy as a NumPy array; waits for the current stream."""
        ...

    def from_host(self, array: NDArray[Any], device: int) -> DeviceArray:
        """A copy of a NumPy array on the device; may wait for it."""
        ...

    def stream(self, device: int) -> int:
        """The handle of the caller's current stream on the device."""
        ...


class Package(Memory, Protocol):
    """What the core needs of a package of device arrays beyond that."""

    def eye(self, n: int, dtype: np.dtype[Any], device: int) -> DeviceArray:
        """The identity matrix [n, n]."""
        ...

    def cast(self, native: Any, dtype: np.dtype[Any]) -> Any:
        """The same numbers in another element type."""
        ...

    def copy(self, native: Any) -> Any:
        """The same numbers in memory of its own."""
        ...

    def where(self, keep: Any, native: Any, other: float) -> Any:
        """The entries of `native` where `keep` (broadcast) holds, `other` elsewhere."""
        ...


class _Flags(NamedTuple):
    aligned: bool


_ALIGNED, _MISALIGNED = _Flags(True), _Flags(False)


def contiguous(shape: Shape, itemsize: int) -> Shape:
    """The strides in bytes of a C-contiguous array."""
    strides: list[int] = []
    for extent in reversed(shape):
        strides.append(itemsize)
        itemsize *= extent
    return tuple(reversed(strides))


class DeviceArray:
    """An array on a GPU with the part of NumPy's interface that the core uses.

    Attributes:
        native: the array of the caller's package; owns the memory.
        package: that package.
        pointer: address of the first element on the device.
        shape: as NumPy's.
        strides: as NumPy's, in bytes.
        dtype: as NumPy's.
        device: number of the device.
    """

    __slots__ = ("device", "dtype", "native", "package", "pointer", "shape", "strides")

    def __init__(
        self,
        package: Package,
        native: Any,
        pointer: int,
        shape: Shape,
        strides: Shape,
        dtype: np.dtype[Any],
        device: int,
    ) -> None:
        self.package = package
        self.native = native
        self.pointer = pointer
        self.shape = shape
        self.strides = strides
        self.dtype = dtype
        self.device = device

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.dtype.itemsize

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    @property
    def flags(self) -> _Flags:
        """Whether addresses and strides are multiples of the element size, as kernels need."""
        size = self.dtype.itemsize
        rest = self.pointer % size
        for stride in self.strides:
            rest += stride % size
        return _MISALIGNED if rest else _ALIGNED

    def astype(self, dtype: np.dtype[Any], copy: bool = True) -> DeviceArray:
        """The same numbers as elements of `dtype`; the array itself if it is so already and no copy is asked for."""
        if self.dtype == dtype:
            return self.copy() if copy else self
        return self.package.wrap(self.package.cast(self.native, dtype))

    def copy(self) -> DeviceArray:
        """The same numbers in memory of their own."""
        return self.package.wrap(self.package.copy(self.native))

    def to_host(self) -> NDArray[Any]:
        """A copy as a NumPy array; waits for the device."""
        return self.package.to_host(self.native)

    def sum(self, axis: int) -> DeviceArray:
        """The sum along an axis."""
        return self.package.wrap(self.native.sum(axis))

    def __getitem__(self, index: Any) -> DeviceArray:
        return self.package.wrap(self.native[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.native[index] = value.native if isinstance(value, DeviceArray) else value

    def __iadd__(self, other: Any) -> DeviceArray:
        self.native += to_native(other)
        return self

    def __isub__(self, other: DeviceArray) -> DeviceArray:
        self.native -= other.native
        return self

    def __mul__(self, other: Any) -> DeviceArray:
        return self.package.wrap(self.native * (other.native if isinstance(other, DeviceArray) else float(other)))

    def __neg__(self) -> DeviceArray:
        return self.package.wrap(-self.native)

    def __repr__(self) -> str:
        return f"DeviceArray({self.package.name}, shape {self.shape}, {self.dtype}, cuda:{self.device})"


def on_device(array: Any) -> bool:
    """Whether an array of the core lies on a GPU."""
    return isinstance(array, DeviceArray)


def to_host(array: Any) -> NDArray[Any]:
    """An array of the core as a NumPy array; waits for the device if it lies on one."""
    return array.to_host() if isinstance(array, DeviceArray) else array


def to_native(value: Any) -> Any:
    """An array as the caller's package knows it; other values as they are."""
    return value.native if isinstance(value, DeviceArray) else value


def empty(like: Any, shape: Shape, dtype: Any) -> Any:
    """An array whose contents are undefined, of the same kind and in the same place as `like`."""
    return like.package.empty(shape, dtype, like.device) if isinstance(like, DeviceArray) else np.empty(shape, dtype)


def zeros(like: Any, shape: Shape, dtype: Any) -> Any:
    """Zeros, of the same kind and in the same place as `like`."""
    return like.package.zeros(shape, dtype, like.device) if isinstance(like, DeviceArray) else np.zeros(shape, dtype)


def eye(like: Any, n: int, dtype: Any) -> Any:
    """The identity matrix, of the same kind and in the same place as `like`."""
    return like.package.eye(n, dtype, like.device) if isinstance(like, DeviceArray) else np.eye(n, dtype=dtype)
