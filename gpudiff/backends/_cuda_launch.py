"""The launches behind the CUDA backend: from a problem whose arrays lie on a GPU to kernels on the caller's stream.

A solve is two launches, one for all problems and one for the few that the first leaves; a derivative is one, and
another where cotangents are summed over the batch. Nothing in here waits for the device or reads a value from it. All
memory comes from the package of the caller's arrays, so that its allocator knows whose it is and on which stream it is
used; what only the kernels need is dropped as soon as they are launched, for later work on the same stream to use.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import sizeof
from typing import Any

import numpy as np

from gpudiff._abi import CPoint, CSolution, Tensor
from gpudiff._device import DeviceArray, Package
from gpudiff._problem import CORE, DATA, Array, Problem, has_batch
from gpudiff._settings import Method, Settings
from gpudiff._solution import Result, Work
from gpudiff.backends import Start
from gpudiff.backends._views import ABSENT, direction, settings_struct, tensor
from gpudiff.jit.arguments import Control, GpuSensitivity, GpuSolve, GpuSum, Unfinished
from gpudiff.jit.kernels import Kernels, Ready
from gpudiff.jit.specification import forward, shape_of

_STATUS = np.dtype(np.int8)
_COUNT = np.dtype(np.int32)
_WORD = np.dtype(np.int64)
_BYTE = np.dtype(np.uint8)
_DOUBLE = np.dtype(np.float64)
_CONTROL = sizeof(Control)
_POINT_CORE = (1, 1, 1, 0)  # axes of x, y, s and obj without the batch axis
_ALIGNMENT = 256

# Sums over a shared argument are added up in pieces of consecutive problems: enough pieces to keep a device busy, in a
# bounded amount of memory.
_MOST_SEGMENTS = 1024
_MOST_BYTES_OF_SUMS = 16 << 20
_MOST_DIRECTIONS = 16  # that are summed at a time, each in as many pieces as alone, or its bits would be others


class Launcher:
    """Solves and differentiates problems whose arrays lie on a GPU; see `Backend`.

    Args:
        kernels: what is launched.
    """

    def __init__(self, kernels: Kernels) -> None:
        self.kernels = kernels

    def solve(self, problem: Problem, settings: Settings, start: Start | None, method: Method = "ipm") -> Result:
        """Solve every problem of the batch; see `Backend`."""
        n, m, lead, dtype, batch = problem.n, problem.m, problem.lead, problem.dtype, problem.batch
        call = _Call(self.kernels, problem)
        x, y, s = call.empty((*lead, n), dtype), call.empty((*lead, m), dtype), call.empty((*lead, m), dtype)
        # obj is an array of its own, for torch's autograd does not like outputs that are parts of others.
        obj, primal, dual, gap, margin = scalars = [call.empty(lead, dtype), *call.empties(4, lead, dtype)]
        status, iterations = call.empty(lead, _STATUS), call.empty(lead, _COUNT)
        result = Result(x, y, s, obj, status, iterations, primal, dual, gap, margin, Work())
        if batch == 0:
            return result
        kinds = forward(call.shape, method, settings.polish)
        kernels = [call.kernel(kind) for kind in kinds]
        grids = [kernel.grid(batch) for kernel in kernels]
        control = call.control()
        # Both kernels have the scratch memory, one after the other.
        unfinished = _padded(batch * sizeof(Unfinished))
        workspace = max(kernel.workspace_bytes(grid) for kernel, grid in zip(kernels, grids, strict=True))
        scratch = call.scratch(unfinished + workspace)
        warm = (None, None, None) if start is None else start
        arguments = GpuSolve(
            batch,
            *call.data(),
            *(tensor(part, 1, problem) for part in warm),
            settings_struct(settings, 1, "active_set" if "active_set" in kinds else "ipm"),
            CSolution(*(array.pointer for array in (x, y, s, *scalars, status, iterations))),
            control.pointer,
            scratch,
            scratch + unfinished,
            settings.on_failure == "zero",
            0,
        )
        for kernel, grid in zip(kernels, grids, strict=True):
            kernel.launch(grid, call.stream, arguments)
        asked = batch if method == "active_set" else 0
        result.work = lambda: _work(control, asked, "active_set" in kinds)
        return result

    def jvp(
        self,
        problem: Problem,
        settings: Settings,
        result: Result,
        tangents: Sequence[Array | None],
        directions: int | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        """Forward mode; see `Backend`."""
        along = directions is not None
        lead, dtype = ((directions, *problem.lead) if along else problem.lead), problem.dtype
        call = _Call(self.kernels, problem)
        dots = x, y, s, obj = (
            *(call.empty((*lead, extent), dtype) for extent in (problem.n, problem.m, problem.m)),
            call.empty(lead, dtype),
        )
        if problem.batch and directions != 0:
            inputs = [direction(dot, CORE[name], problem) for name, dot in zip(DATA, tangents, strict=True)]
            outputs = [tensor(dot, core, problem, along) for dot, core in zip(dots, _POINT_CORE, strict=True)]
            count = 1 if directions is None else directions
            call.sensitivity("jvp", settings, result, count, [*inputs, *outputs])
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
        along = directions is not None
        lead = (directions,) if along else ()
        call = _Call(self.kernels, problem)
        bars: dict[str, Array] = {}
        summed: list[str] = []
        for name in DATA:
            argument = problem.data(name)
            if argument is None or name not in wrt:
                continue
            bars[name] = (call.empty if problem.batch else call.zeros)((*lead, *argument.shape), problem.dtype)
            if problem.batch > 1 and not has_batch(argument, CORE[name], problem.batch):
                summed.append(name)
        if not problem.batch or not bars or directions == 0:
            return bars
        inputs = [direction(bar, core, problem) for bar, core in zip(cotangents, _POINT_CORE, strict=True)]
        outputs = {name: tensor(bars.get(name), CORE[name], problem, along) for name in DATA}
        tensors, count = [*outputs.values(), *inputs], 1 if directions is None else directions
        words = sum(bars[name].size for name in summed) // count
        if not words:
            call.sensitivity("vjp", settings, result, count, tensors)
            return bars
        segments, segment = _segments(problem.batch, words)
        most = min(count, _MOST_DIRECTIONS)
        sums = call.scratch(segments * most * words * _DOUBLE.itemsize)
        kernel = call.kernel("sum")
        for first in range(0, count, most):
            some = min(most, count - first)
            part = [_from_direction(view, first, problem.dtype.itemsize) for view in tensors]
            call.sensitivity("vjp", settings, result, some, part, sums, segment)
            shared = (view if name in summed else ABSENT for name, view in zip(DATA, part, strict=False))
            kernel.launch(kernel.grid(some * words), call.stream, GpuSum(sums, segments, words, some, *shared))
        return bars


class _Call:
    """One call on the device: where it runs, and the memory that it needs."""

    def __init__(self, kernels: Kernels, problem: Problem) -> None:
        home: Any = problem.q
        self._package: Package = home.package
        self._device: int = home.device
        self._kernels = kernels
        self._problem = problem
        self.shape = shape_of(problem.cones, problem.n, problem.P is not None, problem.dtype.name)
        self.stream = self._package.stream(self._device)
        self._scratch: list[DeviceArray] = []  # until the launches are made

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """An array of the caller's package."""
        return self._package.empty(shape, dtype, self._device)

    def empties(self, count: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[Any]:
        """Several arrays of the caller's package."""
        return self._package.empties(count, shape, dtype, self._device)

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """An array of zeros of the caller's package."""
        return self._package.zeros(shape, dtype, self._device)

    def scratch(self, size: int) -> int:
        """Memory for the duration of the call, aligned; its address."""
        self._scratch.append(self._package.empty((size + _ALIGNMENT,), _BYTE, self._device))
        return _padded(self._scratch[-1].pointer)

    def control(self) -> DeviceArray:
        """A block of counters, set to zero in the order of the stream."""
        control = self._package.empty((_CONTROL // 8,), _WORD, self._device)
        self._kernels.driver.zero(self._device, control.pointer, _CONTROL, self.stream)
        return control

    def data(self) -> list[Tensor]:
        """P, q, A and b."""
        problem = self._problem
        return [tensor(problem.data(name), CORE[name], problem) for name in DATA]

    def kernel(self, kind: str) -> Ready:
        """A kernel for this problem, compiled and loaded if it is not yet."""
        return self._kernels.get(self._device, kind, self.shape)

    def sensitivity(
        self,
        kind: str,
        settings: Settings,
        result: Result,
        directions: int,
        tensors: list[Tensor],
        sums: int | None = None,
        segment: int = 1,
    ) -> None:
        """Launch "jvp" or "vjp"; `tensors`: tangents or cotangents of P, q, A, b, x, y, s and obj."""
        problem, kernel = self._problem, self.kernel(f"smoothed_{kind}" if settings.smoothing else kind)
        grid = kernel.grid(problem.batch)
        size = kernel.workspace_bytes(grid)
        control = self.control()
        self._scratch.append(control)
        point = CPoint(*(tensor(part, 1, problem) for part in (result.x, result.y, result.s)), result.status.pointer)  # pyright: ignore[reportAttributeAccessIssue]
        workspace = self.scratch(size) if size else None
        arguments = GpuSensitivity(
            problem.batch,
            *self.data(),
            point,
            *tensors,
            control.pointer,
            workspace,
            sums,
            segment,
            directions,
            settings.smoothing or 0.0,
        )
        kernel.launch(grid, self.stream, arguments)


def _from_direction(view: Tensor, first: int, itemsize: int) -> Tensor:
    """A view of directions from `first` on; the same where there is none."""
    if not view.data or not first:
        return view
    start = view.data + first * view.direction * itemsize
    return Tensor(start, view.batch, view.row, view.col, view.direction)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _segments(batch: int, words: int) -> tuple[int, int]:
    """Into how many pieces the batch is divided for sums of so many words per problem, and how long a piece is."""
    if words == 0:
        return 1, 1
    most = max(1, min(_MOST_SEGMENTS, _MOST_BYTES_OF_SUMS // (words * _DOUBLE.itemsize), batch))
    segment = -(-batch // most)
    return -(-batch // segment), segment


def _work(control: DeviceArray, asked: int, active_set: bool) -> Work:
    """What a solve cost, which asked for the active set for so many problems; whether that ran at all."""
    counts = Control.from_buffer_copy(control.to_host().tobytes())
    resumed, fallbacks = (0, counts.unfinished) if active_set else (counts.unfinished, asked)
    return Work(counts.interior, counts.newton, resumed, float("nan"), fallbacks, counts.changes)
