"""The linear system of Newton steps, jvp and vjp, factorised or matrix-free (DESIGN: derivatives).

    [ P  Bᵀ   0 ] [dx]   [g]
    [ B  −lc −X ] [η ] = [h],    B = T A,  T, lc, X from `curvature`
    [ 0  −Xᵀ  0 ] [ζ ]   [0]

It is symmetric and quasi-definite once ε is added to the first and last diagonal block and taken from the second, so
that it can be factorised with any symmetric ordering and pivots from the diagonal; refinement against the system
without ε makes up for it. Rows of nonnegative cones that are not active are not in it. A row that is active and has one
entry alone fixes its variable: both are eliminated first, which is most of an LP or of a portfolio.

SuperLU in its symmetric mode (minimum degree on AᵀA's pattern, no pivoting) was measured to be as fast as QDLDL on
control, portfolio, dispatch and banded problems of 2,000 to 50,000 variables (0.6 to 1.8 times the time), 1.5 to 30
times as fast as with its defaults (COLAMD, partial pivoting), and with as small residuals after two refinements.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpudiff._matrices import stored
from gpudiff._problem import Array
from gpudiff.backends.sparse.curvature import Curvature

EPSILON = 1e-8  # the static regularisation: errors of 1e-6 before refinement, 1e-12 after two
REFINEMENTS = 8
UNMET = 1e-11  # relative residual above which a right-hand side may have a part that no z can meet: z has 1 / ε of it
ENOUGH = 1e-14  # relative residual at which refinement ends
SMALLEST_PIVOT = 1e-3  # of an entry that fixes its variable, in the equilibrated space

# Entries of the triangular factor above which it is not made: 12 bytes each, twice (SuperLU keeps L and U), 2.4 GB.
MOST_ENTRIES = 10**8

# From this share of stored entries on, up to this size, a dense factorisation is faster: 0.03 s against 0.5 s for the
# 894 rows of a PSD cone of order 30, half of whose entries are there.
DENSE_FROM = 0.1
DENSE_UP_TO = 4000

_MATRIX_FREE_STEPS = 4000
_SPLITS = 4


class System:
    """The system at one point, factorised when first solved and then kept.

    Args:
        P: [n, n] compressed columns, or None.
        A: [m, n] compressed rows.
        curvature: at the point.
        matrix_free: never factorise.
    """

    def __init__(self, P: Any, A: Any, curvature: Curvature, matrix_free: bool = False) -> None:
        self.P, self.A, self.curvature = P, A, curvature
        self.B = A[curvature.rows] if curvature.rows is not None else (curvature.T @ A).tocsr()
        self.matrix_free = matrix_free or bool(curvature.rotated)
        self._eliminate()
        self._assemble()
        self._factor: Any = None

    def solve(self, g: Array, h: Array, roughly: bool = False) -> tuple[Array, Array]:
        """The dx and η for right-hand sides g [n] and h [k]; `roughly` is enough for a step of Newton's method.

        Of a singular system this is the least-squares solution of least norm (of what is left by the elimination).
        """
        dx, eta = np.zeros(g.size), np.zeros(h.size)
        dx[self.fixed] = h[self.fixing] / self.pivots
        rows, N = self.rest, self.free.size
        rhs = np.zeros(self.size)
        rhs[:N] = (g - self.times(dx))[self.free]
        rhs[N : N + rows.size] = (h - self.across(dx))[rows]
        found = self._iterative(rhs, roughly) if self.matrix_free else self._direct(rhs)
        dx[self.free], eta[rows] = found[:N], found[N : N + rows.size]
        stationary = g - self.down(eta) - self.times(dx)
        eta[self.fixing] = stationary[self.fixed] / self.pivots
        return dx, eta

    @property
    def entries(self) -> int:
        """Stored entries of the factors; 0 before the first solve, and without them."""
        return 0 if self._factor is None else int(self._factor.nnz)

    def _eliminate(self) -> None:
        """Find the rows that fix a variable each: one entry, no curvature, and no other such row on its variable."""
        B, curvature = self.B, self.curvature
        single = (np.diff(B.indptr) == 1) & (curvature.lc == 0)
        if curvature.X is not None:
            single[curvature.X.indices] = False
        rows = np.flatnonzero(single)
        at = B.indptr[rows]
        columns, pivots = B.indices[at], B.data[at]
        count = np.bincount(columns, minlength=B.shape[1])
        kept = (count[columns] == 1) & (np.abs(pivots) >= SMALLEST_PIVOT)
        self.fixing, self.fixed, self.pivots = rows[kept], columns[kept], pivots[kept]
        self.free = np.delete(np.arange(B.shape[1]), self.fixed)
        self.rest = np.delete(np.arange(B.shape[0]), self.fixing)

    def _assemble(self) -> None:
        from scipy import sparse

        N, R, X = self.free.size, self.rest.size, self.curvature.X
        self.size = N + R + (0 if X is None else X.shape[1])
        of_variable, of_row = np.full(self.B.shape[1], -1), np.full(self.B.shape[0], -1)
        of_variable[self.free] = np.arange(N)
        of_row[self.rest] = N + np.arange(R)
        i, j = stored(self.B)
        i, j, values = _taken(of_row[i], of_variable[j], self.B.data)
        each = np.arange(self.size)
        sign = np.where((each >= N) & (each < N + R), -1.0, 1.0)
        self.shift = EPSILON * sign
        diagonal = self.shift.copy()
        diagonal[N : N + R] -= self.curvature.lc[self.rest]
        parts = [(i, j, values), (j, i, values), (each, each, diagonal)]
        if self.P is not None:
            up, down = stored(self.P)
            parts.append(_taken(of_variable[up], of_variable[down], self.P.data))
        if X is not None:
            up, down = stored(X)
            up, down = of_row[up], N + R + down
            parts += [(up, down, -X.data), (down, up, -X.data)]
        rows, columns, values = (np.concatenate(part) for part in zip(*parts, strict=True))
        self.matrix = sparse.csc_matrix((values, (rows, columns)), (self.size, self.size))
        self.rotations = [
            (cone, self.A[cone.rows], of_row[cone.start] + np.arange(cone.rows.size)) for cone in self.curvature.rotated
        ]

    def _times(self, z: Array) -> Array:
        """The system without its regularisation times a vector."""
        out = self.matrix @ z - self.shift * z
        if self.rotations:
            N, rows = self.free.size, self.rest
            dx, eta = np.zeros(self.B.shape[1]), np.zeros(self.B.shape[0])
            dx[self.free], eta[rows] = z[:N], z[N : N + rows.size]
            for cone, A, at in self.rotations:  # they are not in the matrix
                out[at] += cone.forward(A @ dx)
                out[:N] += (A.T @ cone.adjoint(eta[cone.span]))[self.free]
        return out

    def times(self, dx: Array) -> Array | float:
        """P dx."""
        return 0.0 if self.P is None else self.P @ dx

    def across(self, dx: Array) -> Array:
        """B dx."""
        out = self.B @ dx
        for cone, A, _ in self.rotations:
            out[cone.span] = cone.forward(A @ dx)
        return out

    def down(self, eta: Array) -> Array:
        """Bᵀ η."""
        out = self.B.T @ eta
        for cone, A, _ in self.rotations:
            out += A.T @ cone.adjoint(eta[cone.span])
        return out

    def _direct(self, rhs: Array) -> Array:
        if self.size == 0:
            return rhs
        if self._factor is None:
            self._factor = factorise(self.matrix)
        return self._refined(rhs, self._factor.solve, REFINEMENTS)

    def _iterative(self, rhs: Array, roughly: bool) -> Array:
        from scipy.sparse.linalg import LinearOperator, minres

        operator = LinearOperator((self.size, self.size), matvec=self._times, dtype=float)  # pyright: ignore[reportCallIssue]

        def solve(r: Array) -> Array:
            return minres(operator, r, rtol=1e-6 if roughly else 1e-13, maxiter=_MATRIX_FREE_STEPS)[0]

        return self._refined(rhs, solve, 0 if roughly else 1)

    def _refined(self, rhs: Array, solve: Any, most: int) -> Array:
        """Iterative refinement against the system without regularisation: its least-squares solution of least norm.

        Of a singular system the residual tends to the part of the right-hand side that no z can meet, while z grows by
        1 / ε of that with each step. The null space is made of one of P and B and one of Bᵀ and lc, so that this part
        is orthogonal to the range, regularised with both signs or not: without it the solution stays small.
        """
        z, unmet, scale = self._refinement(rhs, solve, most)
        if scale == 0 or _size(unmet) <= UNMET * scale:
            return z
        z, left = np.zeros_like(rhs), rhs
        for _ in range(_SPLITS):  # what is taken to be unmet still has a little of the range in it, less each time
            part, rest, _ = self._refinement(left - unmet, solve, most)
            z, left = z + part, unmet + rest
            _, unmet, _ = self._refinement(left, solve, most)
            if _size(left - unmet) <= ENOUGH * scale:
                break
        return z

    def _refinement(self, rhs: Array, solve: Any, most: int) -> tuple[Array, Array, float]:
        """The best z of up to `most` refinements as long as the residual halves, its residual, and the size of rhs."""
        scale = _size(rhs)
        best, smallest, last = np.zeros_like(rhs), rhs, scale
        if scale == 0 or not np.isfinite(scale):
            return best, rhs, 0.0
        for _ in range(most + 1):
            z = best + solve(smallest)
            residual = rhs - self._times(z)
            size = _size(residual)
            if not size < last:
                break
            best, smallest = z, residual
            if size <= ENOUGH * scale or size > last / 2:
                break
            last = size
        return best, smallest, scale


class _Dense:
    """LAPACK's factors behind SuperLU's interface."""

    def __init__(self, matrix: Any) -> None:
        from scipy.linalg import lu_factor

        self.factors = lu_factor(matrix.toarray(), overwrite_a=True, check_finite=False)
        self.nnz = matrix.shape[0] ** 2

    def solve(self, rhs: Array) -> Array:
        """Solve."""
        from scipy.linalg import lu_solve

        return lu_solve(self.factors, rhs, check_finite=False)


def factorise(matrix: Any) -> Any:
    """Factors of a symmetric quasi-definite matrix: SuperLU's, with partial pivoting where that fails, or LAPACK's."""
    from scipy.sparse.linalg import splu

    size = matrix.shape[0]
    if size <= DENSE_UP_TO and matrix.nnz >= DENSE_FROM * size * size:
        return _Dense(matrix)
    try:
        return diagonal_pivots(matrix)
    except RuntimeError:  # a pivot of exactly zero
        return splu(matrix)


def diagonal_pivots(matrix: Any) -> Any:
    """SuperLU's factors of a symmetric matrix in an order that keeps them sparse, with pivots from its diagonal.

    Raises:
        RuntimeError: a pivot is zero.
    """
    from scipy.sparse.linalg import splu

    return splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})


def _size(array: Array) -> float:
    return float(np.max(np.abs(array), initial=0.0))


def _taken(rows: Array, columns: Array, values: Array) -> tuple[Array, Array, Array]:
    """The entries whose row and column are there."""
    kept = (rows >= 0) & (columns >= 0)
    return rows[kept], columns[kept], values[kept]
