"""One sparse problem from its data to an answer: check, Clarabel, polish, residuals."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np

from gpudiff._clarabel import STATUS, ClarabelForm, clarabel_form, clarabel_settings
from gpudiff._cones import Product
from gpudiff._margin import margins
from gpudiff._problem import FLOAT32, Array
from gpudiff._settings import Settings
from gpudiff._sparse_problem import SparseProblem, may_be_absent, symmetric, upper, without
from gpudiff._status import Status, keeps_point
from gpudiff.backends.sparse.problem import Data, Point
from gpudiff.backends.sparse.system import diagonal_pivots

# Statuses whose last iterate Newton's method may still bring to a solution.
_NEARLY = (Status.SOLVED, Status.ALMOST_SOLVED, Status.NUMERICAL_ERROR, Status.MAX_ITERATIONS)
_PRIMAL = (Status.PRIMAL_INFEASIBLE, Status.ALMOST_PRIMAL_INFEASIBLE)
_DUAL = (Status.DUAL_INFEASIBLE, Status.ALMOST_DUAL_INFEASIBLE)
_CONVEX = 1e-10  # negative eigenvalues of P up to this times its largest entry are rounding


@dataclass(slots=True)
class Answer:
    """What comes of one problem."""

    status: Status
    x: Any = np.nan
    y: Any = np.nan
    s: Any = np.nan
    obj: float = np.nan
    primal_residual: float = np.nan
    dual_residual: float = np.nan
    gap: float = np.nan
    margin: float = np.nan
    interior: int = 0
    newton: int = 0
    entries: int = 0
    point: Point | None = field(default=None)


class Batch:
    """The problems of a batch as Clarabel takes them; what they share is prepared once, when first needed."""

    def __init__(self, problem: SparseProblem) -> None:
        self.problem = problem
        self.form: ClarabelForm = clarabel_form(problem.cones)
        self._shared: dict[str, Any] = {}

    def P(self, i: int) -> tuple[Any, Any, bool]:
        """P and its upper triangle, and whether it is finite; P is None where there is none.

        Raises:
            DataError: it is not symmetric.
        """
        return self._once("P", i, self._read_P)

    def A(self, i: int) -> tuple[Any, Any, bool]:
        """A and L A, and whether it is finite."""
        return self._once("A", i, self._read_A)

    def _once(self, name: str, i: int, make: Any) -> Any:
        matrices = self.problem.data(name)
        if matrices is not None and matrices.count > 1:
            return make(i)
        found = self._shared.get(name)
        if found is None:
            found = self._shared[name] = make(i)
        return found

    def _read_P(self, i: int) -> tuple[Any, Any, bool]:
        from scipy import sparse

        problem = self.problem
        if problem.P is None:
            return None, sparse.csc_matrix((problem.n, problem.n)), True
        P = symmetric(problem.P.csc(i), problem.P.dtype, f"P[{i}, " if problem.P.batched else "P[")
        return P, upper(P), bool(np.isfinite(P.data).all())

    def _read_A(self, i: int) -> tuple[Any, Any, bool]:
        from scipy import sparse

        problem = self.problem
        A = sparse.csc_matrix((0, problem.n)) if problem.A is None else problem.A.csc(i)
        return A, _columns(self.form.rows(A)), bool(np.isfinite(A.data).all())

    def prepare(self) -> None:
        """Prepare what is shared, so that threads find it.

        Raises:
            DataError: some P is not symmetric.
        """
        P = self.problem.P
        for i in range(1 if P is None else P.count if self.problem.batch else 0):
            self.P(i)
        if self.problem.batch:
            self.A(0)

    def solve(self, i: int, settings: Settings) -> Answer:
        """Solve problem i."""
        problem = self.problem
        (P, top, fine), (ours, rows, well) = self.P(i), self.A(i)
        q, b = problem.vector("q", i), problem.vector("b", i)
        present = ~np.isposinf(b) | ~may_be_absent(problem.cones)
        if not (fine and well and np.isfinite(q).all() and np.isfinite(b[present]).all()):
            return Answer(Status.INVALID_DATA)
        if settings.check_convex and P is not None and not _convex(P):
            return Answer(Status.INVALID_DATA)
        form, cones, kept = self.form, problem.cones, None
        if not present.all():
            kept, cones = present, without(problem.cones, present)
            ours, b, form = ours[present], b[present], clarabel_form(cones)
            rows = _columns(form.rows(ours))
        clarabel: Any = import_module("clarabel")
        options = clarabel_settings(_loosened(settings, problem.dtype))
        solver = clarabel.DefaultSolver(top, q, rows, form.rows(b), form.cones, options)
        found = solver.solve()
        x, y, s = np.array(found.x), form.multiplier(np.array(found.z)), form.slack(np.array(found.s))
        answer = Answer(STATUS[str(found.status)], interior=found.iterations)
        answer.entries = int(solver.get_info().linsolver.nnzL)
        if answer.status in (*_PRIMAL, *_DUAL):
            _certificate(answer, x, y, s, q, b)
        elif answer.status in _NEARLY and np.isfinite(x).all() and np.isfinite(y).all():
            _finish(answer, (P, q, ours, b, cones), (x, y, s), settings, problem.dtype)
        if kept is not None:
            _spread(answer, kept)
        return answer


def _columns(A: Any) -> Any:
    from scipy import sparse

    return A if isinstance(A, sparse.csc_matrix) else sparse.csc_matrix(A)


def _loosened(settings: Settings, dtype: np.dtype[Any]) -> Settings:
    """Settings for data of this element type: those in float32 are known to 6e-8 only."""
    if dtype != FLOAT32:
        return settings
    names = ("tol_gap_abs", "tol_gap_rel", "tol_feas")
    return replace(settings, **{name: max(getattr(settings, name), 1e-6) for name in names})


def _certificate(answer: Answer, x: Array, y: Array, s: Array, q: Array, b: Array) -> None:
    """Normalise: bᵀy = −1, or qᵀx = −1."""
    if answer.status in _PRIMAL:
        answer.y, answer.obj = y * (-1 / (b @ y)), np.inf
    else:
        scale = -1 / (q @ x)
        answer.x, answer.s, answer.obj = scale * x, scale * s, -np.inf


def _finish(answer: Answer, data: Data, point: tuple[Array, Array, Array], settings: Settings, dtype: Any) -> None:
    """Polish, and see what the point is worth."""
    x, y, s = point
    if settings.polish:
        answer.point = Point(data, point, answer.entries)
        better = answer.point.polish()
        answer.newton = answer.point.steps
        if better:
            x, y, s = answer.point.point()
        answer.margin = answer.point.margin()
    else:
        answer.margin = _margin_of(data[4], y, s)
    good = _judge(answer, data, (x, y, s), _loosened(settings, dtype))
    if answer.status != Status.SOLVED and good:
        answer.status = Status.SOLVED
    if keeps_point(answer.status):
        answer.x, answer.y, answer.s = x, y, s
    else:
        answer.point = None
        answer.obj = answer.primal_residual = answer.dual_residual = answer.gap = answer.margin = np.nan


def _judge(answer: Answer, data: Data, point: tuple[Array, Array, Array], settings: Settings) -> bool:
    """Fill in objective and residuals; whether they are within the tolerances, as Clarabel has them."""
    P, q, A, b, _ = data
    x, y, s = point
    Px = 0.0 if P is None else P @ x
    quadratic, linear = float(x @ Px) if P is not None else 0.0, float(q @ x)
    answer.obj = quadratic / 2 + linear
    answer.primal_residual = _size(A @ x + s - b)
    answer.dual_residual = _size(Px + q + A.T @ y)
    answer.gap = abs(quadratic + linear + float(b @ y))
    dual = -quadratic / 2 - float(b @ y)
    largest = max(1.0, min(abs(answer.obj), abs(dual)))
    return (
        answer.primal_residual <= settings.tol_feas * max(1.0, _size(b) + _size(x) + _size(s))
        and answer.dual_residual <= settings.tol_feas * max(1.0, _size(q) + _size(x) + _size(y))
        and (answer.gap <= settings.tol_gap_abs or answer.gap <= settings.tol_gap_rel * largest)
    )


def _margin_of(cones: Product, y: Array, s: Array) -> float:
    return float(margins(y[None], s[None], cones.cones)[0])


def _spread(answer: Answer, present: Array) -> None:
    """Put rows back that were absent: y = 0, s = +inf."""
    for name, value in (("y", 0.0), ("s", np.inf)):
        rows = getattr(answer, name)
        if isinstance(rows, np.ndarray):
            full = np.full(present.size, value)
            full[present] = rows
            setattr(answer, name, full)


def _convex(P: Any) -> bool:
    """Whether P is positive semidefinite up to rounding: the signs of its pivots, which are taken from the diagonal."""
    from scipy import sparse

    largest = _size(P.data)
    if largest == 0:
        return True
    shifted = (P + sparse.identity(P.shape[0], format="csc") * (_CONVEX * largest)).tocsc()
    try:
        factor = diagonal_pivots(shifted)
    except RuntimeError:
        return False
    return bool(np.array_equal(factor.perm_r, factor.perm_c) and (factor.U.diagonal() > 0).all())


def _size(array: Any) -> float:
    return float(np.max(np.abs(array), initial=0.0))
