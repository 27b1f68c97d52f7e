"""Exact solutions and exact implicit derivatives for the benchmark's accuracy columns.

A slow and independent implementation, one problem at a time: Clarabel at a tolerance of 1e-12 gives the start; Newton's
method on the residual map then runs with residuals in extended precision (``np.longdouble``) until they stop falling:

    v = y − s,  y = Π_{K*}(v),  s = y − v,      R(x, v) = (P x + q + Aᵀ Π(v),  A x + Π(v) − v − b).

For linear cones this is the solution of the KKT system on the active set, refined; for second-order cones the
projection curves and the steps converge quadratically. The Jacobian of R, with D = DΠ(v),

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

from gpudiff.bench.families import Array, Batch

Long = NDArray[np.longdouble]
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
    quadratic = sp.csc_matrix((n, n)) if P is None else sp.csc_matrix(np.triu(P))
    solution = clarabel.DefaultSolver(quadratic, q, sp.csc_matrix(A), b, clarabel_cones(cones), settings).solve()
    return np.array(solution.x), np.array(solution.z), np.array(solution.s)


def clarabel_cones(cones: dict[str, Any]) -> list[Any]:
    """Clarabel's cone objects for a diffcp/SCS dictionary."""
    found: list[Any] = []
    if cones["z"]:
        found.append(clarabel.ZeroConeT(cones["z"]))
    if cones["l"]:
        found.append(clarabel.NonnegativeConeT(cones["l"]))
    return found + [clarabel.SecondOrderConeT(k) for k in cones["q"]]


def project_dual(v: Long, cones: dict[str, Any]) -> tuple[Long, Long, float]:
    """Π_{K*}(v), its derivative and the distance of v to the set where Π is not differentiable.

    Args:
        v: ``[m]``.
        cones: The cones of s (the dual of a zero cone is free; the other two are self-dual).

    Returns:
        ``[m]`` projection, ``[m, m]`` symmetric derivative, margin.
    """
    y = np.zeros_like(v)
    D = np.zeros((len(v), len(v)), np.longdouble)
    zero, linear = cones["z"], cones["l"]
    y[:zero] = v[:zero]
    D[range(zero), range(zero)] = 1
    rows = np.arange(zero, zero + linear)
    y[rows] = np.maximum(v[rows], 0)
    D[rows, rows] = v[rows] > 0
    margin = float(np.abs(v[rows]).min(initial=np.inf))
    start = zero + linear
    for k in cones["q"]:
        block = slice(start, start + k)
        y[block], D[block, block], distance = _project_second_order(v[block])
        margin, start = min(margin, distance), start + k
    return y, D, margin


def _project_second_order(v: Long) -> tuple[Long, Long, float]:
    """The spectral formula: v = λ₊ u₊ + λ₋ u₋ with λ± = t ± ‖w‖, u± = ½ (1, ±w/‖w‖)."""
    t, w, identity = v[0], v[1:], np.eye(len(v), dtype=np.longdouble)
    norm = np.sqrt((w * w).sum())
    margin = float(min(abs(t + norm), abs(t - norm)))
    if t >= norm:
        return v.copy(), identity, margin
    if t <= -norm:
        return np.zeros_like(v), np.zeros_like(identity), margin
    unit = w / norm  # not 0/0: with w = 0 one of the cases above held
    y = 0.5 * (t + norm) * np.concatenate([[1], unit])
    D = np.empty((len(v), len(v)), np.longdouble)
    D[0, 0] = 0.5
    D[0, 1:] = D[1:, 0] = 0.5 * unit
    D[1:, 1:] = 0.5 * (1 + t / norm) * np.eye(len(w)) - 0.5 * (t / norm) * np.outer(unit, unit)
    return y, D, margin


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
