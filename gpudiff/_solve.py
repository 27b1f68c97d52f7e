"""`solve` and `Solver`: validate → dispatch → wrap. What follows a call on its way down starts here."""

from __future__ import annotations

import operator
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

import numpy as np

from gpudiff._arrays import surface
from gpudiff._cones import Cone, as_product
from gpudiff._derivative import ConeLinearization
from gpudiff._device import DeviceArray
from gpudiff._dispatch import candidates, select
from gpudiff._errors import ArgumentError, BackendError, DeviceError, DtypeError, SettingsError, ShapeError
from gpudiff._matrices import is_sparse
from gpudiff._method import check, choose
from gpudiff._problem import FLOAT32, FLOAT64, Array, Problem, as_problem, show_place
from gpudiff._rescue import rescue
from gpudiff._settings import Settings, as_settings
from gpudiff._short import prepare, solve_short
from gpudiff._solution import Block, Outcome, Result, Solution
from gpudiff._status import keeps_point
from gpudiff.backends import CompileReport, Start, Structure

OutcomeT = TypeVar("OutcomeT", bound=Outcome[Any, Any])


def solve(
    P: Any,
    q: Any,
    A: Any = None,
    b: Any = None,
    cones: Any = (),
    settings: Settings | None = None,
    backend: str = "auto",
    warm_start: Solution | None = None,
) -> Solution:
    """Solve a batch of convex cone programs.

        minimise    ½ xᵀP x + qᵀx
        subject to  A x + s = b,   s ∈ K
        dual        P x + q + Aᵀy = 0,   y ∈ K*,   sᵀy = 0

    Any array may come without the batch axis, or with extent 1, and is then shared by all problems: it is stored once,
    and its gradient is the sum over the batch. Without a batch axis in any argument the results have none either.
    Elements are float64 or float32; integers, lists and mixed precision become float64. NumPy arrays give NumPy
    arrays; torch tensors give tensors that take part in autograd, `torch.func` and `torch.compile` (which must find
    `gpudiff.torch` imported); CuPy arrays give CuPy arrays. What lies on a GPU is
    solved there, on the current stream of the arrays' package, and stays there; nothing waits for it (what settings
    ask for it is said at `Settings`), so that a solve and its derivatives can be captured in a CUDA graph. Other arrays
    on a GPU (JAX, Numba, …) are read where they lie and give CuPy arrays, or torch tensors where CuPy is not installed.

    P and A may be sparse: a SciPy matrix or array of any format (then shared by the batch), a list of them, one for
    each problem, or a `SparseBatch`, values [B, nnz] on one pattern; torch COO and CSR tensors on the CPU, with a batch
    axis or in lists; beside a sparse one a dense one is made sparse. Such problems are solved on the host, by Clarabel
    on `Settings(threads=…)` threads, or as dense ones by the kernels where they are small and those are faster;
    `Solution.why` says which and why. Cotangents of sparse arguments are computed for the stored entries alone and come
    back in the caller's format and order (a `SparseBatch` as one; an entry stored twice has its derivative twice);
    tangents may be sparse or dense, and for a `SparseBatch` just values [B, nnz]. What is kept beside the solution for
    its derivatives is a factor of the active part of the optimality conditions: O(nnz) and its fill.

    Args:
        P: [B, n, n], symmetric positive semidefinite, both triangles; None for a linear objective.
        q: [B, n].
        A: [B, m, n]; may be None when the cones have no rows.
        b: [B, m]; may be None when the cones have no rows. +inf on a nonnegative row leaves that row out.
        cones: list of `Zero`, `Nonnegative` and `SecondOrder` in the order of the rows of A, or an SCS-style dict.
        settings: tolerances and options; None for the defaults of `Settings`.
        backend: "auto", or the name of a backend; `Solution.backend` says which it was. "cuda" also takes arrays on
            the host: copies of them go to the GPU, and the results come back. "clarabel" also takes dense arrays.
            "qpsolvers:osqp" has that solver of the package qpsolvers find the points, problem by problem on threads,
            where the cones are zero and nonnegative alone, with the tolerances of the settings where it has such
            options. Each point is checked as in `differentiate`, polished by Newton's method, and differentiated like
            any other. A problem whose point fails the check ends as MAX_ITERATIONS, one without a point as
            NUMERICAL_ERROR, also where it is infeasible, for qpsolvers gives no certificates; `Settings(rescue=True)`
            has the CPU backend look for one.
        warm_start: an earlier solution of problems of the same size to start from: of as many problems, each then
            starts from its own, or of one, which all start from. Its failed items are ignored. It may be of another
            element type. One that is of no help costs time and changes no answer beyond rounding. Clarabel takes no
            start: it is then only checked.

    Returns:
        A `Solution` with x [B, n], y and s [B, m], obj and status [B], and jvp and vjp. NaN or infinite data and
        problems without a solution are statuses, each of its own problem alone.

    Raises:
        ArgumentError: an argument has a wrong shape, type or value; `ShapeError`, `DtypeError`, `DeviceError`,
            `DataError` (P is not symmetric to 1e-10 of its largest entry, 1e-5 in float32; on a GPU that is a status,
            INVALID_DATA), `ConeError` and `SettingsError` are subclasses.
        BackendError: no backend can take the problem.
        SolveError: a problem was not solved and `Settings(on_failure="raise")` asks for an exception.

    Cost: by the interior point O((n + m) n²) operations for each of about ten iterations of each problem; by the active
    set O(n³) for each problem and O((n + m) n) for each row that enters or leaves the working set. Beside that a single
    problem in NumPy arrays without a batch axis costs a few microseconds once some of its kind have been solved, with
    the same `Settings` object. A sparse problem costs what Clarabel needs, some percent for checks, and with
    `Settings(polish=True)` one or two sparse factorisations more, which its derivatives use again.

    Source: Goulart and Chen 2024 (the homogeneous embedding with a quadratic objective); Goldfarb and Idnani 1983 (the
    active set).
    """
    if type(q) is np.ndarray and q.ndim == 1:
        settings, cones = as_settings(settings), as_product(cones)
        short = solve_short(P, q, A, b, cones, settings, backend, _point(warm_start))
        if short is not None:
            return finish(short, settings)
    foreign = surface(P, q, A, b)
    if foreign is not None:
        return foreign.solve(P, q, A, b, cones, settings, backend, warm_start)
    if is_sparse(P) or is_sparse(A):
        return import_module("gpudiff._sparse").solve(P, q, A, b, cones, settings, backend, warm_start)
    settings = as_settings(settings)
    solution = run(as_problem(P, q, A, b, cones), settings, backend, warm_start)
    prepare(solution, backend, warm_start is not None)
    return finish(solution, settings)


