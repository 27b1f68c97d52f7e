"""What the runner asks of anything it times: gpudiff and every peer implement the same two small classes.

Timed are ``Session.forward`` and ``Session.forward_backward``: new data in, the optimum (and gradients) out, for every
problem of a batch. Not timed is ``Solver.prepare``: whatever a careful user does once for a given shape (symbolic
analysis, workspace) and laying the data out the way the peer takes it directly (column-major copies, values of a sparse
matrix, equalities apart from inequalities).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from gpudiff.bench.families import Array, Batch

TOLERANCE = 1e-8  # asked of every solver, gpudiff included


@dataclass
class Gradients:
    """Cotangents of the data for a batch, ``[B, …]``; None where a solver does not give one.

    Those of shared P and A may be per problem or already summed over the batch. A solver with sparse matrices gives
    the entries of its pattern alone, ``[B, nnz]``, and says where they are: ``A_at`` and ``P_at`` hold row and column.
    """

    q: Array | None = None
    b: Array | None = None
    A: Array | None = None
    P: Array | None = None
    A_at: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    P_at: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None


@dataclass
class Outcome:
    """What one timed call returns.

    Attributes:
        x: ``[B, n]`` primal optimum.
        solved: ``[B]`` whether the solver itself reports success.
        gradients: Present after ``forward_backward``.
        flops: Floating-point operations of the call where the solver counts them.
        changes: Rows that entered or left a working set, over the batch, where the solver counts them.
        fallbacks: Problems that the active-set method handed to the interior point, where there are two.
        method: Which of its methods a solver chose, where it has a choice.
    """

    x: Array
    solved: NDArray[np.bool_]
    gradients: Gradients | None = None
    flops: float | None = None
    changes: int | None = None
    fallbacks: int | None = None
    method: str | None = None


class Session(Protocol):
    """A solver prepared for the data of one batch."""

    def forward(self) -> Outcome:
        """Solves every problem of the batch."""
        ...

    def forward_backward(self, x_bar: Array) -> Outcome:
        """Solves every problem and pulls ``x_bar`` [B, n] back to the data."""
        ...


class Candidate(Protocol):
    """What is asked of every solver, wherever it is measured."""

    name: str
    differentiates: bool

    def unavailable(self) -> str | None:
        """None if the solver can be used here, otherwise the reason why not."""
        ...

    def version(self) -> str:
        """The installed version."""
        ...

    def supports(self, batch: Batch) -> bool:
        """Whether the solver takes problems with these cones and this objective."""
        ...

    def settings(self) -> dict[str, Any]:
        """What was changed from the solver's defaults; written to the JSON."""
        ...


class Solver(Candidate, Protocol):
    """A solver that can be benchmarked."""

    def prepare(self, batch: Batch, derivatives: bool) -> Session:
        """A session for this batch; not timed."""
        ...


@runtime_checkable
class WarmSolver(Solver, Protocol):
    """A solver that can start from the solution of a similar problem."""

    def prepare_warm(self, first: Batch, moved: list[Batch]) -> list[Session]:
        """One session for each moved batch, each starting from the solutions of ``first``; not timed."""
        ...


@dataclass(frozen=True)
class Pattern:
    """The entries of a batch of matrices that are not zero in all of them, in compressed-column order.

    Attributes:
        rows: ``[nnz]`` row of each entry.
        columns: ``[nnz]`` column of each entry.
        starts: ``[columns + 1]`` where each column begins.
        values: ``[nnz]`` if the matrix is shared, else ``[B, nnz]``.
        shape: Of one matrix.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    starts: NDArray[np.int64]
    values: Array
    shape: tuple[int, int]

    def first(self) -> sp.csc_matrix:
        """The first problem's matrix, stored zeros included, so that the later ones fit its pattern."""
        values = self.values if self.values.ndim == 1 else self.values[0]
        return sp.csc_matrix((values, self.rows, self.starts), shape=self.shape)


def upper_pattern(P: Array) -> Pattern:
    """The same as ``pattern`` for the upper triangles of symmetric matrices."""
    return pattern(np.triu(P))


