"""Arrays on the host that are to be solved on a GPU: copied there, solved, and the results copied back.

The memory on the device is bare: no package of arrays needs to be installed for it. Nothing can be done with such an
array but copying it, so none ever reaches a caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from gpudiff._device import DeviceArray, Package, Shape, contiguous, to_host
from gpudiff._problem import DATA, Array, Problem
from gpudiff._settings import Method, Settings
from gpudiff._solution import Result, Work
from gpudiff._status import Status
from gpudiff.backends import Start
from gpudiff.backends._cuda_launch import Launcher
from gpudiff.backends.cpu import CpuBackend
from gpudiff.jit.driver import Driver

_DEVICE = 0  # the first
_STREAM = 0  # the legacy default stream
_SHORT = Settings(max_iter=1, polish=False)
_ARRAYS = ("x", "y", "s", "obj", "status", "iterations", "primal_residual", "dual_residual", "gap", "margin")


class HostLauncher:
    """What `Launcher` does, for arrays on the host; every call waits for the device.

    Args:
        launcher: does it on the device.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._memory = DriverMemory(launcher.kernels.driver)

    def solve(self, problem: Problem, settings: Settings, start: Start | None, method: Method = "ipm") -> Result:
        """Solve every problem of the batch; see `Backend`.

        Raises:
            DataError: P is not symmetric.
        """
        point = None if start is None else Start(*map(self._copy, start))
        result = self._launcher.solve(self._problem(problem), settings, point, method)
        work = result.work if isinstance(result.work, Work) else result.work()
        arrays: Any = {name: to_host(getattr(result, name)) for name in _ARRAYS}
        if problem.P is not None and (arrays["status"] == int(Status.INVALID_DATA)).any():
            # An asymmetric P is an exception on the host; what counts as one the CPU library knows.
            CpuBackend().solve(problem, _SHORT, None)
        return Result(**arrays, work=work)

    def jvp(
        self,
        problem: Problem,
        settings: Settings,
        result: Result,
        tangents: Sequence[Array | None],
        directions: int | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        """Forward mode; see `Backend`."""
        inputs = [self._copy(dot) for dot in tangents]
        dots = self._launcher.jvp(self._problem(problem), settings, self._point(result), inputs, directions)
        x, y, s, obj = map(to_host, dots)
        return x, y, s, obj

    def vjp(
        self,
        problem: Problem,
        settings: Settings,
        result: Result,
        cotangents: Sequence[Array | None],
        wrt: Sequence[str],
        directions: int | None = None,
    ) -> dict[str, Array]:
        """Reverse mode; see `Backend`."""
        inputs = [self._copy(bar) for bar in cotangents]
        bars = self._launcher.vjp(self._problem(problem), settings, self._point(result), inputs, wrt, directions)
        return {name: to_host(bar) for name, bar in bars.items()}

    def _problem(self, problem: Problem) -> Problem:
        return replace(problem, **{name: self._copy(problem.data(name)) for name in DATA})

    def _point(self, result: Result) -> Result:
        return replace(result, **{name: self._copy(getattr(result, name)) for name in ("x", "y", "s", "status")})

    def _copy(self, array: Array | None) -> Any:
        return None if array is None else self._memory.from_host(array, _DEVICE)


@dataclass(slots=True, eq=False)
class _Memory:
    """A contiguous array in memory of its own, given back when it is dropped."""

    driver: Driver
    device: int
    shape: Shape
    dtype: np.dtype[Any]
    pointer: int = field(init=False)

    def __post_init__(self) -> None:
        self.pointer = 0  # what `__del__` sees if there is no memory
        self.pointer = self.driver.allocate(self.device, max(1, self.nbytes))

    @property
    def nbytes(self) -> int:
        """Size of the contents."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __del__(self) -> None:
        if self.pointer:
            self.driver.free(self.device, self.pointer)


class DriverMemory:
    """A `Memory` whose arrays are bare device memory."""

    name = "driver"

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def wrap(self, native: _Memory) -> DeviceArray:
        """The array as the core sees it."""
        package = cast(Package, self)  # the core computes nothing with such an array
        strides = contiguous(native.shape, native.dtype.itemsize)
        return DeviceArray(package, native, native.pointer, native.shape, strides, native.dtype, native.device)

    def empty(self, shape: Shape, dtype: np.dtype[Any], device: int) -> DeviceArray:
        """A contiguous array, contents undefined."""
        return self.wrap(_Memory(self._driver, device, shape, dtype))

    def empties(self, count: int, shape: Shape, dtype: np.dtype[Any], device: int) -> list[DeviceArray]:
        """Several contiguous arrays, contents undefined."""
        return [self.empty(shape, dtype, device) for _ in range(count)]

    def zeros(self, shape: Shape, dtype: np.dtype[Any], device: int) -> DeviceArray:
        """A contiguous array of zeros."""
        array = self.empty(shape, dtype, device)
        self._driver.zero(device, array.pointer, array.native.nbytes, _STREAM)
        return array

    def from_host(self, array: Array, device: int) -> DeviceArray:
        """A copy of a NumPy array on the device."""
        copy = self.empty(array.shape, array.dtype, device)
        if array.size:
            contiguous = np.ascontiguousarray(array)
            self._driver.upload(device, copy.pointer, contiguous.reshape(array.shape), _STREAM)
        return copy

    def to_host(self, native: _Memory) -> Array:
        """A copy as a NumPy array."""
        out = np.empty(native.shape, native.dtype)
        if out.size:
            self._driver.download(native.device, native.pointer, out, _STREAM)
        return out

    def stream(self, device: int) -> int:
        """The default stream."""
        return _STREAM
