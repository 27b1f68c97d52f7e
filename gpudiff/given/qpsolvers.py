"""`backend="qpsolvers:<solver>"`: the point by any solver of the package qpsolvers, all the rest by gpudiff.

Each problem goes to the solver alone, on a thread of a pool, as

    minimise ½ xᵀP x + qᵀx   subject to  G x ≤ h (the nonnegative rows that are there),  A x = b (the zero rows);

bounds are rows like others. What comes back is a point like any other of `gpudiff.differentiate`: it is judged, its
multipliers are found where the solver gave none or none that fit, and it is polished and differentiated by the CPU
backend. Nothing that a solver says of its point is believed, and none of its failures is: qpsolvers hands on no
certificates.

What solvers are told, each by its own names (`_OPTIONS`), are the tolerances of the settings, and `max_iter` where it
counts interior-point iterations, or a hundred times as many of a first-order method; all else is as the solver has it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from gpudiff._blocks import blocks
from gpudiff._cones import Nonnegative, Product, Zero, as_product
from gpudiff._problem import DATA, Array, Problem
from gpudiff._progress import Progress
from gpudiff._settings import Method, Settings, thread_count
from gpudiff._solution import Result
from gpudiff._status import Status, keeps_point
from gpudiff.backends import CompileReport, Start, Structure
from gpudiff.backends.cpu import CpuBackend
from gpudiff.given.differentiate import check_symmetry, judged, mark_failures, merged, placed
from gpudiff.given.multipliers import recover
from gpudiff.given.optimality import Host, on_host

_WORTH_A_BAR = 100  # problems: fewer are done before a bar has been read

# A solver's keyword → the field of `Settings` that it gets. Solvers that are not here have no such keywords.
_OPTIONS: dict[str, dict[str, str]] = {
    "clarabel": {
        name: name
        for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_infeas_abs", "tol_infeas_rel", "max_iter")
    },
    "cvxopt": {"feastol": "tol_feas", "abstol": "tol_gap_abs", "reltol": "tol_gap_rel", "maxiters": "max_iter"},
    "daqp": {"primal_tol": "tol_feas", "dual_tol": "tol_feas"},
    "ecos": {"feastol": "tol_feas", "abstol": "tol_gap_abs", "reltol": "tol_gap_rel", "max_iters": "max_iter"},
    "highs": {"primal_feasibility_tolerance": "tol_feas", "dual_feasibility_tolerance": "tol_feas"},
    "osqp": {"eps_abs": "tol_feas", "eps_rel": "tol_feas", "max_iter": "max_iter"},
    "piqp": {
        "eps_abs": "tol_feas",
        "eps_rel": "tol_feas",
        "eps_duality_gap_abs": "tol_gap_abs",
        "eps_duality_gap_rel": "tol_gap_rel",
        "max_iter": "max_iter",
    },
    "proxqp": {"eps_abs": "tol_feas", "eps_rel": "tol_feas"},
    "scs": {"eps_abs": "tol_feas", "eps_rel": "tol_feas", "max_iters": "max_iter"},
}
_FIRST_ORDER = ("osqp", "scs")  # a hundred of their iterations are taken for one of an interior point


class QpsolversBackend:
    """A solver of qpsolvers, for problems in host memory with zero and nonnegative cones.

    `iterations`, `work` and `method` of its solutions are those of the polish and of the derivatives, not the solver's.
    The polish is Newton's method, not the active set: where minimisers are not unique it stays at the solver's.

    Args:
        name: "qpsolvers:" and the solver's name in qpsolvers.
    """

    methods: tuple[Method, ...] = ("ipm",)
    automatic = methods

    def __init__(self, name: str) -> None:
        self.name = name
        self._solver = name.partition(":")[2]
        self._cpu = CpuBackend()

    def refuses(self, problem: Problem, by_name: bool) -> str | None:
        """Why not: the data are on a GPU, or the cones are not those of a QP."""
        if not problem.cones.linear:
            others = sorted({type(cone).__name__ for cone in problem.cones.cones} - {"Zero", "Nonnegative"})
            return f"expected the cones Zero and Nonnegative alone, got {', '.join(others)}"
        return self._cpu.refuses(problem, by_name)

    def why_unavailable(self) -> str | None:
        """Why the solver cannot be used: it, or qpsolvers, is not installed; None if it can."""
        try:
            known = available()
        except ImportError as error:
            return f"qpsolvers cannot be imported ({error}); `pip install 'gpudiff[qpsolvers]'` installs it"
        if self._solver not in known:
            return (
                f"expected one of the solvers that qpsolvers finds here, {', '.join(known) or 'of which there is none'}"
                f" (`pip install 'qpsolvers[<solver>]'` installs others that it knows), got {self._solver!r}"
            )
        return self._cpu.why_unavailable()

    def devices(self) -> tuple[str, ...]:
        """None to choose from."""
        return ()

    def compile(self, structure: Structure, settings: Settings, device: int) -> CompileReport:
        """Nothing to do."""
        return CompileReport(self.name)

    def single(self, problem: Problem, settings: Settings, method: Method, warm: bool) -> None:
        """There is no short way."""
        return

    def solve(self, problem: Problem, settings: Settings, start: Start | None, method: Method = "ipm") -> Result:
        """Solve every problem of the batch, judge the points, and polish those that are good; see `Backend`.

        The status is that of `gpudiff.differentiate` for the solver's point, and NUMERICAL_ERROR where the solver
        gave none, or said itself that it is no solution and the check agrees. Polishing improves points that passed
        the check and revives none that did not; `Settings(rescue=True)` does.
        """
        host = check_symmetry(on_host(problem, [problem.data(name) for name in DATA]))
        convex = self._convex(problem, settings)
        sound = host.valid & convex
        answers = self._answers(host, sound, settings, start)
        found = np.array([answer is not None and answer.found for answer in answers], bool)
        result = _judged(host, settings, answers)
        silent = sound & ~found & ~keeps_point(result.status)
        result.status[silent] = Status.NUMERICAL_ERROR
        result.status[~sound] = Status.INVALID_DATA
        mark_failures(result, settings)
        kept = keeps_point(result.status)
        if settings.polish and kept.any():
            # Failures have no point to start from, and what comes of them here is not used.
            parts = (result.x, result.y, result.s)
            point = Start(*(part.reshape(*problem.lead, part.shape[1]) for part in parts))
            polished = self._cpu.solve(problem, settings, point, method)
            codes = np.atleast_1d(polished.status)
            result = merged(polished, result, kept & keeps_point(codes) & (codes <= result.status))
        return placed(result, problem)

    def jvp(
        self,
        problem: Problem,
        settings: Settings,
        result: Result,
        tangents: Sequence[Array | None],
        directions: int | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        """Forward mode, by the CPU backend."""
        return self._cpu.jvp(problem, settings, result, tangents, directions)

    def vjp(
        self,
        problem: Problem,
        settings: Settings,
        result: Result,
        cotangents: Sequence[Array | None],
        wrt: Sequence[str],
        directions: int | None = None,
    ) -> dict[str, Array]:
        """Reverse mode, by the CPU backend."""
        return self._cpu.vjp(problem, settings, result, cotangents, wrt, directions)

    def project(self, v: Array, cones: Product, dual: bool, direction: Array | None) -> Array:
        """Projections, by the CPU backend."""
        return self._cpu.project(v, cones, dual, direction)

    def _convex(self, problem: Problem, settings: Settings) -> Array:
        """Where P is positive semidefinite, or nobody asks: the CPU backend sees it on the same P alone."""
        if not settings.check_convex or problem.P is None:
            return np.ones(problem.batch, bool)
        q = np.zeros(problem.n, problem.dtype)
        alone = replace(problem, q=q, A=None, b=None, cones=as_product(()), m=0)
        return np.atleast_1d(self._cpu.solve(alone, settings, None).status) != Status.INVALID_DATA

    def _answers(self, host: Host, sound: Array, settings: Settings, start: Start | None) -> list[_Answer | None]:
        """What the solver says of each problem; None for those with faulty data."""
        task = _Task(self._solver, host, _options(self._solver, settings), start)
        every = [int(i) for i in np.flatnonzero(sound)]
        answers: list[_Answer | None] = [None] * host.batch
        progress = Progress(len(every), quiet=not settings.verbose or len(every) < _WORTH_A_BAR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of each failure, which is a status here
            with ThreadPoolExecutor(min(thread_count(settings.threads), max(len(every), 1))) as pool:
                for i, answer in zip(every, pool.map(task, every), strict=True):
                    answers[i] = answer
                    progress.tick(self.name)
        progress.close()
        errors = [answer.error for answer in answers if answer is not None and answer.error]
        if errors:
            text = f"{self.name}: {len(errors)} of {host.batch} problems raised an exception, the first {errors[0]}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return answers


def available() -> tuple[str, ...]:
    """The solvers that qpsolvers finds on this machine.

    Raises:
        ImportError: qpsolvers cannot be imported.
    """
    return tuple(import_module("qpsolvers").available_solvers)


class _Answer(NamedTuple):
    """What a solver says of one problem: x [n] and y [m] or NaN, whether that is a solution, and its exception."""

    x: Array
    y: Array
    found: bool
    error: str = ""


class _Task:
    """Solves the problems of a batch one by one, from any thread."""

    def __init__(self, solver: str, host: Host, options: dict[str, Any], start: Start | None) -> None:
        self._solver, self._host, self._options, self._start = solver, host, options, start
        self._qpsolvers: Any = import_module("qpsolvers")
        kinds = {Zero: np.zeros(host.problem.m, bool), Nonnegative: np.zeros(host.problem.m, bool)}
        for cone, rows in blocks(host.problem.cones.cones):
            kinds[Zero if isinstance(cone, Zero) else Nonnegative][rows] = True
        self._zero, self._nonnegative = kinds[Zero], kinds[Nonnegative]

    def __call__(self, i: int) -> _Answer:
        """Problem i."""
        host = self._host
        n, m = host.problem.n, host.problem.m
        # Solvers may keep or change what they are given: it is a copy.
        P = np.zeros((n, n)) if host.P is None else _item(host.P, i).copy()
        q, A, b = _item(host.q, i).copy(), _item(host.A, i), _item(host.b, i)
        equal = np.flatnonzero(self._zero)
        less = np.flatnonzero(self._nonnegative & host.present[i])
        constraints = [part for rows in (less, equal) for part in ((A[rows], b[rows]) if rows.size else (None, None))]
        nothing = _Answer(np.full(n, np.nan), np.full(m, np.nan), False)
        guess = None if self._start is None else np.array(_item(np.atleast_2d(self._start.x), i), np.float64)
        if guess is not None and not np.isfinite(guess).all():
            guess = None
        try:
            problem = self._qpsolvers.Problem(P, q, *constraints)
            solution = self._qpsolvers.solve_problem(problem, self._solver, initvals=guess, **self._options)
        except Exception as error:  # whatever it is, it is of this problem alone
            return nothing._replace(error=f"{type(error).__name__}: {error}")
        x = _vector(solution.x, n)
        if x is None:
            return nothing
        y = np.zeros(m)
        for rows, values in ((less, solution.z), (equal, solution.y)):
            multipliers = _vector(values, rows.size)
            y[rows] = np.nan if multipliers is None else multipliers
        return _Answer(x, y, bool(solution.found))


def _item(array: Array, i: int) -> Array:
    return array[i if array.shape[0] > 1 else 0]


def _vector(values: Any, extent: int) -> Array | None:
    """Finite numbers [extent]; None for anything else."""
    if values is None:
        return None
    vector = np.array(values, np.float64).reshape(-1)
    return vector if vector.size == extent and np.isfinite(vector).all() else None


def _options(solver: str, settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {key: getattr(settings, field) for key, field in _OPTIONS.get(solver, {}).items()}
    if solver in _FIRST_ORDER:
        options = {key: 100 * value if _OPTIONS[solver][key] == "max_iter" else value for key, value in options.items()}
    return options


def _judged(host: Host, settings: Settings, answers: list[_Answer | None]) -> Result:
    """The points [B, …] as `differentiate` sees them, with multipliers that fit where there are any."""
    x = np.full((host.batch, host.problem.n), np.nan)
    y = np.full((host.batch, host.problem.m), np.nan)
    for i, answer in enumerate(answers):
        if answer is not None:
            x[i], y[i] = answer.x, answer.y
    result, _ = judged(host, settings, [x, y, None])
    doubtful = np.isfinite(x).all(axis=1) & ~keeps_point(result.status)
    if doubtful.any():
        with np.errstate(invalid="ignore"):  # of problems with faulty data, which are not looked at
            fitting = recover(host, np.where(doubtful[:, None], x, 0), result.s, doubtful)
        second, _ = judged(host, settings, [x, np.where(doubtful[:, None], fitting, y), None])
        better = doubtful & ((second.status < result.status) | ~np.isfinite(y).all(axis=1))
        result = merged(second, result, better)
    return result