class Solver:
    """Problems of one size and one list of cones, to be solved many times; what can be decided once is.

    On a GPU the first solve of a size compiles its kernels, which takes seconds unless it has been done before on this
    machine; `compile` does it ahead. After that neither solves nor derivatives wait for the device, and they allocate
    through the caller's package, so that all of it can be captured in a CUDA graph:

        solver = gd.Solver(cones, n)
        solver.compile()
        with torch.cuda.graph(graph):
            sol = solver.solve(P, q, A, b)
            gradient = sol.vjp(x=x_bar).q
        graph.replay()  # reads P, q, A, b and x_bar anew, and overwrites sol and gradient

    Sequences of problems that change little, as in a training loop or in model-predictive control, are solved in less
    time when each starts from the solution before: `remember` does that. What is kept is where the last solve ended,
    its x, y and s, and neither its data nor an autograd graph. A start that is of no help costs time and changes no
    answer beyond rounding; a replayed CUDA graph starts each time from where it started when it was captured.

    Args:
        cones: as for `solve`.
        n: number of variables.
        settings: as for `solve`.
        backend: as for `solve`.
        remember: start each solve that is given no `warm_start` from the last solution, where that was one of as many
            problems in the same place, or of one problem, from which all of a batch then start.

    Raises:
        ArgumentError: an argument is not acceptable.
        BackendError: there is no such backend.
    """

    def __init__(
        self,
        cones: Any,
        n: int,
        settings: Settings | None = None,
        backend: str = "auto",
        *,
        remember: bool = False,
    ) -> None:
        self._cones = as_product(cones)
        try:
            self._n = operator.index(n)
        except TypeError as error:
            raise ArgumentError(f"n: expected an integer of at least 0, got {n!r}") from error
        if self._n < 0:
            raise ArgumentError(f"n: expected an integer of at least 0, got {n!r}")
        self._shape = (self._n,)
        self._settings = as_settings(settings)
        check(self._settings, self._cones)
        candidates(backend)
        self._backend = backend
        if not isinstance(remember, bool):  # pyright: ignore[reportUnnecessaryIsInstance]  # user input
            raise ArgumentError(f"remember: expected True or False, got {remember!r}")
        self._remember = remember
        self._last: Remembered | None = None

    @property
    def cones(self) -> tuple[Cone, ...]:
        """The cones, in the order of their rows."""
        return self._cones.cones

    @property
    def n(self) -> int:
        """The number of variables."""
        return self._n

    @property
    def settings(self) -> Settings:
        """The settings of every solve."""
        return self._settings

    def solve(self, P: Any, q: Any, A: Any = None, b: Any = None, *, warm_start: Solution | None = None) -> Solution:
        """Solve a batch of problems; see `gpudiff.solve`.

        Args:
            P: [B, n, n] or None.
            q: [B, n].
            A: [B, m, n].
            b: [B, m].
            warm_start: an earlier solution to start from; None for the last one where the solver remembers it.

        Raises:
            ArgumentError: an argument is not acceptable.
            BackendError: no backend can take the problem.
            SolveError: a problem was not solved and the settings ask for an exception.
        """
        shape: Any = getattr(q, "shape", None)
        if shape != self._shape:
            shape = np.shape(q) if shape is None else shape
            if len(shape) > 0 and shape[-1] != self._n:
                raise ShapeError(f"q: expected shape ({self._n},) or (B, {self._n}), got {tuple(shape)}")
        if not self._remember:
            return solve(P, q, A, b, self._cones, self._settings, self._backend, warm_start)
        start: Any = self._last if warm_start is None else warm_start
        solution = solve(P, q, A, b, self._cones, self._settings, self._backend, start)
        self._last = Remembered(solution.linearization.point)
        return solution

    def forget(self) -> None:
        """Let the next solve of a solver that remembers start anew."""
        self._last = None

    def compile(self, dtype: Any = "float64", has_P: bool = True, device: int = 0) -> CompileReport:
        """Compile ahead what solves and derivatives on a GPU need.

        Args:
            dtype: element type of the data, float64 or float32.
            has_P: whether there is a P.
            device: number of the GPU.

        Returns:
            What was compiled, how much of it was found compiled already, and how long it took. Empty for the CPU
            backend, which needs nothing of the kind, and thus where "auto" finds no GPU.

        Raises:
            ArgumentError: `dtype` is neither float64 nor float32.
            BackendError: the backend asked for cannot be used here, or compiling fails.
        """
        try:
            element = np.dtype(str(dtype).removeprefix("torch.") if not isinstance(dtype, type) else dtype)
        except TypeError as error:
            raise DtypeError(f"dtype: expected float64 or float32, got {dtype!r}") from error
        if element not in (FLOAT64, FLOAT32):
            raise DtypeError(f"dtype: expected float64 or float32, got {element}")
        structure = Structure(self._cones, self._n, bool(has_P), element)
        refusals: list[str] = []
        for chosen in candidates(self._backend):
            why = chosen.why_unavailable()
            if why is None:
                return chosen.compile(structure, self._settings, device)
            refusals.append(f"{chosen.name}: {why}")
        raise BackendError(f"backend {self._backend!r} cannot be used; " + "; ".join(refusals))

    def __repr__(self) -> str:
        remember = ", remember=True" if self._remember else ""
        return f"Solver({list(self._cones.cones)}, n={self._n}, {self._settings}, backend={self._backend!r}{remember})"


