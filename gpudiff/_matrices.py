"""Sparse matrices of a batch of problems: what callers pass, what solvers read of it, and gradients on its pattern.

A matrix argument may be one SciPy matrix of any format (then shared), a list of them, a `SparseBatch`, or, beside a
sparse one, a dense array. Solvers read compressed columns, problem by problem; cotangents are computed for the stored
entries alone, in the order in which the caller stores them, and go back in the caller's format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from gpudiff._errors import DtypeError, ShapeError
from gpudiff._problem import FLOAT32, FLOAT64, Array, as_array, check_shape, show


def is_sparse(value: Any) -> bool:
    """Whether something is a sparse matrix, or a batch of them as a `SparseBatch` or a list."""
    if type(value) is np.ndarray or value is None:
        return False
    if isinstance(value, list | tuple):
        return len(value) > 0 and is_scipy(value[0])  # pyright: ignore[reportUnknownArgumentType]
    return isinstance(value, SparseBatch) or is_scipy(value)


def is_scipy(value: Any) -> bool:
    """Whether something is a sparse matrix or array of SciPy's; SciPy is not imported to find out."""
    return hasattr(value, "tocsc") and hasattr(value, "nnz")


class SparseBatch:
    """A batch of sparse matrices of one pattern: the pattern once, and the values of each.

    Args:
        pattern: SciPy sparse matrix or array [r, c] of any format; its own values do not matter.
        values: [B, nnz] (or [nnz], for one matrix that is shared) in the order of the pattern's stored entries, that of
            `pattern.tocoo()`; for csr, csc and coo that of `pattern.data`.

    Attributes:
        pattern: as given.
        values: as given, as an array.

    Raises:
        DtypeError: the pattern is no sparse matrix, or the values are no real numbers.
        ShapeError: there are not as many values as stored entries.
    """

    __slots__ = ("pattern", "values")

    def __init__(self, pattern: Any, values: Any) -> None:
        if not is_scipy(pattern):
            raise DtypeError(f"pattern: expected a SciPy sparse matrix, got {type(pattern).__name__}")
        self.pattern = pattern
        self.values = as_array("values", values)
        count = stored(pattern)[0].size
        if self.values.ndim not in (1, 2) or self.values.shape[-1] != count:
            raise ShapeError(
                f"values: expected shape ({count},) or (B, {count}), one for each stored entry, got "
                f"{show(self.values.shape)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, r, c), or (r, c) for one shared matrix."""
        return (*self.values.shape[:-1], *self.pattern.shape)

    def __len__(self) -> int:
        return self.values.shape[0] if self.values.ndim == 2 else 1

    def __getitem__(self, index: int) -> Any:
        """Matrix number `index`, in the pattern's format."""
        return in_format(self.pattern, self.values[index] if self.values.ndim == 2 else self.values)

    def toarray(self) -> Array:
        """The matrices as a dense array."""
        if self.values.ndim == 1:
            return self[0].toarray()
        return np.stack([self[i].toarray() for i in range(len(self))]) if len(self) else np.zeros(self.shape)

    def __repr__(self) -> str:
        return f"SparseBatch{self.shape}, {self.values.shape[-1]} stored entries in {self.pattern.format!r}"


def stored(matrix: Any) -> tuple[Array, Array]:
    """Rows and columns of a SciPy matrix's stored entries, in their order."""
    if matrix.format in ("csr", "csc"):
        major = np.repeat(np.arange(matrix.indptr.size - 1, dtype=matrix.indices.dtype), np.diff(matrix.indptr))
        return (major, matrix.indices) if matrix.format == "csr" else (matrix.indices, major)
    entries = matrix.tocoo()
    return entries.row, entries.col


def in_format(like: Any, values: Array) -> Any:
    """A matrix of the format and with the stored entries of another, and with values of its own."""
    if like.format in ("csr", "csc"):
        return type(like)((values, like.indices, like.indptr), shape=like.shape)
    if like.format == "bsr":
        return type(like)((values.reshape(like.data.shape), like.indices, like.indptr), shape=like.shape)
    entries = like.tocoo()
    made = type(entries)((values, (entries.row, entries.col)), shape=like.shape)
    return made if like.format == "coo" else made.asformat(like.format)


class Matrices(Protocol):
    """The matrices of one argument: one for each problem, or one for all.

    Attributes:
        batched: whether the argument has a batch axis.
        count: its extent; 1 without one.
        dtype: element type.
        shape: (r, c).
    """

    batched: bool
    count: int
    dtype: np.dtype[Any]
    shape: tuple[int, int]

    def csc(self, i: int) -> Any:
        """Matrix i (any i where one is shared) in canonical compressed columns, double precision; not to be changed."""
        ...

    def outer(self, i: int, pairs: Sequence[tuple[Array, Array]]) -> Array:
        """Σ u wᵀ at the stored entries of matrix i, in their order."""
        ...

    def at(self, i: int, dense: Array) -> Array:
        """A dense matrix's numbers at the stored entries of matrix i, in their order."""
        ...

    def give(self, values: list[Array]) -> Any:
        """What `outer` gave, once for each matrix of the argument, in the caller's format."""
        ...


def canonical(matrix: Any) -> Any:
    """A SciPy matrix in compressed columns, sorted, without duplicates, in double precision; itself if it is that.

    Raises:
        DtypeError: its elements are no real numbers.
    """
    from scipy import sparse

    columns = matrix if matrix.format == "csc" else matrix.tocsc()
    if not columns.has_canonical_format:
        columns = columns.copy() if columns is matrix else columns
        columns.sum_duplicates()
    if columns.dtype == FLOAT64:
        return columns
    return sparse.csc_matrix((columns.data.astype(FLOAT64), columns.indices, columns.indptr), shape=columns.shape)


def _outer(entries: tuple[Array, Array], pairs: Sequence[tuple[Array, Array]]) -> Array:
    rows, columns = entries
    total = np.zeros(rows.size)
    for u, w in pairs:
        total += u[rows] * w[columns]
    return total


class OneMatrix:
    """A SciPy matrix, shared by the batch."""

    def __init__(self, name: str, matrix: Any) -> None:
        self.matrix = matrix
        self.batched, self.count = False, 1
        self.shape = matrix.shape
        self.dtype = _element(name, matrix.dtype)
        self._csc: Any = None
        self._entries: tuple[Array, Array] | None = None

    def csc(self, i: int) -> Any:
        """See `Matrices`."""
        if self._csc is None:
            self._csc = canonical(self.matrix)
        return self._csc

    def outer(self, i: int, pairs: Sequence[tuple[Array, Array]]) -> Array:
        """See `Matrices`."""
        return _outer(self._stored(), pairs)

    def at(self, i: int, dense: Array) -> Array:
        """See `Matrices`."""
        return dense[self._stored()]

    def _stored(self) -> tuple[Array, Array]:
        if self._entries is None:
            self._entries = stored(self.matrix)
        return self._entries

    def give(self, values: list[Array]) -> Any:
        """See `Matrices`."""
        return in_format(self.matrix, values[0].astype(self.dtype, copy=False))


class ListOfMatrices:
    """A list of SciPy matrices, one for each problem, whose patterns need not agree."""

    def __init__(self, name: str, matrices: Sequence[Any]) -> None:
        self.each = [OneMatrix(f"{name}[{i}]", matrix) for i, matrix in enumerate(matrices)]
        self.batched, self.count = True, len(matrices)
        self.shape = self.each[0].shape
        self.dtype = FLOAT32 if all(one.dtype == FLOAT32 for one in self.each) else FLOAT64
        for i, one in enumerate(self.each):
            if one.shape != self.shape:
                raise ShapeError(f"{name}[{i}]: expected shape {show(self.shape)}, that of {name}[0], got {one.shape}")

    def csc(self, i: int) -> Any:
        """See `Matrices`."""
        return self.each[i % self.count].csc(0)

    def outer(self, i: int, pairs: Sequence[tuple[Array, Array]]) -> Array:
        """See `Matrices`."""
        return self.each[i % self.count].outer(0, pairs)

    def at(self, i: int, dense: Array) -> Array:
        """See `Matrices`."""
        return self.each[i % self.count].at(0, dense)

    def give(self, values: list[Array]) -> Any:
        """See `Matrices`."""
        return [one.give([value]) for one, value in zip(self.each, values, strict=True)]


class OnePattern:
    """A `SparseBatch`: what depends on the pattern alone is done once."""

    def __init__(self, batch: SparseBatch) -> None:
        self.batch = batch
        self.batched, self.count = batch.values.ndim == 2, len(batch)
        self.shape: tuple[int, int] = batch.pattern.shape
        self.dtype = batch.values.dtype
        self._entries = stored(batch.pattern)
        rows, columns = self._entries
        self._order = np.lexsort((rows, columns))
        rows, columns = rows[self._order], columns[self._order]
        first = np.ones(rows.size, bool)
        first[1:] = (np.diff(rows) != 0) | (np.diff(columns) != 0)
        self._starts = None if first.all() else np.flatnonzero(first)  # of runs of the same entry, stored repeatedly
        self._indices = rows[first]
        self._indptr = np.searchsorted(columns[first], np.arange(self.shape[1] + 1))

    def csc(self, i: int) -> Any:
        """See `Matrices`."""
        from scipy import sparse

        values = self.batch.values[i % self.count] if self.batched else self.batch.values
        values = values[self._order].astype(FLOAT64, copy=False)
        if self._starts is not None:
            values = np.add.reduceat(values, self._starts)
        made = sparse.csc_matrix((values, self._indices, self._indptr), shape=self.shape)
        made.has_canonical_format = True
        return made

    def outer(self, i: int, pairs: Sequence[tuple[Array, Array]]) -> Array:
        """See `Matrices`."""
        return _outer(self._entries, pairs)

    def at(self, i: int, dense: Array) -> Array:
        """See `Matrices`."""
        return dense[self._entries]

    def give(self, values: list[Array]) -> Any:
        """See `Matrices`."""
        together = np.reshape(values, self.batch.values.shape)
        return SparseBatch(self.batch.pattern, together.astype(self.dtype, copy=False))


class DenseMatrices:
    """A dense array [r, c] or [B, r, c], as sparse matrices without its zeros; its cotangents are dense."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.batched = array.ndim == 3
        self.count = array.shape[0] if self.batched else 1
        self.shape: tuple[int, int] = array.shape[-2:]
        self.dtype = array.dtype

    def csc(self, i: int) -> Any:
        """See `Matrices`."""
        from scipy import sparse

        return sparse.csc_matrix((self.array[i % self.count] if self.batched else self.array).astype(FLOAT64))

    def outer(self, i: int, pairs: Sequence[tuple[Array, Array]]) -> Array:
        """See `Matrices`."""
        total = np.zeros(self.shape)
        for u, w in pairs:
            total += np.multiply.outer(u, w)
        return total

    def at(self, i: int, dense: Array) -> Array:
        """See `Matrices`."""
        return dense

    def give(self, values: list[Array]) -> Any:
        """See `Matrices`."""
        return np.stack(values).reshape(self.array.shape).astype(self.dtype, copy=False)


def read(name: str, value: Any, shape: tuple[int, int], why: str) -> Matrices:
    """Read a matrix argument.

    Args:
        name: what to call it in messages.
        value: a SciPy matrix, a list of them, a `SparseBatch`, or a dense array.
        shape: what its shape has to be,
        why: and where that comes from.

    Raises:
        ShapeError: it has another shape, or a list is not one of sparse matrices alone.
        DtypeError: elements that are no real numbers.
    """
    if isinstance(value, list | tuple) and value and is_scipy(value[0]):
        for i, matrix in enumerate(value):
            if not is_scipy(matrix):
                raise DtypeError(f"{name}[{i}]: expected a sparse matrix like {name}[0], got {type(matrix).__name__}")
        made: Matrices = ListOfMatrices(name, value)
    elif isinstance(value, SparseBatch):
        made = OnePattern(value)
    elif is_scipy(value):
        made = OneMatrix(name, value)
    else:
        array = as_array(name, value)
        check_shape(name, array, shape, why)
        made = DenseMatrices(array)
    if tuple(made.shape) != shape:
        batch = ("B",) if made.batched else ()
        raise ShapeError(f"{name}: expected shape {show((*batch, *shape))} ({why}), got {show((*batch, *made.shape))}")
    return made


def _element(name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The element type that results have: float32 stays, integers become float64.

    Raises:
        DtypeError: anything else.
    """
    if dtype.kind in "biu" or dtype == FLOAT64:
        return FLOAT64
    if dtype == FLOAT32:
        return FLOAT32
    raise DtypeError(f"{name}: expected float64, float32 or integers, got {dtype}")
