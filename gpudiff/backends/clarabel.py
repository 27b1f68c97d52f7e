"""The Clarabel backend: large and sparse problems on the host, each solved by Clarabel, several on threads.

Clarabel releases the interpreter lock while it solves, so that threads are all it takes; its set-up holds it. Each
problem is set up anew: Clarabel could take new numbers for an old pattern (`solver.update`), which was measured to save
2 to 8 % of control, random and dispatch problems of 2,000 to 5,000 variables (two thirds of a portfolio with dense
columns), but it then keeps the equilibration of the numbers that it saw first, so that an answer's last bits would
depend on a problem's neighbours. Derivatives are computed by `gpudiff.backends.sparse`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np

from gpudiff._cones import Product
from gpudiff._errors import SettingsError, ShapeError
from gpudiff._matrices import DenseMatrices, Matrices
from gpudiff._problem import DATA, FLOAT64, Array, Problem
from gpudiff._settings import Method, Settings, thread_count
from gpudiff._solution import Result, Work
from gpudiff._sparse_problem import SparseProblem, from_dense, without
from gpudiff._status import keeps_point
from gpudiff.backends import CompileReport, Start, Structure
from gpudiff.backends.cpu import CpuBackend
from gpudiff.backends.sparse.problem import Point
from gpudiff.backends.sparse.solve import Answer, Batch

T = TypeVar("T")

_SHOW_FROM = 100  # problems: a batch below is done before a progress line is read
# Entries of all factors of a batch that are kept for derivatives: 24 bytes each, 1.2 GB.
_KEPT_ENTRIES = 5 * 10**7
_SCALARS = ("obj", "primal_residual", "dual_residual", "gap", "margin")


class Kept:
    """What a batch keeps between its solve and its derivatives: a point for each problem, with its factor."""

    def __init__(self, problem: SparseProblem, batch: Batch) -> None:
        self.problem, self.batch = problem, batch
        self.points: list[Point | None] = [None] * problem.batch
        self.entries = [0] * problem.batch
        self.roomy = True

    def point(self, i: int, result: Result) -> Point:
        """The point of problem i."""
        found = self.points[i]
        if found is None:
            x, y, s = (np.atleast_2d(part)[i].astype(FLOAT64) for part in (result.x, result.y, result.s))
            present = ~np.isposinf(s)
            (P, _, _), (rows, _, _), b = self.batch.P(i), self.batch.A(i), self.problem.vector("b", i)
            cones = self.problem.cones
            if not present.all():
                rows, b, y, s, cones = rows[present], b[present], y[present], s[present], without(cones, present)
            found = Point((P, self.problem.vector("q", i), rows, b, cones), (x, y, s), self.entries[i])
            self.points[i] = found
        return found

    def release(self, i: int) -> None:
        """Drop the factor of problem i where the batch has too many of them."""
        point = self.points[i]
        if point is not None and not self.roomy:
            point.system = None


class ClarabelBackend:
    """Sparse problems, and dense ones that are large."""

    name = "clarabel"
    methods: tuple[Method, ...] = ("ipm",)
    automatic: tuple[Method, ...] = methods

    def refuses(self, problem: Problem, by_name: bool) -> str | None:
        """Why not: the data are on a GPU."""
        return None if problem.device is None else "expected arrays in host memory"

    def why_unavailable(self) -> str | None:
        """Why Clarabel or SciPy cannot be used; None if they can."""
        missing = [name for name in ("clarabel", "scipy") if find_spec(name) is None]
        return f"not installed: {', '.join(missing)}" if missing else None

    def devices(self) -> tuple[str, ...]:
        """None to choose from."""
        return ()

    def compile(self, structure: Structure, settings: Settings, device: int) -> CompileReport:
        """Nothing to do."""
        return CompileReport(self.name)

    def single(self, problem: Problem, settings: Settings, method: Method, warm: bool) -> None:
        """There is no short way."""

    def solve(self, problem: Any, settings: Settings, start: Start | None, method: Method = "ipm") -> Result:
        """Solve every problem of the batch; a start is ignored, for Clarabel takes none.

        Args:
            problem: a `SparseProblem`, or a dense `Problem`.
            settings: of the solve.
            start: ignored.
            method: "ipm".

        Raises:
            DataError: P is not symmetric.
            SettingsError: `smoothing`, of which the sparse derivative knows nothing.
        """
        if settings.smoothing is not None:
            raise SettingsError(f"smoothing: expected None with backend 'clarabel', got {settings.smoothing!r}")
        held = problem if isinstance(problem, SparseProblem) else from_dense(problem)
        batch = Batch(held)
        batch.prepare()
        kept = problem.kept = Kept(held, batch)
        B, dtype, lead = problem.batch, problem.dtype, problem.lead
        x, y, s = np.empty((B, problem.n), dtype), np.empty((B, problem.m), dtype), np.empty((B, problem.m), dtype)
        scalars = np.empty((len(_SCALARS), B), dtype)
        status, iterations = np.empty(B, np.int8), np.empty(B, np.int32)

        def one(i: int) -> Answer:
            answer = batch.solve(i, settings)
            x[i], y[i], s[i] = answer.x, answer.y, answer.s
            scalars[:, i] = [getattr(answer, name) for name in _SCALARS]
            status[i], iterations[i] = answer.status, answer.interior + answer.newton
            kept.points[i], kept.entries[i] = answer.point, answer.entries
            # A bound on the batch's total from the first problem alone would depend on the order of threads.
            kept.roomy = kept.roomy and answer.entries * B <= _KEPT_ENTRIES
            kept.release(i)
            return answer

        answers = in_parallel(one, B, settings, "solved")
        work = Work(sum(a.interior for a in answers), sum(a.newton for a in answers), 0, float("nan"))
        parts = (part.reshape(*lead, part.shape[-1]) for part in (x, y, s))
        values = dict(zip(_SCALARS, (row.reshape(lead) for row in scalars), strict=True))
        return Result(*parts, status=status.reshape(lead), iterations=iterations.reshape(lead), **values, work=work)

    def jvp(
        self,
        problem: Any,
        settings: Settings,
        result: Result,
        tangents: Sequence[Any],
        directions: int | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        """Forward mode; see `Backend`. Tangents of matrices may be `Matrices`, too, of one direction."""
        if directions is not None:  # one after another: the factor is kept
            each = _one_by_one(tangents, (2, 1, 2, 1), problem, directions)
            every = [self.jvp(problem, settings, result, one) for one in each]
            return tuple(np.stack(parts)[:directions] for parts in zip(*every, strict=True))  # pyright: ignore[reportReturnType]
        kept = _kept(problem)
        matrices = [DenseMatrices(dot) if isinstance(dot, np.ndarray) else dot for dot in tangents[::2]]
        vectors = [None if dot is None else np.asarray(dot, FLOAT64) for dot in tangents[1::2]]
        P_dot, A_dot = matrices
        q_dot, b_dot = vectors
        B, lead = problem.batch, problem.lead
        out = {name: np.zeros((B, size)) for name, size in (("x", problem.n), ("y", problem.m), ("s", problem.m))}
        obj = np.zeros(B)
        status, xs, ys, ss = np.atleast_1d(result.status), *map(np.atleast_2d, (result.x, result.y, result.s))

        def one(i: int) -> None:
            if not keeps_point(status[i]):
                return
            x, y, present = xs[i].astype(FLOAT64), ys[i].astype(FLOAT64), ~np.isposinf(ss[i])
            r1, r2 = np.zeros(problem.n), np.zeros(problem.m)
            if P_dot is not None:
                dot = P_dot.csc(i)
                along = (dot @ x + dot.T @ x) / 2
                r1 -= along
                obj[i] += x @ along / 2
            if A_dot is not None:
                dot = A_dot.csc(i)
                along = dot @ x
                r1 -= dot.T @ y
                r2 -= along
                obj[i] += y @ along
            if q_dot is not None:
                dot = q_dot if q_dot.ndim == 1 else q_dot[i % q_dot.shape[0]]
                r1 -= dot
                obj[i] += x @ dot
            if b_dot is not None:
                dot = np.where(present, b_dot if b_dot.ndim == 1 else b_dot[i % b_dot.shape[0]], 0)
                r2 += dot
                obj[i] -= y @ dot
            point = kept.point(i, result)
            dx, dy, ds = point.jvp(r1, r2[present])
            out["x"][i], out["y"][i, present], out["s"][i, present] = dx, dy, ds
            kept.release(i)

        in_parallel(one, B, settings)
        parts = (part.reshape(*lead, part.shape[-1]).astype(problem.dtype, copy=False) for part in out.values())
        return *parts, obj.reshape(lead).astype(problem.dtype, copy=False)  # pyright: ignore[reportReturnType]

    def vjp(
        self,
        problem: Any,
        settings: Settings,
        result: Result,
        cotangents: Sequence[Array | None],
        wrt: Sequence[str],
        directions: int | None = None,
    ) -> dict[str, Any]:
        """Reverse mode; see `Backend`. Those of sparse matrices are in the caller's format, on the stored entries.

        Raises:
            ShapeError: several directions, and the cotangent of a sparse matrix is asked for.
        """
        kept = _kept(problem)
        if directions is not None:
            for name in ("P", "A"):
                if name in wrt and not isinstance(kept.problem.data(name), DenseMatrices | None):
                    raise ShapeError(f"{name}: expected one direction at a time, for {name} is sparse; see `wrt`")
            each = _one_by_one(cotangents, (1, 1, 1, 0), problem, directions)
            bars = [self.vjp(problem, settings, result, one, wrt) for one in each]
            return {name: np.stack([bar[name] for bar in bars])[:directions] for name in bars[0]}
        held = kept.problem
        B, n, m = problem.batch, problem.n, problem.m
        status, xs, ys, ss = np.atleast_1d(result.status), *map(np.atleast_2d, (result.x, result.y, result.s))
        a, c = np.zeros((B, n)), np.zeros((B, m))
        bars = [None if bar is None else np.asarray(bar, FLOAT64) for bar in cotangents]

        def one(i: int) -> None:
            if not keeps_point(status[i]):
                return
            present = ~np.isposinf(ss[i])
            x, y, s = (
                np.zeros(size) if bar is None else bar if bar.ndim == 1 else bar[i % bar.shape[0]]
                for bar, size in zip(bars[:3], (n, m, m), strict=True)
            )
            if not (x.any() or y[present].any() or s[present].any()):
                return
            point = kept.point(i, result)
            a[i], c[i, present] = point.vjp(x, y[present], s[present])
            kept.release(i)

        in_parallel(one, B, settings)
        good = keeps_point(status)[:, None]
        x, y = np.where(good, xs, 0).astype(FLOAT64), np.where(good, ys, 0).astype(FLOAT64)
        obj = np.zeros((B, 1)) if bars[3] is None else np.broadcast_to(bars[3].reshape(-1, 1), (B, 1))
        value = np.where(good, obj, 0)  # ∂obj by the envelope theorem: ½ x xᵀ, x, y xᵀ and −y
        found: dict[str, Any] = {}
        for name in DATA:
            argument = held.data(name)
            if argument is None or name not in wrt:
                continue
            if name == "q":
                found[name] = _fitted(value * x - a, argument, problem.dtype)
            elif name == "b":
                found[name] = _fitted(c - value * y, argument, problem.dtype)
            elif name == "A":
                found[name] = _gradient(argument, B, lambda i: [(-y[i], a[i] - value[i] * x[i]), (-c[i], x[i])])
            else:
                half = -(a - value * x / 2) / 2
                found[name] = _gradient(argument, B, lambda i, half=half: [(half[i], x[i]), (x[i], half[i])])
        return found

    def project(self, v: Array, cones: Product, dual: bool, direction: Array | None) -> Array:
        """Projections are those of the CPU backend."""
        return CpuBackend().project(v, cones, dual, direction)


def in_parallel(function: Callable[[int], T], count: int, settings: Settings, what: str = "") -> list[T]:
    """The function of 0 … count − 1, on threads; with `verbose` and a word for it a line tells of large batches."""
    threads = min(thread_count(settings.threads), count)
    told = bool(what) and settings.verbose and count >= _SHOW_FROM
    if threads <= 1:
        return _told(map(function, range(count)), count, what) if told else [function(i) for i in range(count)]
    from concurrent.futures import ThreadPoolExecutor  # not before it is needed: importing gpudiff stays fast

    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(function, range(count))
        return _told(results, count, what) if told else list(results)


def _told(results: Any, count: int, what: str) -> list[Any]:
    """The results, with a line on standard error that tells how many there are."""
    found: list[Any] = []
    for result in results:
        found.append(result)
        if len(found) % max(1, count // 100) == 0 or len(found) == count:
            sys.stderr.write(f"\r{len(found)} of {count} problems {what}" + ("\n" if len(found) == count else ""))
            sys.stderr.flush()
    return found


def _one_by_one(values: Sequence[Any], cores: Sequence[int], problem: Any, directions: int) -> list[list[Any]]:
    """Several directions taken apart; zero of them as one of zeros, for the shapes of what comes."""
    if not directions:
        return [[None] * len(values)]

    def own(value: Any, core: int) -> bool:
        return isinstance(value, np.ndarray) and value.ndim - core > problem.batched

    pairs = list(zip(values, cores, strict=True))
    return [[value[k] if own(value, core) else value for value, core in pairs] for k in range(directions)]


def _kept(problem: Any) -> Kept:
    """What the solve has kept."""
    assert problem.kept is not None
    return problem.kept


def _fitted(values: Array, argument: Array, dtype: np.dtype[Any]) -> Array:
    """Cotangents [B, size] as one of the argument's shape: the sum over the batch where it is shared."""
    if argument.ndim == 1:
        values = values.sum(axis=0)
    elif argument.shape[0] != values.shape[0]:
        values = values.sum(axis=0, keepdims=True)
    return values.astype(dtype, copy=False)


def _gradient(matrices: Matrices, count: int, pairs: Callable[[int], Any]) -> Any:
    """The cotangent of a matrix argument: Σ u wᵀ on its stored entries, summed over the batch where it is shared."""
    if matrices.count == count:
        return matrices.give([matrices.outer(i, pairs(i)) for i in range(count)])
    none = np.zeros(0)
    total = matrices.outer(0, pairs(0)) if count else matrices.outer(0, [(none, none)][:0])
    for i in range(1, count):
        total = total + matrices.outer(0, pairs(i))
    return matrices.give([total])
