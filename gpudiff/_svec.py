"""Symmetric matrices as vectors and back, in the layout of SCS and diffcp.

The lower triangle column by column, off-diagonal entries times √2, so that ⟨svec(X), svec(Y)⟩ = ⟨X, Y⟩.
"""

from __future__ import annotations

from functools import lru_cache
from math import isqrt, sqrt
from typing import Any

import numpy as np

from gpudiff._arrays import surface
from gpudiff._errors import ShapeError


@lru_cache(maxsize=64)
def layout(order: int) -> tuple[list[int], list[int], list[float]]:
    """Row, column and factor of each entry of the vector of a matrix of this order."""
    columns, rows = np.triu_indices(order)  # the lower triangle by columns is the transposed upper one by rows
    factors = np.where(rows == columns, 1.0, sqrt(2.0))
    return rows.tolist(), columns.tolist(), factors.tolist()


def order_of_matrix(shape: tuple[int, ...]) -> int:
    """The order k of matrices [..., k, k].

    Raises:
        ShapeError: they are not square.
    """
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeError(f"X: expected shape (..., k, k), got {tuple(shape)}")
    return shape[-1]


def order_of_vector(shape: tuple[int, ...]) -> int:
    """The order k of the matrices whose vectors are [..., k(k+1)/2].

    Raises:
        ShapeError: the last extent is no such number.
    """
    length = shape[-1] if shape else -1
    order = (isqrt(8 * length + 1) - 1) // 2 if length >= 0 else 0
    if order * (order + 1) // 2 != length:
        raise ShapeError(f"v: expected shape (..., k(k+1)/2), got {tuple(shape)}")
    return order


def svec(X: Any) -> Any:
    """Symmetric matrices as vectors: lower triangle, column-major, off-diagonal entries times √2.

    Args:
        X: [..., k, k] array or tensor; only the lower triangle is read.

    Returns:
        [..., k(k+1)/2], of the same kind.

    Raises:
        ShapeError: the last two axes are not equal.

    Source: the PSD cone of SCS (O'Donoghue et al. 2016, §2) and diffcp.
    """
    foreign = surface(X)
    if foreign is not None:
        return foreign.svec(X)
    matrices = np.asarray(X)
    rows, columns, factors = layout(order_of_matrix(matrices.shape))
    return matrices[..., rows, columns] * np.asarray(factors, dtype=np.result_type(matrices.dtype, np.float32))


def smat(v: Any) -> Any:
    """The symmetric matrices of vectors: the inverse of `svec`.

    Args:
        v: [..., k(k+1)/2] array or tensor.

    Returns:
        [..., k, k], of the same kind, bitwise symmetric.

    Raises:
        ShapeError: the last extent is not k(k+1)/2 for any k.
    """
    foreign = surface(v)
    if foreign is not None:
        return foreign.smat(v)
    vectors = np.asarray(v)
    order = order_of_vector(vectors.shape)
    rows, columns, factors = layout(order)
    values = vectors / np.asarray(factors, dtype=np.result_type(vectors.dtype, np.float32))
    matrices = np.empty((*vectors.shape[:-1], order, order), dtype=values.dtype)
    matrices[..., rows, columns] = values
    matrices[..., columns, rows] = values
    return matrices
