"""Projections onto the cones without a two-line formula, and their derivatives: extended precision, nothing clever.

Kinds are "psd" (in the layout of `gpudiff.svec`), "exp" and "power α"; `reference.py` says what their duals are. Onto a
cone of three rows p − v = λ ∇g(p), g(p) = 0, λ > 0 with g ≥ 0 inside, wherever v is neither in the cone, nor in its
polar, nor over a face; one unknown is left, which bisection finds. The derivative solves these equations linearised.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
EXTENDED = np.longdouble
ROOT = np.sqrt(EXTENDED(2))
SMALLEST = np.sqrt(np.finfo(EXTENDED).tiny)


def alpha(kind: str) -> np.longdouble:
    """The exponent of "power α" or "dual power α"."""
    return EXTENDED(float(kind.split()[-1]))


def project(kind: str, v: Array) -> Array:
    """The nearest point of the cone."""
    v = v.astype(EXTENDED)
    if kind == "psd":
        values, vectors = eigen(matrix(v))
        return vector(vectors @ np.diag(np.maximum(values, 0)) @ vectors.T)
    return project_exp(v) if kind == "exp" else project_power(v, alpha(kind))


def derivative(kind: str, v: Array) -> Array:
    """The Jacobian of `project` away from its kinks."""
    v = v.astype(EXTENDED)
    if kind == "psd":
        return derivative_psd(v)
    p = project(kind, v)
    if np.all(p == v):
        return np.eye(3, dtype=v.dtype)
    if kind == "exp" and v[0] <= 0 and v[1] <= 0:
        return np.diag(np.array([1, 0, v[2] > 0], dtype=v.dtype))
    if np.max(np.abs(p)) <= 1e-17 * np.max(np.abs(v)):
        return np.zeros((3, 3), dtype=v.dtype)
    slope, curvature = (slope_exp(p), curvature_exp(p)) if kind == "exp" else along_power(p, alpha(kind))
    weight = (p - v) @ slope / (slope @ slope)
    # dp = dv + dλ ∇g + λ ∇²g dp, ∇g·dp = 0
    inverse = np.linalg.inv((np.eye(3) - weight * curvature).astype(float)).astype(EXTENDED)
    for _ in range(3):
        inverse = inverse @ (2 * np.eye(3, dtype=EXTENDED) - (np.eye(3) - weight * curvature) @ inverse)
    moved = inverse @ slope
    return inverse - np.outer(moved, slope @ inverse) / (slope @ moved)


# ---- positive semidefinite matrices ----------------------------------------------------------------------------------


def order(rows: int) -> int:
    """k of a cone of k(k+1)/2 rows."""
    return int((np.sqrt(8 * rows + 1) - 1) / 2 + 0.5)


def entries(k: int):
    """Row and column of each entry of the vector of a matrix."""
    return [(i, j) for j in range(k) for i in range(j, k)]


def matrix(v: Array) -> Array:
    X = np.zeros((order(v.size),) * 2, dtype=v.dtype)
    for value, (i, j) in zip(v, entries(len(X)), strict=True):
        X[i, j] = X[j, i] = value if i == j else value / ROOT
    return X


def vector(X: Array) -> Array:
    return np.array([X[i, j] if i == j else ROOT * X[i, j] for i, j in entries(len(X))], dtype=X.dtype)


def eigen(X: Array) -> tuple[Array, Array]:
    """Eigenvalues and, in columns, eigenvectors, by Jacobi's rotations."""
    X, k = X.copy(), len(X)
    U = np.eye(k, dtype=X.dtype)
    negligible = np.finfo(X.dtype).eps * np.max(np.abs(X), initial=0) / 256
    for _ in range(30):
        if np.max(np.abs(X - np.diag(np.diag(X))), initial=0) <= negligible:
            break
        for i in range(k):
            for j in range(i):
                if np.abs(X[i, j]) <= negligible:
                    continue
                turn = (X[j, j] - X[i, i]) / (2 * X[i, j])
                t = (1 if turn >= 0 else -1) / (np.abs(turn) + np.hypot(turn, 1))
                c = 1 / np.hypot(t, 1)
                G = np.eye(k, dtype=X.dtype)
                G[i, i] = G[j, j] = c
                G[i, j], G[j, i] = t * c, -t * c
                X, U = G.T @ X @ G, U @ G
    return np.diag(X).copy(), U


def derivative_psd(v: Array) -> Array:
    values, U = eigen(matrix(v))
    up, size = np.maximum(values, 0), np.abs(values)
    total = size[:, None] + size
    W = np.where(total > 0, (up[:, None] + up) / np.where(total > 0, total, 1), 0)
    columns = [vector(U @ (W * (U.T @ matrix(e) @ U)) @ U.T) for e in np.eye(v.size, dtype=v.dtype)]
    return np.stack(columns, axis=1)