def run(problem: Problem, settings: Settings, backend: str = "auto", warm_start: Any = None) -> Solution:
    """Solve a problem that has been checked already, and wrap the result in arrays of the core.

    Args:
        problem: what is to be solved.
        settings: of the solve.
        backend: "auto", or the name of a backend.
        warm_start: a `Solution`, a `Remembered`, or None.

    Raises:
        ArgumentError: the warm start is none for this problem, or the method asked for does not take its cones.
        BackendError: no backend takes the problem, or not with the method that is asked for.
    """
    if settings.time_limit is not None:
        backend = _with_a_clock(backend, settings.time_limit)
    chosen, why = select(problem, backend)
    start = None if warm_start is None else _start(warm_start, problem)
    method = choose(settings, problem, chosen, start is not None)
    result = chosen.solve(problem, settings, start, method)
    result.backend, result.method, result.why = chosen.name, method, why
    if settings.rescue:
        result.rescued = rescue(problem, settings, result, chosen.name)
    if settings.on_failure == "zero" and not isinstance(result.x, DeviceArray):  # on a GPU the kernels have done it
        failed = ~keeps_point(result.status)
        for values in (result.x, result.y, result.s, result.obj):
            values[failed] = 0
    return Solution(ConeLinearization(problem, settings, result, chosen))


