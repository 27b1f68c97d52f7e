"""A slow, obvious implementation to test against: everything in extended precision, nothing shared with the kernels.

A problem is anything with unbatched attributes P (or None), q, A, b and cones, a list of (kind, rows) with kind "zero",
"nonnegative", "soc", "psd", "exp", "dual exp", "power α" or "dual power α". A solution is a root of the residual map

    R(x, v) = (P x + q + Aᵀ Π(v),  A x + Π(v) − v − b),     y = Π(v) = Π_{K*}(v),  s = y − v,

(Busseti, Moursi and Boyd 2019; Healey, Nobel and Boyd 2025). `exact` finds it by Newton's method started from Clarabel,
`jvp` and `vjp` solve with its dense Jacobian, and `finite_difference` uses none of these formulas: it solves two
perturbed problems.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import clarabel
import numpy as np
import reference_cones
from scipy import sparse
from scipy.linalg import block_diag

Array = np.ndarray
Cones = list[tuple[str, int]]
EXTENDED = np.longdouble


class Point(NamedTuple):
    """A primal–dual point and its objective."""

    x: Array  # [n]
    y: Array  # [m]
    s: Array  # [m]
    obj: Any


def blocks(cones: Cones):
    """Yield (kind, slice of rows) for each cone in order."""
    start = 0
    for kind, rows in cones:
        yield kind, slice(start, start + rows)
        start += rows


def extended(array) -> Array:
    return np.asarray(array, dtype=EXTENDED)


def norm(array) -> Any:
    """Largest absolute entry; 0 for an empty array."""
    return np.max(np.abs(array), initial=0)


# ---- projections -----------------------------------------------------------------------------------------------------


def project_soc(v: Array) -> Array:
    """Nearest point of {(t, z): t ≥ ‖z‖}."""
    t, z = v[0], v[1:]
    length = np.sqrt(np.sum(z * z))
    if length <= t:
        return v.copy()
    if length <= -t:
        return np.zeros_like(v)
    half = (t + length) / 2
    return np.concatenate([[half], half * z / length])


def derivative_soc(v: Array) -> Array:
    """Jacobian of `project_soc` away from its kinks."""
    t, z = v[0], v[1:]
    length = np.sqrt(np.sum(z * z))
    k = v.size
    if length <= t:
        return np.eye(k, dtype=v.dtype)
    if length <= -t:
        return np.zeros((k, k), dtype=v.dtype)
    u = z / length
    D = np.empty((k, k), dtype=v.dtype)
    D[0, 0] = 1
    D[0, 1:] = D[1:, 0] = u
    ratio = t / length
    D[1:, 1:] = (1 + ratio) * np.eye(k - 1, dtype=v.dtype) - ratio * np.outer(u, u)
    return D / 2


def project_dual(cones: Cones, v: Array) -> Array:
    """Π_{K*}(v); the dual of the zero cone is the whole space. By Moreau Π_{K*}(v) = v + Π_K(−v)."""
    y = v.copy()
    for kind, rows in blocks(cones):
        if kind == "nonnegative":
            y[rows] = np.maximum(v[rows], 0)
        elif kind == "soc":
            y[rows] = project_soc(v[rows])
        elif kind == "psd":
            y[rows] = reference_cones.project(kind, v[rows])
        elif kind.startswith("dual"):
            y[rows] = reference_cones.project(kind[5:], v[rows])
        elif kind != "zero":
            y[rows] = v[rows] + reference_cones.project(kind, -v[rows])
    return y


def project_primal(cones: Cones, v: Array) -> Array:
    """Π_K(v)."""
    return v + project_dual(cones, -v)


def derivative_dual(cones: Cones, v: Array) -> Array:
    """The m × m Jacobian of `project_dual`."""
    D = np.eye(v.size, dtype=v.dtype)
    for kind, rows in blocks(cones):
        if kind == "nonnegative":
            D[rows, rows] = np.diag((v[rows] > 0).astype(v.dtype))
        elif kind == "soc":
            D[rows, rows] = derivative_soc(v[rows])
        elif kind == "psd":
            D[rows, rows] = reference_cones.derivative(kind, v[rows])
        elif kind.startswith("dual"):
            D[rows, rows] = reference_cones.derivative(kind[5:], v[rows])
        elif kind != "zero":
            D[rows, rows] -= reference_cones.derivative(kind, -v[rows])
    return D


# ---- optimality ------------------------------------------------------------------------------------------------------


def objective(problem, x) -> Any:
    """½ xᵀPx + qᵀx."""
    x = extended(x)
    linear = extended(problem.q) @ x
    return linear if problem.P is None else linear + x @ (extended(problem.P) @ x) / 2


class Residuals(NamedTuple):
    """Distances from optimality, each divided by the largest term it is a difference of (and by no less than 1)."""

    primal: float
    dual: float
    gap: float
    outside_cone: float  # of s from K
    outside_dual: float  # of y from K*
    complementarity: float


def residuals(problem, x, y, s) -> Residuals:
    """How far (x, y, s) is from satisfying the optimality conditions, evaluated in extended precision."""
    x, y, s = extended(x), extended(y), extended(s)
    A, q, b = extended(problem.A), extended(problem.q), extended(problem.b)
    Px = np.zeros_like(x) if problem.P is None else extended(problem.P) @ x
    Ax, Aty = A @ x, A.T @ y
    obj = x @ Px / 2 + q @ x
    dual_obj = -(x @ Px) / 2 - b @ y
    return Residuals(
        primal=float(norm(Ax + s - b) / max(1, norm(Ax), norm(s), norm(b))),
        dual=float(norm(Px + q + Aty) / max(1, norm(Px), norm(q), norm(Aty))),
        gap=float(abs(obj - dual_obj) / max(1, min(abs(obj), abs(dual_obj)))),
        outside_cone=float(norm(s - project_primal(problem.cones, s)) / max(1, norm(s))),
        outside_dual=float(norm(y - project_dual(problem.cones, y)) / max(1, norm(y))),
        complementarity=float(abs(s @ y) / max(1, abs(obj))),
    )


# ---- exact solutions -------------------------------------------------------------------------------------------------


def solve_linear(M: Array, rhs: Array) -> Array:
    """Solve M z = rhs by Gaussian elimination with partial pivoting in extended precision."""
    M, rhs = extended(M).copy(), extended(rhs).copy()
    size = M.shape[0]
    for k in range(size):
        pivot = k + int(np.argmax(np.abs(M[k:, k])))
        if M[pivot, k] == 0:
            raise np.linalg.LinAlgError("singular matrix")
        if pivot != k:
            M[[k, pivot]] = M[[pivot, k]]
            rhs[[k, pivot]] = rhs[[pivot, k]]
        factor = M[k + 1 :, k] / M[k, k]
        M[k + 1 :, k:] -= factor[:, None] * M[k, k:]
        rhs[k + 1 :] -= factor * rhs[k] if rhs.ndim == 1 else factor[:, None] * rhs[k]
    for k in reversed(range(size)):
        rhs[k] = (rhs[k] - M[k, k + 1 :] @ rhs[k + 1 :]) / M[k, k]
    return rhs


def jacobian(problem, v: Array) -> Array:
    """The Jacobian [P, AᵀD; A, D − I] of R at any (x, v)."""
    v = extended(v)
    A = extended(problem.A)
    m, n = A.shape
    P = np.zeros((n, n), dtype=EXTENDED) if problem.P is None else extended(problem.P)
    D = derivative_dual(problem.cones, v)
    return np.block([[P, A.T @ D], [A, D - np.eye(m, dtype=EXTENDED)]])


def residual_map(problem, x: Array, v: Array) -> Array:
    """R(x, v)."""
    A = extended(problem.A)
    y = project_dual(problem.cones, v)
    Px = 0 if problem.P is None else extended(problem.P) @ x
    return np.concatenate([Px + extended(problem.q) + A.T @ y, A @ x + y - v - extended(problem.b)])


def clarabel_point(problem, tolerance: float = 1e-10) -> tuple[Array, Array]:
    """(x, v = y − s) from Clarabel."""
    x, y, s = clarabel_solution(problem, tolerance)
    return x, y - s


def clarabel_solution(problem, tolerance: float) -> tuple[Array, Array, Array]:
    """(x, y, s) from Clarabel, where M s stands for s: rows in another order, dual cones as images of others."""
    n = problem.q.size
    images = [clarabel_cone(kind, k) for kind, k in problem.cones if k > 0]
    M = block_diag(*(image for _, image in images)) if images else np.zeros((0, 0))
    cones = [cone for cone, _ in images]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
    P = np.zeros((n, n)) if problem.P is None else np.asarray(problem.P, dtype=float)
    A, b = M @ np.asarray(problem.A, float), M @ np.asarray(problem.b, float)
    args = sparse.csc_matrix(np.triu(P)), np.asarray(problem.q, float), sparse.csc_matrix(A)
    solution = clarabel.DefaultSolver(*args, b, cones, settings).solve()
    if str(solution.status) not in {"Solved", "AlmostSolved"}:
        raise RuntimeError(f"the reference could not solve {problem}: {solution.status}")
    y, s = M.T @ np.asarray(solution.z), np.linalg.solve(M, np.asarray(solution.s)) if M.size else np.zeros(0)
    return extended(solution.x), extended(y), extended(s)


def clarabel_cone(kind: str, k: int) -> tuple[Any, Array]:
    """Clarabel's cone, and M for which s is in ours where M s is in that one."""
    if kind in {"zero", "nonnegative"}:
        return (clarabel.ZeroConeT if kind == "zero" else clarabel.NonnegativeConeT)(k), np.eye(k)
    if kind == "soc":
        return (clarabel.NonnegativeConeT(1) if k == 1 else clarabel.SecondOrderConeT(k)), np.eye(k)
    if kind == "psd":  # the upper triangle column by column is the lower one row by row
        places = reference_cones.entries(reference_cones.order(k))
        lower_by_rows = sorted(range(k), key=lambda e: places[e])
        return clarabel.PSDTriangleConeT(reference_cones.order(k)), np.eye(k)[lower_by_rows]
    if kind.endswith("exp"):
        turned = np.array([[1.0, -1, 0], [-1, 0, 0], [0, 0, 1]])
        return clarabel.ExponentialConeT(), turned if kind.startswith("dual") else np.eye(3)
    a = float(reference_cones.alpha(kind))
    return clarabel.PowerConeT(a), np.diag([1 / a, 1 / (1 - a), 1]) if kind.startswith("dual") else np.eye(3)


