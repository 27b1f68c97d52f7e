"""Exact solutions and exact implicit derivatives for the benchmark's accuracy columns.

A slow and independent implementation, one problem at a time: Clarabel at a tolerance of 1e-12 gives the start; Newton's
method on the residual map then runs with residuals in extended precision (``np.longdouble``) until they stop falling:

    v = y − s,  y = Π_{K*}(v),  s = y − v,      R(x, v) = (P x + q + Aᵀ Π(v),  A x + Π(v) − v − b).

For linear cones this is the solution of the KKT system on the active set, refined; for others the projection
(reference_cones.py) curves and the steps converge quadratically. The Jacobian of R, with D = DΠ(v),

    J = [ P  Aᵀ D ; A  D − I ],      Jᵀ (a, c) = (x̄, 0),
    q̄ = −a,   b̄ = c,   Ā = −(y aᵀ + c xᵀ),   P̄ = −½ (a xᵀ + x aᵀ),

gives the derivatives by the implicit function theorem (Agrawal et al. 2019, Busseti, Moursi and Boyd 2019).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import clarabel as clarabel_module
import numpy as np
import scipy.linalg as la
import scipy.sparse as sp
from numpy.typing import NDArray

from gpudiff.bench.batch import Array, Batch
from gpudiff.bench.reference_cones import Long, blocks, project_dual

clarabel: Any = clarabel_module  # it comes without types


@dataclass(frozen=True)
class Point:
    """The optimum of one problem in extended precision, and how trustworthy it is."""

    x: Long
    y: Long
    s: Long
    residual: float  # ‖R‖∞ / (1 + ‖data‖∞)
    margin: float  # distance of v = y − s to the nearest kink of Π: positive means strictly complementary
    jacobian: Long


@dataclass(frozen=True)
class Gradient:
    """Cotangents of the data of one problem."""

    P: Array
    q: Array
    A: Array
    b: Array


def solve(batch: Batch, i: int) -> Point:
    """Solves problem i of a batch to extended precision.

    Args:
        batch: The problems.
        i: Which of them.

    Returns:
        The optimum with its residual and margin.

    Raises:
        ArithmeticError: If Newton's method does not reach a relative residual of 1e-12.

    Cost: a Clarabel solve and about five dense factorisations of order n + m.
    """
    P0, q0, A0, b0 = batch.problem(i)
    n = batch.n
    P = np.zeros((n, n), np.longdouble) if P0 is None else P0.astype(np.longdouble)
    q, A, b = q0.astype(np.longdouble), A0.astype(np.longdouble), b0.astype(np.longdouble)
    start_x, start_y, start_s = clarabel_start(P0, q0, A0, b0, batch.cones)
    x, v = start_x.astype(np.longdouble), (start_y - start_s).astype(np.longdouble)
    scale = 1.0 + max(float(np.abs(q).max(initial=0)), float(np.abs(b).max(initial=0)))

    best: tuple[float, Long, Long] | None = None
    for _ in range(40):
        y, D, _margin = project_dual(v, batch.cones)
        R = np.concatenate([P @ x + q + A.T @ y, A @ x + y - v - b])
        residual = float(np.abs(R).max(initial=0)) / scale
        if best is not None and (residual == 0.0 or (best[0] < 1e-16 and residual > 0.5 * best[0])):
            break
        if best is None or residual < best[0]:
            best = (residual, x, v)
        step = la.lu_solve(_factor(_jacobian(P, A, D)), np.asarray(-R, np.float64), check_finite=False)
        if not np.isfinite(step).all():  # exactly singular
            break
        x, v = x + step[:n], v + step[n:]
    assert best is not None
    residual, x, v = best
    if not residual <= 1e-12:
        raise ArithmeticError(f"the reference reached a relative residual of {residual:.1e} only (problem {i})")
    y, DPi, margin = project_dual(v, batch.cones)
    return Point(x, y, y - v, residual, margin, _jacobian(P, A, DPi))


def vjp(point: Point, x_bar: Array) -> Gradient:
    """The cotangents of P, q, A, b for a cotangent of x, refined until they are exact to float64 rounding.

    Args:
        point: The optimum.
        x_bar: ``[n]`` cotangent of x.

    Returns:
        The gradient; that of P is symmetric.

    Raises:
        ArithmeticError: If the Jacobian is singular: x or y is not unique.
    """
    n, m = len(point.x), len(point.y)
    target = np.concatenate([x_bar, np.zeros(m)]).astype(np.longdouble)
    w = _refined_solve(point.jacobian.T, target)
    a, c = w[:n], w[n:]
    A_bar = -(np.outer(point.y, a) + np.outer(c, point.x))
    P_bar = -0.5 * (np.outer(a, point.x) + np.outer(point.x, a))
    return Gradient(*(np.asarray(g, np.float64) for g in (P_bar, -a, A_bar, c)))


def clarabel_start(P: Array | None, q: Array, A: Array, b: Array, cones: dict[str, Any]) -> tuple[Array, Array, Array]:
    """x, y, s from Clarabel at a tolerance of 1e-12 (whatever it reaches: Newton's method is the judge)."""
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.presolve_enable = False
    for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas"):
        setattr(settings, name, 1e-12)
        setattr(settings, "reduced_" + name, 1e-10)
    n = len(q)
    settings.chordal_decomposition_enable = False
    quadratic = sp.csc_matrix((n, n)) if P is None else sp.csc_matrix(np.triu(P))
    rows = clarabel_rows(cones)
    data = quadratic, q, sp.csc_matrix(rows.of(A)), rows.of_vector(b)
    solution = clarabel.DefaultSolver(*data, clarabel_cones(cones), settings).solve()
    return np.array(solution.x), rows.multipliers(np.array(solution.z)), rows.slacks(np.array(solution.s))


def clarabel_cones(cones: dict[str, Any]) -> list[Any]:
    """Clarabel's cone objects for a diffcp/SCS dictionary; rows are those of ``clarabel_rows``."""
    found: list[Any] = []
    for key, rows, parameter in blocks(cones):
        match key:
            case "z":
                found.append(clarabel.ZeroConeT(rows.stop - rows.start))
            case "l":
                found.append(clarabel.NonnegativeConeT(rows.stop - rows.start))
            case "q":
                found.append(clarabel.SecondOrderConeT(rows.stop - rows.start))
            case "s":
                found.append(clarabel.PSDTriangleConeT(int(parameter)))
            case "p":
                found.append(clarabel.PowerConeT(abs(parameter)))
            case _:
                found.append(clarabel.ExponentialConeT())
    return found


@dataclass(frozen=True)
class Rows:
    """How a solver wants the rows: ``s' = scale · s[order]``, A and b likewise, and ``y[order] = scale · y'``.

    Attributes:
        order: ``[m]``.
        scale: ``[m]``, all ones if there are no dual cones.
    """

    order: NDArray[np.int64]
    scale: Array

    def of(self, data: Array) -> Array:
        """Rows of A ``[…, m, n]`` as the solver wants them."""
        return np.ascontiguousarray(data[..., self.order, :] * self.scale[:, None])

    def of_vector(self, data: Array) -> Array:
        """The same for b ``[…, m]``."""
        return np.ascontiguousarray(data[..., self.order] * self.scale)

    def multipliers(self, y: Array) -> Array:
        """Those of these rows, from the solver's y."""
        back = np.empty_like(y)
        back[..., self.order] = y * self.scale
        return back

    def slacks(self, s: Array) -> Array:
        """Those of these rows, from the solver's s."""
        back = np.empty_like(s)
        back[..., self.order] = s / self.scale
        return back


def clarabel_rows(cones: dict[str, Any]) -> Rows:
    """Upper triangles of matrices instead of lower ones, and dual cones as images of primal ones.

    (u, v, w) is in the dual of the exponential cone where (−v, −u, e w) is in the cone itself, and in that of a power
    cone where (u/α, v/(1−α), w) is.
    """
    total = sum(rows.stop - rows.start for _, rows, _ in blocks(cones))
    order, scale = np.arange(total), np.ones(total)
    for key, rows, parameter in blocks(cones):
        if key == "s":
            columns, lines = np.triu_indices(int(parameter))  # lower triangle, column by column
            order[rows] = rows.start + np.lexsort((columns, lines))  # by the larger index, then by the smaller one
        elif key == "ed":
            order[rows] = rows.start + np.array([1, 0, 2])
            scale[rows] = -1.0, -1.0, np.e
        elif key == "p" and parameter < 0:
            scale[rows] = -1.0 / parameter, 1.0 / (1.0 + parameter), 1.0
    return Rows(order, scale)


def _jacobian(P: Long, A: Long, D: Long) -> Long:
    return np.block([[P, A.T @ D], [A, D - np.eye(len(D))]])


def _factor(M: Long) -> Any:
    """LU factors in double; a singular matrix is for the caller to notice, in the residual."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", la.LinAlgWarning)
        return la.lu_factor(np.asarray(M, np.float64), check_finite=False)


def _refined_solve(M: Long, target: Long) -> Long:
    """M⁻¹ target: factors in double, residuals in extended precision."""
    factors = _factor(M)
    w = np.zeros_like(target)
    last = np.inf
    for _ in range(20):
        r = target - M @ w
        size = float(np.abs(r).max(initial=0))
        if not size <= 0.5 * last:
            break
        last = size
        if size == 0.0:
            break
        w = w + la.lu_solve(factors, np.asarray(r, np.float64), check_finite=False)
    if not last <= 1e-12 * float(np.abs(target).max(initial=1)):
        raise ArithmeticError(f"the derivative system is singular: refinement ends with a residual of {last:.1e}")
    return w
