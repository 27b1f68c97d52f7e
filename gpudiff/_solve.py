"""`solve` and `Solver`: validate → dispatch → wrap. What follows a call on its way down starts here."""

from __future__ import annotations

import operator
from typing import Any, TypeVar

import numpy as np

from gpudiff._arrays import surface
from gpudiff._cones import Cone, as_product
from gpudiff._derivative import ConeLinearization, item
from gpudiff._device import DeviceArray
from gpudiff._dispatch import candidates, select
from gpudiff._errors import ArgumentError, BackendError, DeviceError, DtypeError, ShapeError
from gpudiff._problem import FLOAT32, FLOAT64, Array, Problem, as_problem, show_place
from gpudiff._rescue import rescue
from gpudiff._settings import Settings, as_settings
from gpudiff._solution import Outcome, Solution
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
    arrays; torch tensors give tensors that take part in autograd; CuPy arrays give CuPy arrays. What lies on a GPU is
    solved there, on the current stream of the arrays' package, and stays there; nothing waits for it (what settings
    ask for it is said at `Settings`), so that a solve and its derivatives can be captured in a CUDA graph. Other arrays
    on a GPU (JAX, Numba, …) are read where they lie and give CuPy arrays, or torch tensors where CuPy is not installed.

    Args:
        P: [B, n, n], symmetric positive semidefinite, both triangles; None for a linear objective.
        q: [B, n].
        A: [B, m, n]; may be None when the cones have no rows.
        b: [B, m]; may be None when the cones have no rows. +inf on a nonnegative row leaves that row out.
        cones: list of `Zero`, `Nonnegative` and `SecondOrder` in the order of the rows of A, or an SCS-style dict.
        settings: tolerances and options; None for the defaults of `Settings`.
        backend: "auto", or the name of a backend; `Solution.backend` says which it was. "cuda" also takes arrays on
            the host: copies of them go to the GPU, and the results come back.
        warm_start: an earlier solution of problems of the same size to start from; its failed items are ignored.

    Returns:
        A `Solution` with x [B, n], y and s [B, m], obj and status [B], and jvp and vjp. NaN or infinite data and
        problems without a solution are statuses, each of its own problem alone.

    Raises:
        ArgumentError: an argument has a wrong shape, type or value; `ShapeError`, `DtypeError`, `DeviceError`,
            `DataError` (P is not symmetric to 1e-10 of its largest entry, 1e-5 in float32; on a GPU that is a status,
            INVALID_DATA), `ConeError` and `SettingsError` are subclasses.
        BackendError: no backend can take the problem.
        SolveError: a problem was not solved and `Settings(on_failure="raise")` asks for an exception.

    Cost: O((n + m) n²) operations for each of about ten iterations of each problem.

    Source: Goulart and Chen 2024 (the homogeneous embedding with a quadratic objective).
    """
    foreign = surface(P, q, A, b)
    if foreign is not None:
        return foreign.solve(P, q, A, b, cones, settings, backend, warm_start)
    settings = as_settings(settings)
    return finish(run(as_problem(P, q, A, b, cones), settings, backend, warm_start), settings)


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

    Args:
        cones: as for `solve`.
        n: number of variables.
        settings: as for `solve`.
        backend: as for `solve`.

    Raises:
        ArgumentError: an argument is not acceptable.
        BackendError: there is no such backend.
    """

    def __init__(self, cones: Any, n: int, settings: Settings | None = None, backend: str = "auto") -> None:
        self._cones = as_product(cones)
        try:
            self._n = operator.index(n)
        except TypeError as error:
            raise ArgumentError(f"n: expected an integer of at least 0, got {n!r}") from error
        if self._n < 0:
            raise ArgumentError(f"n: expected an integer of at least 0, got {n!r}")
        self._settings = as_settings(settings)
        candidates(backend)
        self._backend = backend

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
            warm_start: an earlier solution to start from.

        Raises:
            ArgumentError: an argument is not acceptable.
            BackendError: no backend can take the problem.
            SolveError: a problem was not solved and the settings ask for an exception.
        """
        shape: Any = getattr(q, "shape", None)
        shape = np.shape(q) if shape is None else shape
        if len(shape) > 0 and shape[-1] != self._n:
            raise ShapeError(f"q: expected shape ({self._n},) or (B, {self._n}), got {tuple(shape)}")
        return solve(P, q, A, b, self._cones, self._settings, self._backend, warm_start)

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
        return f"Solver({list(self._cones.cones)}, n={self._n}, {self._settings}, backend={self._backend!r})"


def run(problem: Problem, settings: Settings, backend: str = "auto", warm_start: Any = None) -> Solution:
    """Solve a problem that has been checked already, and wrap the result in arrays of the core."""
    chosen = select(problem, backend).backend
    start = None if warm_start is None else _start(warm_start, problem)
    result = chosen.solve(problem, settings, start)
    if settings.rescue:
        result.rescued = rescue(problem, settings, result, chosen.name)
    if settings.on_failure == "zero" and not isinstance(result.x, DeviceArray):  # on a GPU the kernels have done it
        failed = ~keeps_point(result.status)
        for values in (result.x, result.y, result.s, result.obj):
            values[failed] = 0
    return Solution(
        x=result.x,
        y=result.y,
        s=result.s,
        obj=item(result.obj),
        status=item(result.status),
        iterations=item(result.iterations),
        primal_residual=item(result.primal_residual),
        dual_residual=item(result.dual_residual),
        gap=item(result.gap),
        margin=item(result.margin),
        backend=chosen.name,
        linearization=ConeLinearization(problem, settings, result, chosen),
    )


def finish(outcome: OutcomeT, settings: Settings) -> OutcomeT:
    """What the settings ask for once a batch is done: a summary, an exception."""
    if settings.verbose:
        print(outcome)
    if settings.on_failure == "raise":
        outcome.raise_for_failure()
    return outcome


def _start(previous: Any, problem: Problem) -> Start:
    """The point of an earlier solution, its failed items marked by NaN.

    Raises:
        ArgumentError: no `Solution`, one of another size, or one that lies elsewhere.
    """
    if not isinstance(previous, Solution):
        raise ArgumentError(f"warm_start: expected a Solution or None, got {type(previous).__name__}")
    result = previous.linearization.result
    batch = result.status.size
    if result.x.shape[-1] != problem.n or result.y.shape[-1] != problem.m or batch not in (1, problem.batch):
        came = previous.linearization.describe()
        raise ShapeError(f"warm_start: expected a solution of problems with {problem.describe()}, got one with {came}")
    status: Any = result.status
    place = status.device if isinstance(status, DeviceArray) else None
    if place != problem.device:
        expected, came = show_place(problem.device), show_place(place)
        raise DeviceError(f"warm_start: expected a solution {expected}, where the problem lies, got one {came}")
    if isinstance(status, DeviceArray):
        return Start(*(_marked(values, status, problem.dtype) for values in (result.x, result.y, result.s)))
    failed = ~keeps_point(result.status)
    parts: list[Array] = []
    for values in (result.x, result.y, result.s):
        values = values.astype(problem.dtype, copy=bool(failed.any()))
        values[failed] = np.nan
        parts.append(values)
    return Start(*parts)


def _marked(values: Any, status: DeviceArray, dtype: np.dtype[Any]) -> Any:
    """Part of a point on a GPU with NaN for the failed items; which they are is not looked at."""
    values = values.astype(dtype, copy=False)
    package = values.package
    return package.wrap(package.where(keeps_point(status.native)[..., None], values.native, np.nan))