def newton(problem, x: Array, v: Array, steps: int = 12) -> Point:
    """Newton's method on R from (x, v), keeping the best iterate; LinAlgError where the Jacobian is singular."""
    n = x.size
    x, v = extended(x), extended(v)
    best = None
    for _ in range(steps):
        value = residual_map(problem, x, v)
        if best is None or norm(value) < best[0]:
            best = norm(value), x, v
        if norm(value) == 0:
            break
        step = solve_linear(jacobian(problem, v), -value)
        x, v = x + step[:n], v + step[n:]
    assert best is not None
    scale = max(1, norm(best[1]), norm(best[2]), norm(problem.q), norm(problem.b))
    if best[0] > 1e3 * max(n, v.size) * np.finfo(EXTENDED).eps * scale:
        raise RuntimeError(f"Newton's method stopped at a residual of {best[0]}")
    y = project_dual(problem.cones, best[2])
    return Point(best[1], y, y - best[2], objective(problem, best[1]))


def exact(problem, start: Point | None = None) -> Point:
    """The solution to extended precision, for problems whose solution is unique and strictly complementary.

    `start` is a nearby point; without one, Clarabel at 1e-10 provides it.
    """
    m, n = problem.A.shape
    if start is not None:
        return newton(problem, extended(start.x), extended(start.y) - extended(start.s))
    if m == 0:
        return newton(problem, np.zeros(n), np.zeros(0))
    return newton(problem, *clarabel_point(problem))


