"""Clarabel (Rust, sparse interior point): one solver object, data replaced by ``update`` between solves."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from gpudiff.bench.families import Batch
from gpudiff.bench.peers._base import ForwardOnly, Peer, load
from gpudiff.bench.reference import clarabel_cones, clarabel_rows
from gpudiff.bench.solver import TOLERANCE, Outcome, pattern, upper_pattern


class Clarabel(Peer):
    """Direct QDLDL factorisation, one thread, presolve and chordal decomposition off (``update`` requires it)."""

    name = package = module = "clarabel"

    def supports(self, batch: Batch) -> bool:
        """Everything."""
        return True

    def settings(self) -> dict[str, Any]:
        """Tolerances and what ``update`` requires."""
        return {
            "tol_gap_abs": TOLERANCE,
            "tol_gap_rel": TOLERANCE,
            "tol_feas": TOLERANCE,
            "presolve_enable": False,
            "chordal_decomposition_enable": False,
            "input_sparse_dropzeros": False,
            "max_threads": 1,
            "verbose": False,
        }

    def prepare(self, batch: Batch, derivatives: bool) -> _Session:
        """Symbolic analysis on problem 0; values of the sparse matrices laid out per problem."""
        return _Session(batch, self.settings())


class _Session(ForwardOnly):
    def __init__(self, batch: Batch, settings: dict[str, Any]) -> None:
        clarabel = load("clarabel")
        chosen = clarabel.DefaultSettings()
        for name, value in settings.items():
            setattr(chosen, name, value)
        self.batch = batch
        rows = clarabel_rows(batch.cones)
        A = pattern(rows.of(batch.A))
        P = None if batch.P is None else upper_pattern(batch.P)
        self.P, self.A = None if P is None else P.values, A.values
        self.q, self.b = np.ascontiguousarray(batch.q), rows.of_vector(batch.b)
        quadratic = sp.csc_matrix((batch.n, batch.n)) if P is None else P.first()
        cones = clarabel_cones(batch.cones)
        self.solver = clarabel.DefaultSolver(quadratic, self.q[0], A.first(), self.b[0], cones, chosen)
        self.success = clarabel.SolverStatus.Solved

    def forward(self) -> Outcome:
        solver, q, b, P, A = self.solver, self.q, self.b, self.P, self.A
        x = np.empty(q.shape)
        solved = np.empty(len(q), bool)
        for i in range(len(q)):
            if self.batch.shared:
                solver.update(q=q[i], b=b[i])
            elif P is None:
                solver.update(q=q[i], A=A[i], b=b[i])
            else:
                solver.update(P=P[i], q=q[i], A=A[i], b=b[i])
            solution = solver.solve()
            x[i] = solution.x
            solved[i] = solution.status == self.success
        return Outcome(x, solved)