def _with_a_clock(backend: str, limit: float) -> str:
    """The name of the backend that can keep to a time limit.

    Raises:
        SettingsError: another one is asked for.
    """
    if backend not in ("auto", "clarabel"):
        raise SettingsError(
            f"time_limit: expected None, for backend {backend!r} watches no clock (with backend='auto' a limit leads "
            f"to 'clarabel'), got {limit!r}"
        )
    return "clarabel"


def run_short(problem: Problem, settings: Settings, backend: str, warm_start: Any) -> Solution:
    """What `run` does, the short way where there is one for this problem."""
    if not problem.batched and problem.device is None:
        P, q, A, b = problem.P, problem.q, problem.A, problem.b
        short = solve_short(P, q, A, b, problem.cones, settings, backend, _point(warm_start))
        if short is not None:
            return short
    solution = run(problem, settings, backend, warm_start)
    prepare(solution, backend, warm_start is not None)
    return solution


def finish(outcome: OutcomeT, settings: Settings) -> OutcomeT:
    """What the settings ask for once a batch is done: a summary, an exception."""
    if settings.verbose:
        print(outcome)
    if settings.on_failure == "raise":
        outcome.raise_for_failure()
    return outcome


class Remembered(NamedTuple):
    """Where an earlier solve of a `Solver` ended: a start for problems that it fits, and none for others."""

    point: Result | Block


def _point(warm_start: Any) -> Result | Block | None:
    """Where the solve ended that is to be started from.

    Raises:
        ArgumentError: the warm start is no `Solution`.
    """
    if warm_start is None:
        return None
    if isinstance(warm_start, Remembered):
        return warm_start.point
    if isinstance(warm_start, Solution):
        return warm_start.linearization.point
    raise ArgumentError(f"warm_start: expected a Solution or None, got {type(warm_start).__name__}")


def _start(previous: Any, problem: Problem) -> Start | None:
    """The point of an earlier solution, its failed items marked by NaN; None where it was remembered and does not fit.

    Raises:
        ArgumentError: no `Solution`, one of another size, or one that lies elsewhere.
    """
    point = _point(previous)
    assert point is not None
    x, y, s, status = (point.array(name) for name in ("x", "y", "s", "status"))
    place: int | None = getattr(status, "device", None) if isinstance(status, DeviceArray) else None
    if x.shape[-1] != problem.n or y.shape[-1] != problem.m or status.size not in (1, problem.batch):
        if isinstance(previous, Remembered):
            return None
        came = previous.linearization.describe()
        raise ShapeError(f"warm_start: expected a solution of problems with {problem.describe()}, got one with {came}")
    if place != problem.device:
        if isinstance(previous, Remembered):
            return None
        expected, came = show_place(problem.device), show_place(place)
        raise DeviceError(f"warm_start: expected a solution {expected}, where the problem lies, got one {came}")
    if isinstance(status, DeviceArray):
        return Start(*(_marked(values, status, problem.dtype) for values in (x, y, s)))
    failed = ~keeps_point(status)
    parts: list[Array] = []
    for values in (x, y, s):
        values = values.astype(problem.dtype, copy=bool(failed.any()))
        values[failed] = np.nan
        parts.append(values)
    return Start(*parts)


def _marked(values: Any, status: DeviceArray, dtype: np.dtype[Any]) -> Any:
    """Part of a point on a GPU with NaN for the failed items; which they are is not looked at."""
    values = values.astype(dtype, copy=False)
    package = values.package
    return package.wrap(package.where(keeps_point(status.native)[..., None], values.native, np.nan))