# ---- derivatives -----------------------------------------------------------------------------------------------------


def jvp(problem, point: Point, P=None, q=None, A=None, b=None) -> Point:
    """Tangents of x, y, s and the objective for tangents of the data, by the implicit function theorem."""
    x, y, s = (extended(part) for part in point[:3])
    m, n = problem.A.shape
    v = y - s
    P_dot = np.zeros((n, n)) if P is None else extended(P)
    q_dot = np.zeros(n) if q is None else extended(q)
    A_dot = np.zeros((m, n)) if A is None else extended(A)
    b_dot = np.zeros(m) if b is None else extended(b)
    rhs = -np.concatenate([P_dot @ x + q_dot + A_dot.T @ y, A_dot @ x - b_dot])
    step = solve_linear(jacobian(problem, v), rhs)
    x_dot, v_dot = step[:n], step[n:]
    y_dot = derivative_dual(problem.cones, v) @ v_dot
    gradient = extended(problem.q) + (0 if problem.P is None else extended(problem.P) @ x)
    return Point(x_dot, y_dot, y_dot - v_dot, x @ P_dot @ x / 2 + q_dot @ x + gradient @ x_dot)


class DataGradient(NamedTuple):
    """Cotangents of the data."""

    P: Array  # [n, n], symmetric
    q: Array  # [n]
    A: Array  # [m, n]
    b: Array  # [m]


