"""Families with cones of positive semidefinite matrices, exponential cones and power cones.

All are built around a point that is drawn first, together with multipliers that make it the only optimum: half of the
inequalities are active, with multipliers from 0.1 to 1.1, and the linear part of the objective is what stationarity
asks for. Rows of these cones are ``s = b − A x``, so that a variable that is an entry of s has −1 in A.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpudiff.bench.batch import Array, Batch, Rng, choose, from_pair, times

ALPHAS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def sdp(rng: Rng, batch: int, *, n: int, linear: int, order: int) -> Batch:
    """One semidefinite matrix and linear inequalities, dense; at the optimum the matrix has half of the full rank.

    With rank r of order k, k(k+1)/2 − r(r+1)/2 of the rows resist a move of x, and the multiplier has as many degrees
    of freedom as a symmetric matrix of order k − r: x and y are unique if n lies between the two counts.
    """
    rank = np.full((batch, 1), (order + 1) // 2)
    return _semidefinite(rng, n, linear, (order,), rank)


def lmi(rng: Rng, batch: int, *, n: int, orders: tuple[int, ...]) -> Batch:
    """Several inequalities B + Σ xᵢ Cᵢ ⪰ 0 of small orders, each of any rank from 1 to the order (then inactive).

    Draws that could leave x or y without uniqueness are drawn again.
    """
    sizes = np.array(orders)
    ranks = np.empty((batch, len(orders)), int)
    todo = np.ones(batch, bool)
    while todo.any():
        ranks[todo] = np.stack([rng.choice(k, int(todo.sum())) + 1 for k in orders], axis=1)
        resisting = (_triangle(sizes) - _triangle(ranks)).sum(axis=1)
        rigid = _triangle(sizes - ranks).sum(axis=1)
        todo = (resisting < n + 2) | (rigid > 0.8 * n)
    return _semidefinite(rng, n, 0, orders, ranks)


def entropy(rng: Rng, batch: int, *, n: int, equalities: int, linear: int) -> Batch:
    """Minimise Σ xᵢ log xᵢ + cᵀx over distributions x with given expectations, some bounded, some exact.

    With t for −x log x, which is at least t where (t, x, 1) is in the exponential cone: variables are x and t.
    """
    x = np.exp(0.5 * rng.standard_normal((batch, n)))
    x /= x.sum(axis=1, keepdims=True)
    rows = rng.standard_normal((batch, 1 + equalities + linear, n))
    rows[:, 0] = 1.0
    slack, multiplier = _inequalities(rng, batch, linear, size=0.2)
    y = np.hstack([rng.standard_normal((batch, 1 + equalities)), multiplier])

    start = rows.shape[1]
    A = np.zeros((batch, start + 3 * n, 2 * n))
    b = np.zeros((batch, start + 3 * n))
    A[:, :start, :n] = rows
    b[:, :start] = times(rows, x)
    b[:, 1 + equalities : start] += slack
    first, one = start + 3 * np.arange(n), np.arange(n)
    A[:, first, n + one] = -1.0
    A[:, first + 1, one] = -1.0
    b[:, first + 2] = 1.0
    c = -(np.log(x) + 1.0) - times(rows.transpose(0, 2, 1), y)
    return Batch(None, np.hstack([c, -np.ones((batch, n))]), A, b, _cones(1 + equalities, linear, ep=n))


def logistic(rng: Rng, batch: int, *, n: int, samples: int) -> Batch:
    """Minimise Σ ωᵢ log(1 + exp(−ℓᵢ aᵢᵀw)) + ½ ρ ‖w‖²: logistic regression with labels ℓ and weights ω.

    A loss is at most u where exp(−ℓ aᵀw − u) ≤ p and exp(−u) ≤ 1 − p: variables are w, u and p.
    """
    features = rng.standard_normal((batch, samples, n))
    truth = 2.0 * rng.standard_normal((batch, n))
    labels = np.sign(times(features, truth) + rng.standard_normal((batch, samples)))
    width = n + 2 * samples
    P = np.zeros((batch, width, width))
    P[:, range(n), range(n)] = rng.uniform(0.1, 1.0, (batch, 1))
    q = np.zeros((batch, width))
    q[:, n : n + samples] = rng.uniform(0.5, 1.5, (batch, samples))

    A = np.zeros((batch, 6 * samples, width))
    b = np.zeros((batch, 6 * samples))
    i = np.arange(samples)
    A[:, 6 * i, :n] = labels[..., None] * features
    A[:, 6 * i, n + i] = A[:, 6 * i + 3, n + i] = 1.0
    b[:, 6 * i + 1] = b[:, 6 * i + 4] = b[:, 6 * i + 5] = 1.0
    A[:, 6 * i + 2, n + samples + i] = -1.0
    A[:, 6 * i + 5, n + samples + i] = 1.0
    return Batch(P, q, A, b, _cones(0, 0, ep=2 * samples))


def power(rng: Rng, batch: int, *, n: int, linear: int, alphas: tuple[float, ...] = ALPHAS) -> Batch:
    """Minimise Σ ωᵢ |aᵢᵀx − gᵢ|^(1/αᵢ) + cᵀx subject to linear inequalities.

    A term is at most t where (t, 1, aᵀx − g) is in the power cone: variables are x and t.
    """
    count = len(alphas)
    exponents = 1.0 / np.array(alphas)
    x = rng.standard_normal((batch, n))
    rows = rng.standard_normal((batch, linear, n))
    slack, multiplier = _inequalities(rng, batch, linear)
    a = rng.standard_normal((batch, count, n))
    left = rng.choice([-1.0, 1.0], (batch, count)) * rng.uniform(0.3, 1.3, (batch, count))  # aᵀx − g
    weights = rng.uniform(0.5, 1.5, (batch, count))
    slope = weights * exponents * np.sign(left) * np.abs(left) ** (exponents - 1.0)

    A = np.zeros((batch, linear + 3 * count, n + count))
    b = np.zeros((batch, linear + 3 * count))
    A[:, :linear, :n] = rows
    b[:, :linear] = times(rows, x) + slack
    first = linear + 3 * np.arange(count)
    A[:, first, n + np.arange(count)] = -1.0
    b[:, first + 1] = 1.0
    A[:, first + 2, :n] = -a
    b[:, first + 2] = left - times(a, x)
    c = -times(a.transpose(0, 2, 1), slope) - times(rows.transpose(0, 2, 1), multiplier)
    return Batch(None, np.hstack([c, weights]), A, b, _cones(0, linear, p=list(alphas)))


def geometric(rng: Rng, batch: int, *, n: int, posynomials: int, terms: int, linear: int) -> Batch:
    """A geometric program in the logarithms x of its variables: a monomial objective, posynomials and monomials ≤ 1.

    Σₖ exp(aₖᵀx + βₖ) ≤ 1 by exponential cones (aₖᵀx + βₖ, 1, vₖ) and a row Σ vₖ ≤ 1: variables are x and v. All
    posynomials are active, and half of the monomials.
    """
    count = posynomials * terms
    x = rng.standard_normal((batch, n))
    rows = rng.standard_normal((batch, linear, n))
    slack, multiplier = _inequalities(rng, batch, linear)
    a = rng.standard_normal((batch, count, n))
    v = np.exp(0.5 * rng.standard_normal((batch, posynomials, terms)))
    v = (v / v.sum(axis=2, keepdims=True)).reshape(batch, count)
    prices = np.repeat(rng.uniform(0.3, 1.3, (batch, posynomials)), terms, axis=1)

    start = posynomials + linear
    A = np.zeros((batch, start + 3 * count, n + count))
    b = np.zeros((batch, start + 3 * count))
    i = np.arange(count)
    A[:, i // terms, n + i] = 1.0
    b[:, :posynomials] = 1.0
    A[:, posynomials:start, :n] = rows
    b[:, posynomials:start] = times(rows, x) + slack
    first = start + 3 * i
    A[:, first, :n] = -a
    b[:, first] = np.log(v) - times(a, x)
    b[:, first + 1] = 1.0
    A[:, first + 2, n + i] = -1.0
    c = -times(a.transpose(0, 2, 1), prices * v) - times(rows.transpose(0, 2, 1), multiplier)
    return Batch(None, np.hstack([c, np.zeros((batch, count))]), A, b, _cones(0, start, ep=count))


def svec(X: Array) -> Array:
    """Symmetric matrices ``[…, k, k]`` as rows of a cone."""
    columns, rows = np.triu_indices(X.shape[-1])
    return X[..., rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))


def _semidefinite(rng: Rng, n: int, linear: int, orders: tuple[int, ...], ranks: NDArray[np.int64]) -> Batch:
    """Dense rows, and matrices of given ranks [B, cones] with multipliers of the remaining ones."""
    batch = len(ranks)
    slack, multiplier = _inequalities(rng, batch, linear)
    y, s = [multiplier], [slack]
    for k, rank in zip(orders, ranks.T, strict=True):
        vectors = np.linalg.qr(rng.standard_normal((batch, k, k)))[0]
        values = rng.uniform(0.3, 1.3, (batch, k))
        inside = np.arange(k) < rank[:, None]
        for part, kept in ((s, inside), (y, ~inside)):
            part.append(svec(np.einsum("bij,bj,bkj->bik", vectors, values * kept, vectors)))
    A = rng.standard_normal((batch, linear + int(_triangle(np.array(orders)).sum()), n))
    return from_pair(rng, None, A, np.hstack(y), np.hstack(s), _cones(0, linear, s=list(orders)))


def _inequalities(rng: Rng, batch: int, rows: int, size: float = 1.0) -> tuple[Array, Array]:
    """Slacks, zero in half of the rows and up to about ``size`` in the others, and multipliers of the active ones."""
    active = choose(rng, batch, rows, rows // 2)
    drawn = rng.uniform(0.1, 1.1, (batch, rows))
    return np.where(active, 0.0, size * drawn), np.where(active, drawn, 0.0)


def _cones(zero: int, linear: int, **others: Any) -> dict[str, Any]:
    return {"z": zero, "l": linear, "q": [], **others}


def _triangle(k: NDArray[np.int64]) -> NDArray[np.int64]:
    return k * (k + 1) // 2
