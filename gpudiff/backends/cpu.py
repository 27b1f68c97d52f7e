"""The CPU backend: hands the caller's arrays to the compiled library, as they lie in memory.

What matters here is what one small problem costs, a few microseconds for all that is not the solve itself: hence one
struct per call and no temporary that can be done without. Nothing is kept between calls, so that threads may solve side
by side; ctypes releases the interpreter lock for the duration of a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof, byref, c_char, c_int32, c_int64
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gpudiff._cones import Product
from gpudiff._errors import BackendError
from gpudiff._problem import CORE, DATA, FLOAT32, FLOAT64, Array, Problem, asymmetry, has_batch
from gpudiff._settings import Settings, thread_count
from gpudiff._solution import Result, Work
from gpudiff.backends import Start
from gpudiff.backends._library import (
    ASYMMETRIC_P,
    OK,
    OUT_OF_MEMORY,
    CPoint,
    CProblem,
    CReport,
    CSettings,
    CSolution,
    Tensor,
    load,
)

_DTYPE = {FLOAT64: 0, FLOAT32: 1}  # enum gd_dtype
_STATUS = np.dtype(np.int8)
_COUNT = np.dtype(np.int32)
_ABSENT = Tensor()  # a null pointer; never written to
_byte_at = c_char.from_buffer


class CpuBackend:
    """Dense and small problems on the host, one problem per SIMD lane."""

    name = "cpu"

    def why_unavailable(self) -> str | None:
        """Why the compiled library cannot be used; None if it can."""
        try:
            load()
        except BackendError as error:
            return str(error)
        return None

    def refuses(self, problem: Problem) -> str | None:
        """None: every dense problem is taken."""
        return None

    def solve(self, problem: Problem, settings: Settings, start: Start | None) -> Result:
        """Solve every problem of the batch; see `Backend`."""
        n, m, lead, dtype = problem.n, problem.m, problem.lead, problem.dtype
        empty = np.empty
        x, y, s = empty((*lead, n), dtype), empty((*lead, m), dtype), empty((*lead, m), dtype)
        scalars = empty((5, *lead), dtype)  # obj, primal and dual residual, gap, margin: one allocation for all
        status, iterations = empty(lead, _STATUS), empty(lead, _COUNT)
        report = CReport()
        first, step = _address(scalars), scalars.strides[0]
        out = CSolution(
            _address(x),
            _address(y),
            _address(s),
            *(first + i * step for i in range(5)),
            _address(status),
            _address(iterations),
        )
        warm = (None, None, None) if start is None else tuple(byref(_tensor(part, 1, problem)) for part in start)
        code = load().gd_solve(
            byref(_problem(problem)), byref(_settings(settings, problem)), *warm, byref(out), byref(report)
        )
        if code != OK:
            raise _error(code, problem, report)
        work = Work(report.interior, report.newton, report.resumed, report.flops)
        obj, primal, dual, gap, margin = (scalars[i, ...] for i in range(5))
        return Result(x, y, s, obj, status, iterations, primal, dual, gap, margin, work)

    def jvp(
        self, problem: Problem, settings: Settings, result: Result, tangents: Sequence[Array | None]
    ) -> tuple[Array, Array, Array, Array]:
        """Forward mode; see `Backend`."""
        lead, dtype = problem.lead, problem.dtype
        x, y = np.empty((*lead, problem.n), dtype), np.empty((*lead, problem.m), dtype)
        s, obj = np.empty_like(y), np.empty(lead, dtype)
        inputs = [_tensor(dot, CORE[name], problem) for name, dot in zip(DATA, tangents, strict=True)]
        outputs = [_tensor(dot, core, problem) for dot, core in ((x, 1), (y, 1), (s, 1), (obj, 0))]
        _derivative("gd_jvp", problem, settings, result, inputs, outputs)
        return x, y, s, obj

    def vjp(
        self,
        problem: Problem,
        settings: Settings,
        result: Result,
        cotangents: Sequence[Array | None],
        wrt: Sequence[str],
    ) -> dict[str, Array]:
        """Reverse mode; see `Backend`."""
        bars: dict[str, Array] = {}
        for name in DATA:
            argument = problem.data(name)
            if argument is not None and name in wrt:
                # The sum over an empty batch is zero; the library writes nothing for one.
                make = np.empty if problem.batch else np.zeros
                bars[name] = make(argument.shape, problem.dtype)
        inputs = [_tensor(bar, core, problem) for bar, core in zip(cotangents, (1, 1, 1, 0), strict=True)]
        outputs = [_tensor(bars.get(name), CORE[name], problem) for name in DATA]
        _derivative("gd_vjp", problem, settings, result, inputs, outputs)
        return bars


def isa() -> str:
    """The instruction-set variant in use, such as "avx2".

    Raises:
        BackendError: the library cannot be loaded.
    """
    return load().gd_isa().decode()


def isa_available() -> list[str]:
    """The instruction-set variants that this machine can run, best first.

    Raises:
        BackendError: the library cannot be loaded.
    """
    return load().gd_isa_available().decode().split(",")


def _derivative(
    function: str,
    problem: Problem,
    settings: Settings,
    result: Result,
    inputs: list[Tensor],
    outputs: list[Tensor],
) -> None:
    x, y, s = (_tensor(part, 1, problem) for part in (result.x, result.y, result.s))
    report = CReport()
    code = getattr(load(), function)(
        byref(_problem(problem)),
        byref(_settings(settings, problem)),
        byref(CPoint(x, y, s, _address(result.status))),
        *map(byref, inputs),
        *map(byref, outputs),
        byref(report),
    )
    if code != OK:
        raise _error(code, problem, report)


def _error(code: int, problem: Problem, report: CReport) -> Exception:
    if code == ASYMMETRIC_P:
        return asymmetry(problem, report.index)
    if code == OUT_OF_MEMORY:
        return BackendError(f"cpu: out of memory ({problem.describe()})")
    return BackendError(f"cpu: the compiled library refused its arguments ({problem.describe()}); please report this")


def _problem(problem: Problem) -> CProblem:
    cones = _cones(problem.cones)
    view = CProblem(
        problem.batch,
        problem.n,
        problem.m,
        _DTYPE[problem.dtype],
        cones.number,
        cones.kinds,
        cones.rows,
        _tensor(problem.P, 2, problem),
        _tensor(problem.q, 1, problem),
        _tensor(problem.A, 2, problem),
        _tensor(problem.b, 1, problem),
    )
    view.owner = cones  # the cache may drop them while a call of another thread is under way
    return view


class _Cones(NamedTuple):
    """A list of cones as the library sees it."""

    number: int
    kinds: int
    rows: int
    owner: tuple[Any, Any]  # the arrays that the two addresses point to


@lru_cache(maxsize=1024)
def _cones(product: Product) -> _Cones:
    count = len(product.cones)
    kinds = (c_int32 * count)(*(cone.code for cone in product.cones))
    rows = (c_int64 * count)(*(cone.rows for cone in product.cones))
    return _Cones(count, addressof(kinds), addressof(rows), (kinds, rows))


def _settings(settings: Settings, problem: Problem) -> CSettings:
    # One problem keeps one thread busy; asking the system how many there are would cost more than the rest of this.
    threads = 1 if problem.batch == 1 else thread_count(settings.threads)
    return _c_settings(settings, threads)


@lru_cache(maxsize=64)
def _c_settings(settings: Settings, threads: int) -> CSettings:
    return CSettings(
        settings.tol_gap_abs,
        settings.tol_gap_rel,
        settings.tol_feas,
        settings.tol_infeas_abs,
        settings.tol_infeas_rel,
        settings.max_iter,
        settings.polish,
        settings.check_convex,
        threads,
    )


def _tensor(array: Array | None, core: int, problem: Problem) -> Tensor:
    """An array with `core` axes per problem as the library sees it; a batch stride of 0 shares it.

    A problem alone shares nothing: it has a batch stride (any will do), so that it takes the very path that it takes
    among others, to the same bits. The caller must keep the array alive while the library uses the view.
    """
    if array is None:
        return _ABSENT
    size = array.itemsize
    strides = array.strides
    batch = 1 if problem.batch == 1 else strides[0] // size if has_batch(array, core, problem.batch) else 0
    if core == 2:
        return Tensor(_address(array), batch, strides[-2] // size, strides[-1] // size)
    return Tensor(_address(array), batch, strides[-1] // size if core else 0, 0)


def _address(array: Array) -> int:
    """Where the first element lies. A quarter of what `array.ctypes.data` costs wherever a buffer can be had."""
    try:
        return addressof(_byte_at(array))  # pyright: ignore[reportArgumentType]  # arrays are writable buffers
    except (TypeError, ValueError, BufferError):  # read-only, not contiguous, or empty
        return array.ctypes.data