def pattern(M: Array, dense: bool = False) -> Pattern:
    """The common sparsity pattern of one ``[r, c]`` matrix or a batch ``[B, r, c]``; every entry if ``dense``."""
    used = M != 0 if M.ndim == 2 else (M != 0).any(axis=0)
    used |= dense
    columns, rows = np.nonzero(used.T)
    starts = np.append(0, np.cumsum(used.sum(axis=0)))
    return Pattern(rows, columns, starts, np.ascontiguousarray(M[..., rows, columns]), (used.shape[0], used.shape[1]))


@dataclass
class Split:
    """A batch of QPs with its equalities, inequalities and bounds apart, in the memory order a peer wants.

    Attributes:
        P: One ``[n, n]`` matrix per problem (the same object where shared), or None.
        E: Equality rows ``[p, n]`` per problem, with right-hand sides ``e`` [B, p].
        G: Inequality rows ``[k, n]`` per problem, with right-hand sides ``h`` [B, k].
        lower: ``[B, n]`` lower bounds of x, −1e30 where there is none.
        upper: ``[B, n]`` upper bounds.
        bounded: Whether there is any bound.
    """

    P: list[Array] | None
    q: Array
    E: list[Array]
    e: Array
    G: list[Array]
    h: Array
    lower: Array
    upper: Array
    bounded: bool
    batch: Batch = field(repr=False)


NO_BOUND = 1e30


def split(batch: Batch, order: Literal["C", "F"] = "C", bounds: bool = False) -> Split:
    """Copies a batch of QPs into the form most QP solvers take.

    Args:
        batch: Problems with equalities and inequalities only.
        order: Memory order of the matrices.
        bounds: Whether inequality rows with a single entry ±1 are passed as bounds of a variable, as a careful user
            of a solver with bounds would write them.
    """
    z = batch.cones["z"]
    found = find_bounds(batch) if bounds else {}
    bound = np.isin(np.arange(batch.m), list(found))

    lower, upper = np.full((2, batch.size, batch.n), NO_BOUND)
    lower = -lower
    for row, (j, sign) in found.items():
        if sign > 0:
            upper[:, j] = np.minimum(upper[:, j], batch.b[:, row])
        else:
            lower[:, j] = np.maximum(lower[:, j], -batch.b[:, row])

    def copies(M: Array, rows: Any) -> list[Array]:
        if M.ndim == 2:
            return [np.array(M[rows], order=order)] * batch.size
        return [np.array(M[i, rows], order=order) for i in range(batch.size)]

    P = None if batch.P is None else copies(batch.P, slice(None))
    others = np.flatnonzero(~bound[z:]) + z
    E, G = copies(batch.A, slice(0, z)), copies(batch.A, others)
    e, h = np.ascontiguousarray(batch.b[:, :z]), np.ascontiguousarray(batch.b[:, others])
    return Split(P, np.ascontiguousarray(batch.q), E, e, G, h, lower, upper, bool(bound.any()), batch)


def find_bounds(batch: Batch) -> dict[int, tuple[int, int]]:
    """Inequality rows that bound one variable in every problem: row → variable, and 1 (above) or −1 (below)."""
    used = batch.A != 0 if batch.A.ndim == 2 else (batch.A != 0).any(axis=0)
    variable = used.argmax(axis=1)
    entries = np.take_along_axis(batch.A, np.broadcast_to(variable[:, None], (*batch.A.shape[:-1], 1)), -1)[..., 0]
    sign = entries if entries.ndim == 1 else np.where((entries == entries[0]).all(axis=0), entries[0], 0.0)
    bound = (used.sum(axis=1) == 1) & (np.abs(sign) == 1.0) & (np.arange(batch.m) >= batch.cones["z"])
    return {int(row): (int(variable[row]), int(sign[row])) for row in np.flatnonzero(bound)}


def only_linear(batch: Batch) -> bool:
    """Whether a QP solver can take the batch: equalities and inequalities only."""
    return only_cones(batch, "zl")


def only_cones(batch: Batch, keys: Iterable[str]) -> bool:
    """Whether all cones of the batch are among these keys of an SCS dictionary."""
    return {key for key, entry in batch.cones.items() if entry} <= set(keys)


def dual_cones(batch: Batch) -> bool:
    """Whether any cone is the dual of an exponential or a power cone."""
    return bool(batch.cones.get("ed")) or any(alpha < 0 for alpha in batch.cones.get("p", []))