# ---- three rows ------------------------------------------------------------------------------------------------------


def bisect(decreasing, low, high) -> np.longdouble:
    """The positive number where a function changes its sign, as its logarithm: it may be tiny."""
    low, high = np.log(EXTENDED(low)), np.log(EXTENDED(high))
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if decreasing(np.exp(middle)) > 0 else (low, middle)
    return np.exp((low + high) / 2)


def inside_exp(v: Array) -> bool:
    r, s, t = v
    return bool((s > 0 and t > 0 and s * np.log(t / s) >= r) or (s == 0 and r <= 0 and t >= 0))


def polar_exp(v: Array) -> bool:
    r, s, t = v
    return bool((r > 0 and t < 0 and r * (np.log(-t / r) + 1) >= s) or (r == 0 and s <= 0 and t <= 0))


def project_exp(v: Array) -> Array:
    """Nearest point of cl{(r, s, t): s > 0, s·exp(r/s) ≤ t}; with ρ = r/s on its surface ∇g = (−1, ρ − 1, exp(−ρ))."""
    if inside_exp(v):
        return v.copy()
    if polar_exp(v):
        return np.zeros_like(v)
    r, s, t = v
    if r <= 0 and s <= 0:
        return np.array([r, 0, max(t, 0)], dtype=v.dtype)

    # ρ is between 1 − s/r, where p₁ = 0, and r/s, where λ = 0; written by its distance to one of these ends
    def point(distance):
        ratio = 1 - s / r + distance if r > 0 else r / s - distance
        over = 1 + ratio * (ratio - 1)
        return ratio, (r - ratio * s) / over, (r * distance if r > 0 else s + (ratio - 1) * r) / over

    def excess(distance):
        ratio, weight, second = point(distance)
        value = t + weight * np.exp(-ratio) - second * np.exp(ratio)
        return value if r > 0 else -value

    farthest = (r / s - 1 + s / r if s > 0 else 1e4) if r > 0 else 1e4
    ratio, _, second = point(bisect(excess, SMALLEST, farthest))
    return np.array([ratio * second, second, second * np.exp(ratio)], dtype=v.dtype)


def slope_exp(p: Array) -> Array:
    return np.array([-1, np.log(p[2] / p[1]) - 1, p[1] / p[2]], dtype=p.dtype)


def curvature_exp(p: Array) -> Array:
    H = np.zeros((3, 3), dtype=p.dtype)
    H[1, 1], H[1, 2], H[2, 1], H[2, 2] = -1 / p[1], 1 / p[2], 1 / p[2], -p[1] / p[2] ** 2
    return H


def project_power(v: Array, a: np.longdouble) -> Array:
    """Nearest point of {(x, y, z): xᵃ y¹⁻ᵃ ≥ |z|, x, y ≥ 0}, with g = a log x + (1 − a) log y − log |z|."""
    x, y, z = v
    b, size = 1 - a, np.abs(z)
    if x >= 0 and y >= 0 and x**a * y**b >= size:
        return v.copy()
    if x <= 0 and y <= 0 and (-x / a) ** a * (-y / b) ** b >= size:
        return np.zeros_like(v)
    if z == 0:
        return np.array([max(x, 0), max(y, 0), 0], dtype=v.dtype)

    def root(coordinate, share):  # of u² − coordinate·u = share
        half = (np.abs(coordinate) + np.sqrt(coordinate**2 + 4 * share)) / 2
        return half if coordinate >= 0 else share / half

    def point(tip, rest):
        return root(x, a * tip * rest), root(y, b * tip * rest), tip

    def excess(tip, rest):
        first, second, _ = point(tip, rest)
        return a * np.log(first) + b * np.log(second) - np.log(tip)

    # |z| is split into the part that stays and the rest; the smaller one is the unknown
    half, least = size / 2, size * SMALLEST
    if excess(half, half) > 0:
        rest = bisect(lambda rest: -excess(size - rest, rest), least, half)
        p = point(size - rest, rest)
    else:
        tip = bisect(lambda tip: excess(tip, size - tip), least, half)
        p = point(tip, size - tip)
    return np.array([p[0], p[1], p[2] * np.sign(z)], dtype=v.dtype)


def along_power(p: Array, a: np.longdouble) -> tuple[Array, Array]:
    weights = np.array([a, 1 - a, -1], dtype=p.dtype)
    return weights / p, np.diag(-weights / p**2)
