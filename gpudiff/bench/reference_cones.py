"""Projections onto single cones and their derivatives in extended precision, for the benchmark's reference.

Nothing here is shared with the kernels. Matrices are diagonalised by Jacobi's rotations. A cone of three rows is a
family of rays P(τ), its polar one of rays −Y(τ) with P(τ) ⟂ Y(τ), and a point v outside of both is a P(τ) − b Y(τ) for
one τ and some a, b > 0. A monotone function has its zero at this τ: Newton's method within a bracket finds it. With n
orthogonal to P and Y,

    dv = P da − Y db + (a P' − b Y') dτ     gives     DΠ(v) = P Pᵀ / ‖P‖² + (a P'·n) / ((a P' − b Y')·n) n nᵀ.

Projections onto dual cones come with those onto cones: v = Π_K(v) − Π_{K*}(−v) (Moreau).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Long = NDArray[np.longdouble]
Projection = tuple[Long, Long, float]  # Π(v), DΠ(v), distance of v to the set where Π has a kink
Pair = tuple[Long, Long, Long, float]  # the same with Π_{K*}(−v) in second place
_ROOT = np.sqrt(np.longdouble(2))
_EPS = float(np.finfo(np.longdouble).eps)


def blocks(cones: dict[str, Any]) -> Iterator[tuple[str, slice, float]]:
    """The cones of an SCS dictionary in the order of their rows: key, rows, and the exponent or the order, if any.

    Zero and nonnegative rows are one block each; the exponent of a dual power cone is negative.
    """
    start = 0
    sizes: list[tuple[str, int, float]] = [("z", cones["z"], 0.0), ("l", cones["l"], 0.0)]
    sizes += [("q", k, 0.0) for k in cones["q"]]
    sizes += [("s", k * (k + 1) // 2, float(k)) for k in cones.get("s", [])]
    sizes += [(key, 3, 0.0) for key in ("ep", "ed") for _ in range(cones.get(key, 0))]
    sizes += [("p", 3, float(alpha)) for alpha in cones.get("p", [])]
    for key, size, parameter in sizes:
        if size:
            yield key, slice(start, start + size), parameter
        start += size


def project_dual(v: Long, cones: dict[str, Any]) -> Projection:
    """Π_{K*}(v), its derivative and the distance of v to the set where Π is not differentiable.

    Args:
        v: ``[m]``.
        cones: The cones of s, whose duals are projected onto.

    Returns:
        ``[m]`` projection, ``[m, m]`` symmetric derivative, margin (to first order for cones of three rows).
    """
    y, margin = np.zeros_like(v), np.inf
    D = np.zeros((len(v), len(v)), np.longdouble)
    for key, rows, parameter in blocks(cones):
        y[rows], D[rows, rows], distance = _project_dual(key, v[rows], parameter)
        margin = min(margin, distance)
    return y, D, margin


def _project_dual(key: str, v: Long, parameter: float) -> Projection:
    """The projection of one block onto the dual of its cone."""
    match key:
        case "z":
            return v, np.eye(len(v), dtype=v.dtype), np.inf
        case "l":
            return np.maximum(v, 0), np.diag((v > 0).astype(v.dtype)), float(np.abs(v).min())
        case "q":
            return project_second_order(v)
        case "s":
            return project_semidefinite(v)
        case "ep":
            return _dual(project_exponential(-v))
        case "ed":
            return _primal(project_exponential(v))
        case _:
            return _primal(project_power(v, -parameter)) if parameter < 0 else _dual(project_power(-v, parameter))


def _primal(found: Pair) -> Projection:
    p, _, D, margin = found
    return p, D, margin


def _dual(found: Pair) -> Projection:
    """That of the dual cone at the opposite point."""
    _, y, D, margin = found
    return y, np.eye(len(y), dtype=y.dtype) - D, margin


def project_second_order(v: Long) -> Projection:
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


# --- semidefinite matrices -------------------------------------------------------------------------------------------


def project_semidefinite(v: Long) -> Projection:
    """Negative eigenvalues become zero; the derivative weighs entries in the eigenvectors' basis."""
    k = int(np.sqrt(2 * len(v)))
    columns, rows = np.triu_indices(k)
    off = rows != columns
    X = np.zeros((k, k), v.dtype)
    X[rows, columns] = X[columns, rows] = np.where(off, v / _ROOT, v)
    values, U = eigen(X)
    up, size = np.maximum(values, 0), np.abs(values)
    total = size[:, None] + size
    weights = (up[:, None] + up) / np.where(total > 0, total, 1)
    # Columns: the vectors of the matrices (uᵢ uⱼᵀ + uⱼ uᵢᵀ)/√2, i ≠ j, and uᵢ uᵢᵀ, an orthonormal basis.
    left, right = U[:, rows], U[:, columns]
    basis = (left[rows] * right[columns] + left[columns] * right[rows]) / np.where(off, _ROOT, 2)
    basis *= np.where(off, _ROOT, 1)[:, None]
    p = (U * up) @ U.T
    D = (basis * weights[rows, columns]) @ basis.T
    return p[rows, columns] * np.where(off, _ROOT, 1), D, float(size.min())


