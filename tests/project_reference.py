"""Projections in extended precision, each with a proof of its own accuracy, and points on which projections are hard.

A cone of three rows is a family of rays P(τ), and its dual a family Y(τ) of rays that are orthogonal to P(τ): where
v = a P(τ) − b Y(τ) with a, b ≥ 0, Π(v) = a P(τ) exactly. A projection does not expand, so whatever is left of
v − (a P − b Y) bounds the error of a P. τ starts from the answer under test, and Newton's method makes it exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LONG = np.longdouble
EXTENDED = np.finfo(LONG).eps < 1e-18  # 80 or 128 bits; otherwise there is nothing to compare with


@dataclass(frozen=True)
class Exponential:
    """The exponential cone."""

    def ray(self, tau, v):
        """P, P', Y and Y' at τ."""
        e, zero, one = np.exp(tau), 0 * tau, 0 * tau + 1
        rays = [(tau, one, e), (one, zero, e), (-one, tau - 1, 1 / e), (zero, one, -1 / e)]
        return [np.stack(ray, -1) for ray in rays]

    def parameter(self, p):
        return p[:, 0] / p[:, 1]

    def contains(self, s):
        r, s, t = s.T
        with np.errstate(all="ignore"):
            return (s > 0) & (t > 0) & (s * np.log(t / s) >= r) | (s == 0) & (r <= 0) & (t >= 0)

    def dual_contains(self, y):
        u, v, w = y.T
        with np.errstate(all="ignore"):
            return (u < 0) & (w > 0) & (v - u * (np.log(-w / u) + 1) >= 0) | (u == 0) & (v >= 0) & (w >= 0)

    inner = (-1, 1, 1)  # inside the cone and inside its dual


@dataclass(frozen=True)
class Power:
    """The power cone with exponent `alpha`."""

    alpha: float

    @property
    def exponents(self):
        return LONG(self.alpha), 1 - LONG(self.alpha)

    def ray(self, tau, v):
        """P, P', Y and Y' at τ = log(x/y)."""
        a, b = self.exponents
        sign = np.where(v[:, 2] < 0, -1, 1) + 0 * tau
        x, y, zero = np.exp(tau * b), np.exp(-tau * a), 0 * tau
        rays = [
            (x, y, sign),
            (b * x, -a * y, zero),
            (a / x, b / y, -sign),
            (-a * b / x, a * b / y, zero),
        ]
        return [np.stack(ray, -1) for ray in rays]

    def parameter(self, p):
        return np.log(p[:, 0] / p[:, 1])

    def contains(self, s):
        a, b = self.exponents
        x, y, z = s[:, 0], s[:, 1], np.abs(s[:, 2])
        with np.errstate(all="ignore"):
            return (x >= 0) & (y >= 0) & ((z == 0) | (a * np.log(x / z) + b * np.log(y / z) >= 0))

    def dual_contains(self, y):
        a, b = self.exponents
        return self.contains(y / np.array([a, b, 1]))

    inner = (1, 1, 0)


def dot(a, b):
    return np.sum(a * b, -1)


def solve_rays(cone, v, tau, steps=4):
    """(p, y, D, r): Π(v), Π_{K*}(−v) and, where neither is zero, DΠ(v) by way of τ; what is left of v."""
    v = v.astype(LONG)
    for _ in range(steps):
        P, dP, Y, dY = cone.ray(tau, v)
        value, slope = dot(v, np.cross(P, Y)), dot(v, np.cross(dP, Y) + np.cross(P, dY))
        tau = tau - value / np.where(slope == 0, 1, slope)
    P, dP, Y, dY = cone.ray(tau, v)
    size = [np.max(np.abs(ray), -1, keepdims=True) for ray in (P, Y)]
    P, dP, Y, dY = P / size[0], dP / size[0], Y / size[1], dY / size[1]
    a, b = np.maximum(dot(v, P) / dot(P, P), 0), np.maximum(-dot(v, Y) / dot(Y, Y), 0)
    p, y = a[:, None] * P, b[:, None] * Y
    left = np.max(np.abs(v - (p - y)), -1)
    # dv = P da − Y db + (a P' − b Y') dτ, and n orthogonal to P and Y sees the last alone.
    turn, n = a[:, None] * dP - b[:, None] * dY, np.cross(P, Y)
    n = n / np.sqrt(dot(n, n))[:, None]
    flat = P / np.sqrt(dot(P, P))[:, None]
    curvature = a * dot(dP, n) / dot(turn, n)
    D = flat[:, :, None] * flat[:, None, :] + curvature[:, None, None] * n[:, :, None] * n[:, None, :]
    return p, y, D, left


def worst_error(cone, v, p, y) -> float:
    """A bound on the error of p for Π(v) and of y for Π_{K*}(−v), over the largest entry of v."""
    v, p, y = (a.astype(LONG) for a in (v, p, y))
    size = np.max(np.abs(v), -1)
    v, p, y = (a[size > 0] / size[size > 0, None] for a in (v, p, y))
    alone = np.minimum(np.max(np.abs(p), -1), np.max(np.abs(y), -1)) <= 1e-17
    apart = ~alone & (np.sum(np.abs(p * y), -1) <= 1e-36)
    bound = np.max(np.abs(v - (p - y)), -1)
    # Moved inside by so much p and y belong to their cones. Where both are nonzero the error is the root of that, for
    # |p − Π(v)|² ≤ pᵀy if they do; but where one is nearly zero the other is as near to v as the cone is.
    for rows, off, error in ((alone, LONG(6e-16), 6e-16), (apart, LONG(1e-33), 1e-16)):
        inside = cone.contains(p[rows] + off * np.array(cone.inner)) & cone.dual_contains(
            y[rows] + off * np.array(cone.inner)
        )
        bound[rows] += np.where(inside, error, np.inf)
    rows = ~(alone | apart)
    exact_p, exact_y, _, left = solve_rays(cone, v[rows], cone.parameter(p[rows]))
    bound[rows] = left + np.max(np.abs(np.stack([exact_p - p[rows], exact_y - y[rows]])), (0, -1))
    assert not np.any(np.isnan(bound))
    return float(np.max(bound))


def triples(cone, rng, count: int) -> np.ndarray:
    """Points for a cone of three rows: all scales, all regions, and close to every edge of each."""
    fifth = count // 5
    parts = []
    for spread in (0, 12):  # of the rows against each other
        parts.append(rng.standard_normal((fifth, 3)) * 10 ** rng.uniform(-spread, spread, (fifth, 3)))
    # On the surface, and off it by anything from rounding to its own size; so for the dual's.
    tau = rng.uniform(-8, 8, fifth).astype(LONG)
    sign = rng.choice([-1.0, 1.0], (fifth, 3))
    P, _, Y, _ = cone.ray(tau, sign)
    size, off = 10 ** rng.uniform(-3, 3, (2, fifth, 1)), 10 ** rng.uniform(-17, 1, (fifth, 1))
    off = off * rng.choice([-1, 0, 1], (fifth, 1))
    unit = [ray / np.max(np.abs(ray), -1, keepdims=True) for ray in (P, Y)]
    parts.append((size[0] * (unit[0] - off * unit[1])).astype(float))
    parts.append((size[1] * (off * unit[0] - unit[1])).astype(float))
    # Coordinates that vanish, or nearly.
    edges = rng.standard_normal((count - 4 * fifth, 3)) * rng.choice(
        [0, 1e-150, 1e-16, 1e-8, 1], (count - 4 * fifth, 3)
    )
    parts.append(edges)
    v = np.concatenate(parts)
    return v * 10 ** rng.choice([-12.0, 0.0, 12.0], (len(v), 1))


def symmetric(rng, count: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors [count, order, order] and eigenvalues in extended precision: simple, equal, nearly so, and zero."""
    basis = np.zeros((count, order, order), LONG) + np.eye(order)
    for _ in range(order):  # a product of reflections is orthogonal to rounding
        w = rng.standard_normal((count, order)).astype(LONG)
        w /= np.sqrt(dot(w, w))[:, None]
        basis -= 2 * np.einsum("bij,bj,bk->bik", basis, w, w)
    values = rng.standard_normal((count, order))
    kind = rng.integers(0, 5, count)
    values[kind == 1] = np.round(values[kind == 1])  # many equal ones, and zeros
    values[kind == 2] = 1 + 1e-9 * values[kind == 2]
    values[kind == 3] *= 10.0 ** -rng.integers(0, 16, (np.sum(kind == 3), order))
    values[kind == 4] = np.sign(values[kind == 4])
    return basis, values.astype(LONG)


def svec(X: np.ndarray) -> np.ndarray:
    """`gpudiff.svec` in extended precision."""
    columns, rows = np.triu_indices(X.shape[-1])
    return X[..., rows, columns] * np.where(rows == columns, LONG(1), np.sqrt(LONG(2)))
