"""A batch of problems as data, and what the generators of the families share.

Cones are diffcp/SCS dictionaries, so that the generators depend on nothing but NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True)
class Batch:
    """A batch of problems: minimise ½ xᵀP x + qᵀx subject to A x + s = b, s ∈ K.

    Attributes:
        P: ``[B, n, n]``, or ``[n, n]`` shared by the batch, or None for a linear objective.
        q: ``[B, n]``.
        A: ``[B, m, n]``, or ``[m, n]`` shared by the batch.
        b: ``[B, m]``.
        cones: ``{"z": rows, "l": rows, "q": [rows, …]}`` and, where there are such cones, ``"s": [order, …]``,
            ``"ep": count``, ``"ed": count`` and ``"p": [alpha, …]``; rows come in this order. Those of a matrix are its
            lower triangle, column by column, off-diagonal entries times √2.
    """

    P: Array | None
    q: Array
    A: Array
    b: Array
    cones: dict[str, Any]

    @property
    def size(self) -> int:
        """Number of problems."""
        return self.q.shape[0]

    @property
    def n(self) -> int:
        """Number of variables."""
        return self.q.shape[1]

    @property
    def m(self) -> int:
        """Number of rows of A."""
        return self.b.shape[1]

    @property
    def shared(self) -> bool:
        """Whether P and A are common to the batch."""
        return self.A.ndim == 2

    def take(self, start: int, stop: int) -> Batch:
        """The problems ``start … stop − 1`` as a batch of their own (views)."""
        rows = slice(start, stop)
        P = self.P if self.P is None or self.P.ndim == 2 else self.P[rows]
        A = self.A if self.A.ndim == 2 else self.A[rows]
        return Batch(P, self.q[rows], A, self.b[rows], self.cones)

    def problem(self, i: int) -> tuple[Array | None, Array, Array, Array]:
        """P, q, A, b of problem i, without a batch axis."""
        P = self.P if self.P is None or self.P.ndim == 2 else self.P[i]
        return P, self.q[i], self.A if self.A.ndim == 2 else self.A[i], self.b[i]


def from_pair(rng: Rng, P: Array | None, A: Array, y: Array, s: Array, cones: dict[str, Any]) -> Batch:
    """The problem that (x, y, s) solves, for a random x."""
    x = rng.standard_normal((A.shape[0], A.shape[2]))
    q = -times(A.transpose(0, 2, 1), y) - (0.0 if P is None else times(P, x))
    return Batch(P, q, A, times(A, x) + s, cones)


def choose(rng: Rng, batch: int, rows: int, count: int) -> NDArray[np.bool_]:
    """A mask [batch, rows] with exactly count entries set in each row."""
    return rng.permuted(np.tile(np.arange(rows) < count, (batch, 1)), axis=1)


def times(M: Array, v: Array) -> Array:
    """A product of a matrix and a vector for each problem."""
    return (M @ v[..., None])[..., 0]


def symmetric(P: Array) -> Array:
    """P made exactly symmetric: products of matrices are so only up to rounding."""
    return 0.5 * (P + np.swapaxes(P, -1, -2))
