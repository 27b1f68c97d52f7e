"""Equilibration: polish and derivatives work where entries are about one, for y − s mixes the units of both.

Ruiz's iteration (2001) with Clarabel's rule that the rows of a cone which mixes them share one factor.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gpudiff._blocks import Blocks
from gpudiff._problem import Array

_PASSES = 4
_LIMITS = (1e-4, 1e4)  # of all factors


class Scaled(NamedTuple):
    """A problem in the equilibrated space: P̂ = c D P D, Â = E A D, x = D x̂, y = E ŷ / c, s = ŝ / E.

    Attributes:
        P: compressed columns, or None.
        q: c D q.
        A: compressed rows.
        b: E b.
        D: [n].
        E: [m].
        c: a number.
    """

    P: Any
    q: Array
    A: Any
    b: Array
    D: Array
    E: Array
    c: float


def scaled(P: Any, q: Array, A: Any, b: Array, blocks: Blocks) -> Scaled:
    """Equilibrate.

    Args:
        P: [n, n] compressed columns, or None.
        q: [n].
        A: [m, n] compressed columns.
        b: [m].
        blocks: of the cones.
    """
    from scipy import sparse

    m, n = A.shape
    d, e = np.ones(n), np.ones(m)
    rows = A.tocsr()
    by_column, by_row = np.abs(A.data), np.abs(rows.data)
    in_P = None if P is None else (np.abs(P.data), P.indices, P.indptr)
    for _ in range(_PASSES):
        columns = d * _largest(by_column * e[A.indices], A.indptr)
        if in_P is not None:
            columns = np.maximum(columns, d * _largest(in_P[0] * d[in_P[1]], in_P[2]))
        across = e * _largest(by_row * d[rows.indices], rows.indptr)
        for group in blocks.scaled_as_one:
            across[group] = across[group].max(axis=1, keepdims=True)
        d = np.clip(d / np.sqrt(np.where(columns > 0, columns, 1)), *_LIMITS)
        e = np.clip(e / np.sqrt(np.where(across > 0, across, 1)), *_LIMITS)
    size = float(np.max(np.abs(d * q), initial=0.0))
    if in_P is not None and n:
        size = max(size, float(np.mean(d * _largest(in_P[0] * d[in_P[1]], in_P[2]))))
    c = float(np.clip(1 / size, *_LIMITS)) if size > 0 else 1.0
    values = rows.data * np.repeat(e, np.diff(rows.indptr)) * d[rows.indices]
    new_A = sparse.csr_matrix((values, rows.indices, rows.indptr), shape=rows.shape)
    if P is None:
        return Scaled(None, c * d * q, new_A, e * b, d, e, c)
    values = P.data * (c * np.repeat(d, np.diff(P.indptr))) * d[P.indices]
    return Scaled(sparse.csc_matrix((values, P.indices, P.indptr), shape=P.shape), c * d * q, new_A, e * b, d, e, c)


def _largest(values: Array, indptr: Array) -> Array:
    """The largest of the values of each column or row; 0 of an empty one."""
    out = np.zeros(indptr.size - 1)
    full = np.diff(indptr) > 0
    if full.any():
        out[full] = np.maximum.reduceat(values, indptr[:-1][full])
    return out
