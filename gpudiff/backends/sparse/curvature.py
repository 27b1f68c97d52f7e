"""Projections onto the dual cone and their derivatives in sparse form, all cones of one kind at once.

With D = DΠ_{K*}(v) = Tᵀ Θ T, this gives what the derivative's system is made of: rows T with l of D's eigenvalues other
than 0 (T = √l Qᵀ), lc = 1 − l, and for second-order cones one column X beside them that replaces a dense block:

    zero cone        T = I, lc = 0
    nonnegative      T = I on rows with v > 0, lc = 0; no rows elsewhere
    second-order     inside K: T = I, lc = 0; inside −K: nothing; between, with u = (1, x̄)/√2 and θ = (t + ‖x‖)/(2‖x‖):
                     rows √θ (0, I) with lc = 1 − θ, kept orthogonal to x̄ by the column X = x̄, and the row u with lc = 0
    PSD              rows √lᵢⱼ svec(uᵢ uⱼᵀ + uⱼ uᵢᵀ) of an eigendecomposition, a dense block of k(k+1)/2 columns
    three rows       eigenvectors of the 3×3 matrix D

A PSD cone above `EXPLICIT_ORDER` stays an operator: rotate, weigh, rotate back, O(k³).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gpudiff._blocks import Blocks
from gpudiff._cones import SecondOrder, as_product
from gpudiff._problem import Array
from gpudiff._svec import layout, smat, svec
from gpudiff.backends.cpu import CpuBackend

# Dense blocks of k(k+1)/2 rows and columns up to this order: 465 × 465 numbers, which a factorisation takes in some
# milliseconds. Order 100 would be 5050 × 5050, minutes in a sparse factorisation against seconds of matrix products.
EXPLICIT_ORDER = 30

_SMALLEST = 1e-14  # eigenvalues of D below are rounding, and 0


@dataclass(slots=True)
class Rotated:
    """A large PSD cone's part of T as an operator on its rows.

    Attributes:
        rows: of the cone.
        start: of its part among the rows of T.
        vectors: eigenvectors in columns.
        root: √l in the layout of `svec`.
    """

    rows: Array
    start: int
    vectors: Array
    root: Array

    @property
    def span(self) -> slice:
        """Its part of the rows of T."""
        return slice(self.start, self.start + self.rows.size)

    def forward(self, r: Array) -> Array:
        """√l Qᵀ r."""
        return self.root * self._rotated(self.vectors.T, r)

    def adjoint(self, eta: Array) -> Array:
        """Q √l η."""
        return self._rotated(self.vectors, self.root * eta)

    def _rotated(self, rotation: Array, vector: Array) -> Array:
        """The vector of R X Rᵀ: `svec` and `smat` without what they do for arrays of all kinds."""
        i, j, factors = _layout(rotation.shape[0])
        X = np.empty(rotation.shape)
        X[i, j] = X[j, i] = vector / factors
        return (rotation @ X @ rotation.T)[i, j] * factors


@dataclass(slots=True)
class Curvature:
    """D at a point, as the derivative's system takes it.

    Attributes:
        T: [k, m] compressed rows; those of large PSD cones are empty.
        lc: [k].
        X: [k, e] compressed columns, or None.
        rotated: large PSD cones.
        rows: where every row of T picks one row with factor 1, which; else None.
    """

    T: Any
    lc: Array
    X: Any
    rotated: list[Rotated]
    rows: Array | None

    def forward(self, r: Array) -> Array:
        """T r."""
        if self.rows is not None:
            return r[self.rows]
        eta = self.T @ r
        for cone in self.rotated:
            eta[cone.span] = cone.forward(r[cone.rows])
        return eta

    def adjoint(self, eta: Array) -> Array:
        """Tᵀ η."""
        if self.rows is not None:
            out = np.zeros(self.T.shape[1])
            out[self.rows] = eta
            return out
        out = self.T.T @ eta
        for cone in self.rotated:
            out[cone.rows] += cone.adjoint(eta[cone.span])
        return out


def project(v: Array, blocks: Blocks) -> Array:
    """Π_{K*}(v)."""
    y = np.zeros_like(v)
    y[blocks.zero] = v[blocks.zero]
    y[blocks.nonnegative] = np.maximum(v[blocks.nonnegative], 0)
    for rows in blocks.second_order:
        y[rows] = CpuBackend().project(v[rows], as_product([SecondOrder(rows.shape[1])]), True, None)
    for _, rows in blocks.psd:
        values, vectors = np.linalg.eigh(smat(v[rows]))
        y[rows] = svec((vectors * np.maximum(values, 0)[:, None, :]) @ np.swapaxes(vectors, 1, 2))
    for cone, rows in blocks.triples:
        y[rows] = CpuBackend().project(v[rows], as_product([cone]), True, None)
    return y


def curvature(v: Array, blocks: Blocks) -> Curvature:
    """D = DΠ_{K*}(v); at a kink the choice of v > 0."""
    from scipy import sparse

    active = blocks.nonnegative[v[blocks.nonnegative] > 0]
    picked = np.concatenate([blocks.zero, active])
    if blocks.linear:
        picked.sort()
        T = sparse.csr_matrix((np.ones(picked.size), picked, np.arange(picked.size + 1)), (picked.size, v.size))
        return Curvature(T, np.zeros(picked.size), None, [], picked)
    parts = _Parts(v.size)
    parts.pick(picked)
    for rows in blocks.second_order:
        _second_order_rows(parts, v[rows], rows)
    for order, rows in blocks.psd:
        (_rotated_rows if order > EXPLICIT_ORDER else _psd_rows)(parts, v[rows], rows)
    for cone, rows in blocks.triples:
        _triple_rows(parts, v[rows], rows, cone)
    return parts.joined()


class _Parts:
    """T, lc and X as they grow."""

    def __init__(self, m: int) -> None:
        self.m, self.k, self.e = m, 0, 0
        self.T: list[tuple[Array, Array, Array]] = []
        self.X: list[tuple[Array, Array, Array]] = []
        self.lc: list[Array] = []
        self.rotated: list[Rotated] = []

    def pick(self, rows: Array) -> None:
        """Rows of the identity, with lc = 0."""
        self.T.append((self.k + np.arange(rows.size), rows, np.ones(rows.size)))
        self.grow(np.zeros(rows.size))

    def grow(self, lc: Array) -> None:
        """Rows have been added, with these lc."""
        self.lc.append(lc)
        self.k += lc.size

    def joined(self) -> Curvature:
        """The whole."""
        from scipy import sparse

        rows, columns, values = (np.concatenate(part) for part in zip(*self.T, strict=True))
        T = sparse.csr_matrix((values, (rows, columns)), (self.k, self.m))
        lc = np.concatenate(self.lc)
        if not self.e:
            return Curvature(T, lc, None, self.rotated, None)
        rows, columns, values = (np.concatenate(part) for part in zip(*self.X, strict=True))
        X = sparse.csc_matrix((values, (rows, columns)), (self.k, self.e))
        return Curvature(T, lc, X, self.rotated, None)


def _second_order_rows(parts: _Parts, v: Array, rows: Array) -> None:
    """Second-order cones of one size: v and rows [count, k]."""
    t, x = v[:, 0], v[:, 1:]
    norm = np.linalg.norm(x, axis=1)
    inside = t >= norm
    polar = (t <= -norm) & ~inside
    parts.pick(rows[inside].ravel())
    between = ~inside & ~polar
    if not between.any():
        return
    count, size = int(between.sum()), x.shape[1]
    t, norm, rows = t[between], norm[between], rows[between]
    direction = x[between] / norm[:, None]
    theta = (t + norm) / (2 * norm)
    at = parts.k + np.arange(count * size)
    parts.T.append((at, rows[:, 1:].ravel(), np.repeat(np.sqrt(theta), size)))
    parts.X.append((at, np.repeat(parts.e + np.arange(count), size), direction.ravel()))
    parts.grow(np.repeat((norm - t) / (2 * norm), size))
    parts.e += count
    along = np.hstack([np.ones((count, 1)), direction]) / np.sqrt(2)
    parts.T.append((np.repeat(parts.k + np.arange(count), size + 1), rows.ravel(), along.ravel()))
    parts.grow(np.zeros(count))


@lru_cache(maxsize=64)
def _layout(order: int) -> tuple[Array, Array, Array]:
    """Row, column and factor of each entry of a PSD cone's vector."""
    rows, columns, factors = layout(order)
    return np.asarray(rows), np.asarray(columns), np.asarray(factors)


