"""Arrays "on a GPU" without one: a package whose device memory is host memory, and a driver that computes on it.

`Package` implements gpudiff's protocol with NumPy arrays. `StandInDriver` takes what the real one takes and lets the
CPU library solve: it tests what the kernels are launched with (pointers, strides, sizes, cones, sums), exactly and
quickly. The kernels themselves are run by tests/emulated_driver.py behind the same protocol.
"""

from __future__ import annotations

import ctypes
import re
from ctypes import addressof, byref, c_int32, c_int64

import numpy as np

import gpudiff as gd
from gpudiff import _abi, _dispatch, _library, _short
from gpudiff._device import DeviceArray
from gpudiff.backends.cpu import CpuBackend
from gpudiff.backends.cuda import CudaBackend
from gpudiff.jit.arguments import Control, GpuSensitivity, GpuSolve, GpuSum
from gpudiff.jit.driver import Compiled, DeviceFacts, Usage


class Package:
    """Device arrays in host memory; counts what a real one would have to wait for."""

    name = "fake"

    def __init__(self) -> None:
        self.waits = 0

    def wrap(self, native: np.ndarray, device: int = 0) -> DeviceArray:
        assert isinstance(native, np.ndarray), f"an operation left the device: {native!r}"
        return DeviceArray(self, native, native.ctypes.data, native.shape, native.strides, native.dtype, device)

    def empty(self, shape, dtype, device) -> DeviceArray:
        size = int(np.prod(shape, dtype=int)) * dtype.itemsize
        # What is not written shows as NaN or −1.
        return self.wrap(np.frombuffer(bytearray(b"\xff" * size), dtype).reshape(shape), device)

    def empties(self, count, shape, dtype, device) -> list[DeviceArray]:
        return [self.empty(shape, dtype, device) for _ in range(count)]

    def zeros(self, shape, dtype, device) -> DeviceArray:
        return self.wrap(np.zeros(shape, dtype), device)

    def eye(self, n, dtype, device) -> DeviceArray:
        return self.wrap(np.eye(n, dtype=dtype), device)

    def cast(self, native, dtype):
        return native.astype(dtype)

    def copy(self, native):
        return native.copy()

    def where(self, keep, native, other):
        return np.where(keep, native, native.dtype.type(other))

    def to_host(self, native):
        self.waits += 1
        return native.copy()

    def from_host(self, array, device) -> DeviceArray:
        self.waits += 1
        return self.wrap(array.copy(), device)

    def stream(self, device) -> int:
        return 7


class Spy:
    """A driver that passes everything on and counts the calls for which a device is waited."""

    WAITING = ("download", "synchronize")

    def __init__(self, driver) -> None:
        self._driver = driver
        self.waits = 0
        self.calls: list[str] = []

    def __getattr__(self, name):
        value = getattr(self._driver, name)
        if callable(value):
            self.calls.append(name)
            self.waits += name in self.WAITING
        return value


def use(monkeypatch, driver) -> CudaBackend:
    """Make gpudiff use this driver for problems on a GPU; returns the backend.

    What "auto" means on the CPU is then what it means on a GPU: answers of the two are compared, some to the last bit.
    """
    backend = CudaBackend(driver)
    monkeypatch.setattr(CpuBackend, "automatic", backend.automatic)
    monkeypatch.setattr(_short, "_shelves", {})  # in which problems are known for which it meant something else
    monkeypatch.setattr(_dispatch, "BACKENDS", (backend, CpuBackend()))
    return backend