def vjp(problem, point: Point, x=None, y=None, s=None, obj=None) -> DataGradient:
    """Cotangents of the data for cotangents of x, y, s and the objective; the adjoint of `jvp`."""
    x_star, y_star, s_star = (extended(part) for part in point[:3])
    m, n = problem.A.shape
    v = y_star - s_star
    D = derivative_dual(problem.cones, v)
    x_bar = np.zeros(n, dtype=EXTENDED) if x is None else extended(x)
    y_bar = np.zeros(m, dtype=EXTENDED) if y is None else extended(y)
    s_bar = np.zeros(m, dtype=EXTENDED) if s is None else extended(s)
    obj_bar = EXTENDED(0 if obj is None else obj)
    gradient = extended(problem.q) + (0 if problem.P is None else extended(problem.P) @ x_star)
    seed = np.concatenate([x_bar + obj_bar * gradient, D @ (y_bar + s_bar) - s_bar])
    solution = solve_linear(jacobian(problem, v).T, seed)
    a, c = solution[:n], solution[n:]
    return DataGradient(
        P=-(np.outer(a, x_star) + np.outer(x_star, a)) / 2 + obj_bar * np.outer(x_star, x_star) / 2,
        q=-a + obj_bar * x_star,
        A=-(np.outer(y_star, a) + np.outer(c, x_star)),
        b=c,
    )


class Perturbed:
    """A problem moved along a direction of its data, in extended precision."""

    def __init__(self, problem, step, P=None, q=None, A=None, b=None):
        def moved(value, direction):
            if value is None or direction is None:
                return value if value is None else extended(value)
            return extended(value) + step * extended(direction)

        self.P, self.q = moved(problem.P, P), moved(problem.q, q)
        self.A, self.b = moved(problem.A, A), moved(problem.b, b)
        self.cones = problem.cones


def finite_difference(problem, point: Point, **direction) -> Point:
    """Tangents by a central difference of two exact solutions; good to about 1e-11 with an 80-bit long double."""
    step = np.cbrt(np.finfo(EXTENDED).eps)
    ahead = exact(Perturbed(problem, step, **direction), start=point)
    behind = exact(Perturbed(problem, -step, **direction), start=point)
    return Point(*((f - g) / (2 * step) for f, g in zip(ahead, behind, strict=True)))
