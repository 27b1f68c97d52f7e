"""The CPU backend: hands the caller's arrays to the compiled library, as they lie in memory.

Nothing is kept between calls, so that threads may solve side by side; ctypes releases the interpreter lock for the
duration of a call. One small problem costs a few microseconds here for all that is not the solve itself, and less the
short way, `gpudiff.backends._single`.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref

import numpy as np

from gpudiff._abi import ASYMMETRIC_P, METHOD, OK, OUT_OF_MEMORY, CPoint, CReport, CSettings, CSolution, Tensor
from gpudiff._cones import Product
from gpudiff._errors import BackendError
from gpudiff._library import load
from gpudiff._problem import CORE, DATA, Array, Problem, asymmetry
from gpudiff._settings import Method, Settings, thread_count
from gpudiff._solution import Result
from gpudiff.backends import CompileReport, Start, Structure
from gpudiff.backends._memory import empty
from gpudiff.backends._single import CpuSingle, work
from gpudiff.backends._views import address, cones_struct, direction, problem_struct, rows_of, settings_struct, tensor

_STATUS = np.dtype(np.int8)
_COUNT = np.dtype(np.int32)
_WORTH_THREADS = 4096  # numbers in points: fewer are projected before a thread has started


class CpuBackend:
    """Dense and small problems on the host, one problem per SIMD lane."""

    name = "cpu"
    methods: tuple[Method, ...] = tuple(METHOD)  # pyright: ignore[reportAssignmentType]
    automatic = methods

    def refuses(self, problem: Problem, by_name: bool) -> str | None:
        """Why not: the data are on a GPU. Every dense problem on the host is taken."""
        return None if problem.device is None else "expected arrays in host memory"

    def why_unavailable(self) -> str | None:
        """Why the compiled library cannot be used; None if it can."""
        try:
            load()
        except BackendError as error:
            return str(error)
        return None

    def devices(self) -> tuple[str, ...]:
        """None to choose from."""
        return ()

    def compile(self, structure: Structure, settings: Settings, device: int) -> CompileReport:
        """Nothing to do: the library is compiled."""
        return CompileReport(self.name)

    def single(self, problem: Problem, settings: Settings, method: Method, warm: bool) -> CpuSingle | None:
        """The short way for problems like this one; see `Backend`."""
        return CpuSingle(problem, settings, method, warm) if CpuSingle.takes(problem) else None

    def solve(self, problem: Problem, settings: Settings, start: Start | None, method: Method = "ipm") -> Result:
        """Solve every problem of the batch; see `Backend`."""
        n, m, lead, dtype = problem.n, problem.m, problem.lead, problem.dtype
        x, y, s = empty((*lead, n), dtype), empty((*lead, m), dtype), empty((*lead, m), dtype)
        scalars = empty((5, *lead), dtype)  # obj, primal and dual residual, gap, margin: one allocation for all
        status, iterations = empty(lead, _STATUS), empty(lead, _COUNT)
        report = CReport()
        first, step = address(scalars), scalars.strides[0]
        out = CSolution(
            address(x),
            address(y),
            address(s),
            *(first + i * step for i in range(5)),
            address(status),
            address(iterations),
        )
        warm = (None, None, None) if start is None else tuple(byref(tensor(part, 1, problem)) for part in start)
        code = load().gd_solve(
            byref(problem_struct(problem)),
            byref(_settings(settings, problem, method)),
            *warm,
            byref(out),
            byref(report),
        )
        if code != OK:
            raise _error(code, problem, report)
        obj, primal, dual, gap, margin = (scalars[i, ...] for i in range(5))
        return Result(x, y, s, obj, status, iterations, primal, dual, gap, margin, work(report))

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
        x, y = empty((*lead, problem.n), dtype), empty((*lead, problem.m), dtype)
        s, obj = empty(y.shape, dtype), empty(lead, dtype)
        if directions == 0:
            return x, y, s, obj
        inputs = [direction(dot, CORE[name], problem) for name, dot in zip(DATA, tangents, strict=True)]
        outputs = [tensor(dot, core, problem, along) for dot, core in ((x, 1), (y, 1), (s, 1), (obj, 0))]
        _derivative("gd_jvp", problem, settings, result, directions, inputs, outputs)
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
        bars: dict[str, Array] = {}
        for name in DATA:
            argument = problem.data(name)
            if argument is not None and name in wrt:
                # The sum over an empty batch is zero; the library writes nothing for one.
                make = empty if problem.batch else np.zeros
                bars[name] = make((*lead, *argument.shape), problem.dtype)
        if directions == 0 or not bars:
            return bars
        inputs = [direction(bar, core, problem) for bar, core in zip(cotangents, (1, 1, 1, 0), strict=True)]
        outputs = [tensor(bars.get(name), CORE[name], problem, along) for name in DATA]
        _derivative("gd_vjp", problem, settings, result, directions, inputs, outputs)
        return bars

    def project(self, v: Array, cones: Product, dual: bool, direction: Array | None) -> Array:
        """Projections, or with a direction their derivative; see `Backend`."""
        out = empty(v.shape, v.dtype)
        if out.size == 0:
            return out
        threads = 1 if out.size < _WORTH_THREADS else thread_count(None)
        primal, derivative = (out, None) if direction is None else (None, out)
        code = load().gd_project(
            byref(cones_struct(cones, v.shape[0], v.dtype)),
            dual,
            threads,
            *(None if array is None else byref(rows_of(array)) for array in (v, direction, primal, derivative)),
        )
        if code == OUT_OF_MEMORY:
            raise BackendError(f"cpu: out of memory (projections of {v.shape[0]} points of {v.shape[1]} rows)")
        if code != OK:
            raise BackendError(f"cpu: the compiled library refused {list(cones.cones)}; please report this")
        return out


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
    directions: int | None,
    inputs: list[Tensor],
    outputs: list[Tensor],
) -> None:
    x, y, s = (tensor(part, 1, problem) for part in (result.x, result.y, result.s))
    report = CReport()
    code = getattr(load(), function)(
        byref(problem_struct(problem)),
        byref(_settings(settings, problem, result.method)),
        byref(CPoint(x, y, s, address(result.status))),
        1 if directions is None else directions,
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


def _settings(settings: Settings, problem: Problem, method: Method) -> CSettings:
    # One problem keeps one thread busy; asking the system how many there are would cost more than the rest of this.
    threads = 1 if problem.batch == 1 else thread_count(settings.threads)
    return settings_struct(settings, threads, method)