def eigen(X: Long) -> tuple[Long, Long]:
    """Eigenvalues and, in columns, eigenvectors: Jacobi's rotations from those in double precision."""
    vectors = np.linalg.eigh(X.astype(float))[1].astype(np.longdouble)
    for _ in range(2):
        vectors = 0.5 * vectors @ (3 * np.eye(len(vectors), dtype=vectors.dtype) - vectors.T @ vectors)
    negligible = 0.01 * _EPS * float(np.abs(X).max())
    for _ in range(8):
        Y = vectors.T @ X @ vectors
        pairs = np.argwhere(np.abs(np.tril(Y, -1)) > negligible)
        if len(pairs) == 0:
            break
        for i, j in pairs:
            both = vectors[:, [j, i]]
            (a, c), (_, b) = both.T @ X @ both
            if abs(c) <= negligible:
                continue
            turn = (b - a) / (2 * c)
            t = (1 if turn >= 0 else -1) / (abs(turn) + np.hypot(turn, np.longdouble(1)))
            cosine = 1 / np.hypot(t, np.longdouble(1))
            vectors[:, [j, i]] = both @ (cosine * np.array([[1, t], [-t, 1]], vectors.dtype))
    return np.diag(vectors.T @ X @ vectors).copy(), vectors


# --- cones of three rows ---------------------------------------------------------------------------------------------


def project_exponential(v: Long) -> Pair:
    """Onto cl{(r, s, t): s > 0, s exp(r/s) ≤ t}."""
    r, s, t = v
    zero, identity = np.zeros_like(v), np.eye(3, dtype=v.dtype)
    if s > 0 and t > 0 and s * np.log(t / s) >= r:
        return v, zero, identity, _to_first_order(s * np.log(t / s) - r, [-1, np.log(t / s) - 1, s / t])
    if r > 0 and t < 0 and r * (1 + np.log(-t / r)) >= s:
        return zero, -v, 0 * identity, _to_first_order(r * (1 + np.log(-t / r)) - s, [np.log(-t / r), -1, r / t])
    if r <= 0 and s <= 0:  # nearest to a face: (r, 0, t₊)
        p = np.array([r, 0, max(t, 0)], v.dtype)
        return p, p - v, np.diag(np.array([1, 0, t > 0], v.dtype)), float(min(-r, -s, abs(t)))

    # The rows r and s give a and b for each τ between the zeros of the one and of the other; t and the product ab of
    # p_t and y_t give those. What is left of p_t = a exp(τ) increases. The distances to both zeros are kept apart
    # from τ, for they may be far smaller; x is their logit, or the logarithm of the one that there is.
    low = 1 - s / r if r > 0 else np.longdouble(0)
    high = r / s if s > 0 else np.longdouble(0)

    def rates(x: np.longdouble) -> tuple[np.longdouble, ...]:
        """τ, dτ/dx, a, b, a'/a, b'/b, p_t and y_t."""
        above, below = np.exp(x), np.exp(-x)
        if r > 0 and s > 0:
            width = ((r - s) ** 2 + r * s) / (r * s)
            above, below = width / (1 + below), width / (1 + above)
        tau = low + above if r > 0 and (s <= 0 or x < 0) else high - below
        m, bend = tau * tau - tau + 1, (2 * tau - 1) / (tau * tau - tau + 1)
        a, da = (r * above, 1 / above) if r > 0 else (s - (1 - tau) * r, r / (s - (1 - tau) * r))
        b, db = (s * below, -1 / below) if s > 0 else (r - tau * s, -s / (r - tau * s))
        a, b = a / m, b / m
        larger = (abs(t) + np.sqrt(t * t + 4 * a * b)) / 2
        smaller = a * b / larger
        pt, yt = (larger, smaller) if t >= 0 else (smaller, larger)
        speed = above * below / (above + below) if r > 0 and s > 0 else above if r > 0 else below
        return tau, speed, a, b, da - bend, db - bend, pt, yt

    def value(x: np.longdouble) -> tuple[np.longdouble, np.longdouble]:
        tau, speed, a, b, da, db, pt, yt = rates(x)
        left = tau + (np.log(a) - np.log(pt) if t >= 0 else np.log(yt) - np.log(b))
        return left, (1 + da - (da + db) * yt / (pt + yt)) * speed

    tau, _, a, b, _, _, pt, yt = rates(_increasing_zero(value))
    p, y = np.array([a * tau, a, pt], v.dtype), np.array([-b, (tau - 1) * b, yt], v.dtype)
    return _between(p, y, np.array([a, 0, pt], v.dtype), np.array([0, b, -yt], v.dtype))