def _weights(values: Array) -> tuple[Array, Array]:
    """The l and 1 − l of all pairs of eigenvalues [k], in the layout of `svec`."""
    i, j, _ = _layout(values.size)
    positive, size = np.maximum(values, 0), np.abs(values)
    total = size[i] + size[j]
    safe = np.where(total > 0, total, 1)
    above = np.where(total > 0, (positive[i] + positive[j]) / safe, 1)
    below = np.where(total > 0, (total - positive[i] - positive[j]) / safe, 0)
    return above, below


def _psd_rows(parts: _Parts, v: Array, rows: Array) -> None:
    """PSD cones of one small order: v and rows [count, k(k+1)/2]."""
    for point, own in zip(v, rows, strict=True):
        values, vectors = np.linalg.eigh(smat(point))
        i, j, factors = _layout(values.size)
        above, below = _weights(values)
        kept = above > _SMALLEST
        a, c = vectors[:, i[kept]], vectors[:, j[kept]]
        scale = np.sqrt(above[kept]) * np.where(i == j, 0.5, np.sqrt(0.5))[kept]
        block = ((a[i] * c[j] + a[j] * c[i]) * factors[:, None] * scale).T
        at = parts.k + np.arange(block.shape[0])
        parts.T.append((np.repeat(at, own.size), np.tile(own, at.size), block.ravel()))
        parts.grow(below[kept])


def _rotated_rows(parts: _Parts, v: Array, rows: Array) -> None:
    """PSD cones of one large order."""
    for point, own in zip(v, rows, strict=True):
        values, vectors = np.linalg.eigh(smat(point))
        above, below = _weights(values)
        parts.rotated.append(Rotated(own, parts.k, vectors, np.sqrt(above)))
        parts.grow(below)


def _triple_rows(parts: _Parts, v: Array, rows: Array, cone: Any) -> None:
    """Cones of three rows, all alike: v and rows [count, 3]."""
    product, backend = as_product([cone]), CpuBackend()
    columns = [backend.project(v, product, True, np.tile(unit, (v.shape[0], 1))) for unit in np.eye(3)]
    D = np.stack(columns, 2)
    values, vectors = np.linalg.eigh((D + np.swapaxes(D, 1, 2)) / 2)
    values = np.clip(values, 0, 1)
    which, each = np.nonzero(values > _SMALLEST)
    block = vectors[which, :, each] * np.sqrt(values[which, each])[:, None]
    parts.T.append((np.repeat(parts.k + np.arange(which.size), 3), rows[which].ravel(), block.ravel()))
    parts.grow(1 - values[which, each])