class StandInDriver:
    """Implements `gpudiff.jit.driver.Driver` for host memory, with the CPU library for the kernels.

    Attributes:
        launches: (entry, grid, threads, shared bytes, stream) of each launch so far.
        memory: what `allocate` gave and `free` did not take back.
    """

    def __init__(self) -> None:
        self.launches: list[tuple[str, int, int, int, int]] = []
        self.memory: dict[int, ctypes.Array] = {}

    def why_unavailable(self):
        return None

    def device_count(self):
        return 2

    def facts(self, device):
        return DeviceFacts("stand-in", "sm_90", 2, 227 << 10, 228 << 10, "13.0")

    def compile(self, source, arch, name):
        entry = "gd_" + re.search(r"entry/gpu/(\w+)_kernel.cuh", source).group(1) + "_kernel"
        return Compiled(source.encode(), {entry: Usage(64)})

    def load(self, device, cubin, entry, shared_bytes):
        return _Function(self, entry, cubin.decode())

    def zero(self, device, pointer, count, stream):
        ctypes.memset(pointer, 0, count)

    def allocate(self, device, count):
        block = (ctypes.c_char * (count + 256))()
        pointer = -(-addressof(block) // 256) * 256
        self.memory[pointer] = block
        return pointer

    def free(self, device, pointer):
        del self.memory[pointer]

    def upload(self, device, pointer, array, stream):
        assert array.flags.c_contiguous
        ctypes.memmove(pointer, array.ctypes.data, array.nbytes)

    def download(self, device, pointer, array, stream):
        assert array.flags.c_contiguous
        ctypes.memmove(array.ctypes.data, pointer, array.nbytes)

    def synchronize(self, device):
        pass


class _Function:
    """A kernel: what the source text says it is compiled for, and what it is launched with."""

    def __init__(self, driver: StandInDriver, entry: str, source: str) -> None:
        self._driver = driver
        self._entry = entry
        macros = dict(re.findall(r"#define GD_(\w+) (.*)", source))
        numbers = {name: [int(part) for part in text.split(",")] for name, text in macros.items() if text[0].isdigit()}
        self.n, self.zero, self.nonnegative = (numbers[name][0] for name in ("N", "ZERO_ROWS", "NONNEGATIVE_ROWS"))
        second_order = numbers.get("SECOND_ORDER_DIMENSIONS", [])
        assert len(second_order) == numbers["SECOND_ORDER_COUNT"][0]
        self.m = self.zero + self.nonnegative + sum(second_order)
        self.smoothed = "SMOOTHED" in macros
        self.has_P = bool(numbers["HAS_P"][0])
        self.dtype = {"double": 0, "float": 1}[macros["DATA"]]
        row_of = numbers.get("ROW_OF", list(range(self.m)))
        assert sorted(row_of) == list(range(self.m))
        # One cone for each zero and nonnegative row, for their order among the caller's rows may be any.
        cones = [(row_of[k], 0 if k < self.zero else 1, 1) for k in range(self.zero + self.nonnegative)]
        start = self.zero + self.nonnegative
        for rows in second_order:
            assert row_of[start : start + rows] == list(range(row_of[start], row_of[start] + rows))
            cones.append((row_of[start], 2, rows))
            start += rows
        cones.sort()
        self.kinds = (c_int32 * len(cones))(*(kind for _, kind, _ in cones))
        self.rows = (c_int64 * len(cones))(*(rows for _, _, rows in cones))

    def blocks_per_multiprocessor(self, threads, shared_bytes):
        return 4

    def launch(self, grid, threads, shared_bytes, stream, arguments):
        assert grid >= 1
        self._driver.launches.append((self._entry, grid, threads, shared_bytes, stream))
        getattr(self, self._entry)(arguments)

    def problem(self, call) -> _abi.CProblem:
        assert (call.P.data is None) <= (not self.has_P or self.n == 0)
        cones = (len(self.kinds), addressof(self.kinds), addressof(self.rows), None)  # no power cones here
        return _abi.CProblem(call.batch, self.n, self.m, self.dtype, *cones, call.P, call.q, call.A, call.b)

    def gd_solve_kernel(self, call: GpuSolve) -> None:
        """Leaves everything to the careful kernel, as a fast run that fails on every problem does."""
        control = Control.from_address(call.control)
        assert (control.next, control.unfinished, control.next_unfinished) == (0, 0, 0)
        assert call.settings.polish
        control.unfinished = call.batch
        ctypes.memset(call.unfinished, 0xAB, 8 * call.batch)

    def gd_active_set_kernel(self, call: GpuSolve) -> None:
        """Solves everything, what the method leaves to the interior point included."""
        assert call.settings.method == _abi.METHOD["active_set"]
        assert self.has_P
        report = self.solve(call)
        control = Control.from_address(call.control)
        control.unfinished, control.changes = report.fallbacks, report.changes

    def gd_careful_kernel(self, call: GpuSolve) -> None:
        if call.settings.method == _abi.METHOD["active_set"]:
            return
        control = Control.from_address(call.control)
        assert control.unfinished == (call.batch if call.settings.polish else 0)
        report = self.solve(call)
        control.interior, control.newton = report.interior, report.newton

    def solve(self, call: GpuSolve) -> _abi.CReport:
        settings, report = _abi.CSettings.from_buffer_copy(call.settings), _abi.CReport()
        settings.threads = 1
        library = _library.load()
        warm = [byref(part) if part.data else None for part in (call.warm_x, call.warm_y, call.warm_s)]
        code = library.gd_solve(byref(self.problem(call)), byref(settings), *warm, byref(call.out), byref(report))
        assert code == _abi.OK, code
        if call.zero_on_failure:
            self.zero_failures(call)
        return report

    def zero_failures(self, call: GpuSolve) -> None:
        real = [np.float64, np.float32][self.dtype]
        status = _at(call.out.status, call.batch, np.int8)
        for pointer, words in ((call.out.x, self.n), (call.out.y, self.m), (call.out.s, self.m), (call.out.obj, 1)):
            _at(pointer, call.batch * words, real).reshape(call.batch, words)[status > gd.Status.ALMOST_SOLVED] = 0

    def gd_jvp_kernel(self, call: GpuSensitivity) -> None:
        assert call.sums is None
        self.derivative("gd_jvp", call)

    def gd_vjp_kernel(self, call: GpuSensitivity) -> None:
        """Per-problem cotangents; those of shared arguments segment by segment into `sums`, as the kernel does."""
        shapes = {"P": (self.n, self.n), "q": (self.n,), "A": (self.m, self.n), "b": (self.m,)}
        shared = [name for name in shapes if (t := getattr(call, f"{name}_dir")).data and t.batch == 0]
        if not shared:
            assert (call.sums, call.segment) == (None, 1)
            self.derivative("gd_vjp", call)
            return
        words = sum(int(np.prod(shapes[name])) for name in shared)
        segments = -(-call.batch // call.segment)
        count = call.directions
        sums = _at(call.sums, segments * count * words, np.float64).reshape(segments, count, words)
        real = [np.float64, np.float32][self.dtype]
        partial = GpuSensitivity.from_buffer_copy(call)
        spread = {name: np.zeros((count, call.batch, *shapes[name]), real) for name in shared}
        for name, array in spread.items():
            step, *strides = (stride // array.itemsize for stride in array.strides)
            view = _abi.Tensor(array.ctypes.data, *strides)
            view.direction = step
            setattr(partial, f"{name}_dir", view)
        self.derivative("gd_vjp", partial)
        for i in range(segments):
            pieces = [spread[name][:, i * call.segment : (i + 1) * call.segment] for name in shared]
            sums[i] = np.concatenate([p.sum(axis=1, dtype=np.float64).reshape(count, -1) for p in pieces], axis=1)

    def gd_sum_kernel(self, call: GpuSum) -> None:
        shape = (call.segments, call.directions, call.words)
        total = _at(call.sums, int(np.prod(shape)), np.float64).reshape(shape).sum(axis=0)
        real = [np.float64, np.float32][self.dtype]
        start = 0
        for name, (rows, columns) in {
            "P": (self.n, self.n),
            "q": (self.n, 1),
            "A": (self.m, self.n),
            "b": (self.m, 1),
        }.items():
            t = getattr(call, f"{name}_dir")
            if not t.data:
                continue
            assert t.batch == 0
            extents = (call.directions, rows, columns)
            steps = (t.direction, t.row, t.col)
            extent = sum((count - 1) * step for count, step in zip(extents, steps, strict=True)) + 1
            strides = tuple(step * np.dtype(real).itemsize for step in steps)
            target = np.lib.stride_tricks.as_strided(_at(t.data, extent, real), extents, strides)
            target[...] = total[:, start : start + rows * columns].reshape(extents)
            start += rows * columns
        assert start == call.words

    def derivative(self, function: str, call: GpuSensitivity) -> None:
        assert self.smoothed == (call.smoothing > 0)
        names = ("P", "q", "A", "b", "x", "y", "s", "obj")
        directions = [getattr(call, f"{name}_dir") for name in names]
        order = directions if function == "gd_jvp" else [*directions[4:], *directions[:4]]
        settings = _abi.CSettings(1e-8, 1e-8, 1e-8, 1e-8, 1e-8, call.smoothing, 200, 1, 0, 1, _abi.METHOD["ipm"])
        code = getattr(_library.load(), function)(
            byref(self.problem(call)), byref(settings), byref(call.point), call.directions, *map(byref, order), None
        )
        assert code == _abi.OK, code


def _at(pointer: int, count: int, dtype) -> np.ndarray:
    """Memory as an array."""
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(pointer or addressof(_NOTHING)), dtype, count)


_NOTHING = (ctypes.c_char * 8)()