def project_power(v: Long, alpha: float) -> Pair:
    """Onto {(x, y, z): x^α y^(1−α) ≥ |z|, x ≥ 0, y ≥ 0}."""
    x, y, z = v
    a, b = np.longdouble(alpha), 1 - np.longdouble(alpha)
    size, zero = abs(z), np.zeros_like(v)
    identity = np.eye(3, dtype=v.dtype)
    inner = x**a * y**b if x >= 0 and y >= 0 else np.longdouble(-1)
    if inner >= size:
        slopes = [a * inner / x, b * inner / y, 1] if inner > 0 else [1, 1, 1]
        return v, zero, identity, _to_first_order(inner - size, slopes)
    inner = (-x / a) ** a * (-y / b) ** b if x <= 0 and y <= 0 else np.longdouble(-1)
    if inner >= size:
        slopes = [a * inner / x, b * inner / y, 1] if inner > 0 else [1, 1, 1]
        return zero, -v, 0 * identity, _to_first_order(inner - size, slopes)
    if size == 0:  # one of x and y is negative: nearest to a face
        negative, positive, exponent = (x, y, a) if x < 0 else (y, x, b)
        last = positive / (positive - 2 * negative) if exponent == 0.5 else exponent < 0.5
        D = np.diag(np.array([x > 0, y > 0, last], v.dtype))
        return zero + np.maximum(v, 0), zero + np.maximum(-v, 0), D, float(min(abs(x), abs(y)))

    # With θ = |p_z|/|z|: p_x and p_y are roots of p² − x p = α θ (1 − θ) z², and 1 − α for y; τ = log(θ/(1 − θ)).
    def coordinate(given: Any, product: np.longdouble) -> tuple[np.longdouble, np.longdouble]:
        root = np.sqrt(given * given + 4 * product)
        return (given + root) / 2 if given > 0 else 2 * product / (root - given), root

    def value(tau: np.longdouble) -> tuple[np.longdouble, np.longdouble]:
        theta = 1 / (1 + np.exp(-tau))
        rest = 1 / (1 + np.exp(tau))
        product, slope = theta * rest * size * size, theta * rest * (rest - theta) * size * size
        (px, root_x), (py, root_y) = coordinate(x, a * product), coordinate(y, b * product)
        left = np.log(theta * size) - a * np.log(px) - b * np.log(py)
        return left, rest - a * a * slope / (px * root_x) - b * b * slope / (py * root_y)

    tau = _increasing_zero(value)
    theta, rest = 1 / (1 + np.exp(-tau)), 1 / (1 + np.exp(tau))
    product = theta * rest * size * size
    px, py = coordinate(x, a * product)[0], coordinate(y, b * product)[0]
    yx, yy = a * product / px, b * product / py
    p, y = np.array([px, py, theta * z], v.dtype), np.array([yx, yy, -rest * z], v.dtype)
    return _between(p, y, np.array([b * px, -a * py, 0], v.dtype), np.array([-b * yx, a * yy, 0], v.dtype))


def _between(p: Long, y: Long, dp: Long, dy: Long) -> Pair:
    """Of p − y, with a P' and b Y'; the cone and its polar are as far away as y and p are long."""
    margin = float(min(np.sqrt(p @ p), np.sqrt(y @ y)))
    unit = p / np.sqrt(p @ p)
    n = np.cross(unit, y / np.sqrt(y @ y))
    D = np.outer(unit, unit) + (dp @ n) / ((dp - dy) @ n) * np.outer(n, n) / (n @ n)
    return p, y, np.asarray(D, np.longdouble), margin


def _to_first_order(value: np.longdouble, gradient: list[Any]) -> float:
    """Distance to the zeros of a function with this value and gradient."""
    g = np.array(gradient, np.longdouble)
    return float(value / np.sqrt(g @ g))


def _increasing_zero(value: Callable[[np.longdouble], tuple[np.longdouble, np.longdouble]]) -> np.longdouble:
    """The zero of an increasing function by Newton's method on (value, derivative), halving a bracket if that fails."""
    low, high, reach = np.longdouble(-np.inf), np.longdouble(np.inf), np.longdouble(1)
    tau = np.longdouble(0)
    for k in range(400):
        f, slope = value(tau)
        if f == 0:
            break
        low, high = (tau, high) if f < 0 else (low, tau)
        following = tau - f / slope if slope > 0 else np.longdouble(np.nan)
        if not low < following < high or k % 4 == 3:  # every fourth step halves, however well Newton's went
            reach *= 2
            far = high - reach if np.isinf(low) else low + reach
            following = (low + high) / 2 if np.isfinite(high - low) else far
        if abs(following - tau) <= _EPS * max(1, abs(tau)) or high - low <= 2 * _EPS * max(1, abs(tau)):
            return following
        tau = following
    return tau
