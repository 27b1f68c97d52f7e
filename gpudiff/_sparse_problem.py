"""A checked batch of problems whose matrices are sparse; what `gpudiff._problem` is for dense ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gpudiff._cones import Nonnegative, Product, as_product
from gpudiff._errors import DataError, ShapeError
from gpudiff._matrices import DenseMatrices, Matrices, read, stored
from gpudiff._problem import DATA, FLOAT32, FLOAT64, Array, Problem, as_array, as_cost, check_shape

_SYMMETRIC = {FLOAT64: 1e-10, FLOAT32: 1e-5}  # relative to the largest entry, as for dense matrices


@dataclass(slots=True, eq=False)
class SparseProblem:
    """What `Problem` is, with `Matrices` for P and A (None as there); the element type is that of the results."""

    P: Matrices | None
    q: Array
    A: Matrices | None
    b: Array | None
    cones: Product
    batch: int
    batched: bool
    n: int
    m: int
    dtype: np.dtype[Any]
    kept: Any = None

    device = None

    @property
    def lead(self) -> tuple[int, ...]:
        """The batch axis of results: (B,) or ()."""
        return (self.batch,) if self.batched else ()

    def data(self, name: str) -> Any:
        """The argument called `name`, one of `DATA`."""
        return getattr(self, name)

    def describe(self) -> str:
        """Sizes for a message."""
        batch = f"B={self.batch}, " if self.batched else ""
        return f"{batch}n={self.n}, m={self.m}, sparse, {self.dtype}"

    def vector(self, name: str, i: int) -> Array:
        """Problem i's q or b in double precision."""
        array = getattr(self, name)
        if array is None:
            return np.zeros(0)
        if array.ndim == 2:
            array = array[i % array.shape[0]]
        return array.astype(FLOAT64, copy=False)


def from_dense(problem: Problem) -> SparseProblem:
    """A dense problem in host memory as a sparse one; its cotangents stay dense."""
    P, A = (None if array is None else DenseMatrices(array) for array in (problem.P, problem.A))
    rest = (problem.cones, problem.batch, problem.batched, problem.n, problem.m, problem.dtype)
    return SparseProblem(P, problem.q, A, problem.b, *rest)


def as_sparse_problem(P: Any, q: Any, A: Any, b: Any, cones: Any) -> SparseProblem:
    """Check the data of `gpudiff.solve` where P or A is sparse.

    Args:
        P: what `gpudiff._matrices.read` takes, or None.
        q: [n] or [B, n].
        A: like P, [m, n].
        b: [m] or [B, m].
        cones: what `as_product` reads.

    Raises:
        ArgumentError: a subclass of it, with a message that names the argument.
    """
    product = as_product(cones)
    m = product.rows
    cost = as_cost(q)
    n = cost.shape[-1]
    quadratic = None if P is None else read("P", P, (n, n), f"n={n} from q")
    if m > 0 and (A is None or b is None):
        raise ShapeError(f"{'A' if A is None else 'b'}: expected values, for the cones have {m} rows, got None")
    matrix = None if A is None else read("A", A, (m, n), f"m={m} rows of the cones, n={n} from q")
    vector = None if b is None else as_array("b", b)
    if vector is not None:
        check_shape("b", vector, (m,), f"m={m} rows of the cones")
    batch, batched = _batch(quadratic, cost, matrix, vector)
    given = [each for each in (quadratic, cost, matrix, vector) if each is not None]
    dtype = FLOAT32 if all(each.dtype == FLOAT32 for each in given) else FLOAT64
    return SparseProblem(quadratic, cost, matrix, vector, product, batch, batched, n, m, dtype)


def _batch(P: Matrices | None, q: Array, A: Matrices | None, b: Array | None) -> tuple[int, bool]:
    """The batch extent and whether there is a batch axis.

    Raises:
        ShapeError: two extents differ and neither is 1.
    """
    batch, batched, first = 1, False, ""
    for name, value in zip(DATA, (P, q, A, b), strict=True):
        if value is None:
            continue
        has = value.ndim == 2 if isinstance(value, np.ndarray) else value.batched
        if not has:
            continue
        batched = True
        extent = value.shape[0] if isinstance(value, np.ndarray) else value.count
        if extent in (1, batch):
            continue
        if batch != 1:
            raise ShapeError(
                f"{name}: expected a batch axis of extent {batch} (that of {first}) or 1, or none, got {extent}"
            )
        batch, first = extent, name
    return batch, batched


def symmetric(P: Any, dtype: np.dtype[Any], where: str) -> Any:
    """P itself where it is symmetric, its symmetric part where it is up to rounding.

    Args:
        P: canonical compressed columns.
        dtype: element type of the caller's P.
        where: how a message begins: "P[" or "P[3, ".

    Raises:
        DataError: it is not; the message names the two entries that differ most.
    """
    T = P.T.tocsc()
    if np.array_equal(T.indptr, P.indptr) and np.array_equal(T.indices, P.indices):
        if np.array_equal(T.data, P.data):
            return P
        difference = P.copy()
        difference.data = P.data - T.data
    else:
        difference = (P - T).tocsc()
    gaps = np.nan_to_num(np.abs(difference.data))
    largest = float(np.max(np.nan_to_num(np.abs(P.data)), initial=0.0))
    worst = int(np.argmax(gaps)) if gaps.size else 0
    if gaps.size and gaps[worst] > _SYMMETRIC[dtype] * largest:
        rows, columns = stored(difference)
        i, j = int(rows[worst]), int(columns[worst])
        raise DataError(
            f"P: expected symmetric matrices (both triangles filled in), got {where}{i}, {j}] = {float(P[i, j])!r} "
            f"and {where}{j}, {i}] = {float(P[j, i])!r}"
        )
    if not np.isfinite(P.data).all():
        return P
    middle = ((P + T) / 2).tocsc()
    middle.sum_duplicates()
    return middle


def upper(P: Any) -> Any:
    """The upper triangle of a matrix in canonical compressed columns."""
    from scipy import sparse

    rows, columns = stored(P)
    kept = rows <= columns
    indptr = np.concatenate([[0], np.cumsum(kept)])[P.indptr]
    return sparse.csc_matrix((P.data[kept], rows[kept], indptr), shape=P.shape)


@lru_cache(maxsize=64)
def may_be_absent(product: Product) -> Array:
    """Which rows may have +inf in b: those of nonnegative cones; bool [m]."""
    parts = [np.full(cone.rows, isinstance(cone, Nonnegative)) for cone in product.cones]
    return np.concatenate([np.zeros(0, bool), *parts])


def without(product: Product, present: Array) -> Product:
    """The cones of the rows that are present."""
    cones: list[Any] = []
    start = 0
    for cone in product.cones:
        rows = present[start : start + cone.rows]
        start += cone.rows
        cones.append(cone if rows.all() else Nonnegative(int(rows.sum())))
    return as_product(cones)
