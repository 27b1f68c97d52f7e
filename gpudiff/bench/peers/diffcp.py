"""diffcp (Clarabel or SCS plus a derivative), the solver behind cvxpylayers: conic form, linear objectives.

Its derivative with respect to P is wrong (off-diagonals dropped), so problems with a quadratic objective are left out.
With Clarabel and semidefinite matrices of order 4 or more its y, s and gradients are wrong (rows permuted the other
way), so SCS solves problems with matrices. It has no power cones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from gpudiff.bench.families import Array, Batch
from gpudiff.bench.peers._base import Peer, load
from gpudiff.bench.solver import TOLERANCE, Gradients, Outcome, only_cones, pattern


class Diffcp(Peer):
    """Clarabel for the solution, or SCS; the dense derivative, which is the faster of its modes at these sizes."""

    name = package = module = "diffcp"
    differentiates = True

    def supports(self, batch: Batch) -> bool:
        """Linear objectives, and all but power cones; exponential ones not beside matrices, nor their duals."""
        return batch.P is None and (only_cones(batch, ("z", "l", "q", "ep")) or only_cones(batch, "zlqs"))

    def settings(self) -> dict[str, Any]:
        """Clarabel's tolerances are 1e-8 already."""
        return {
            "mode": "dense",
            "clarabel": {"solve_method": "CLARABEL", "tol_gap_abs": TOLERANCE, "tol_feas": TOLERANCE},
            "scs": {"solve_method": "SCS", "eps_abs": TOLERANCE, "eps_rel": TOLERANCE},
        }

    def prepare(self, batch: Batch, derivatives: bool) -> _Session:
        """Sparse matrices, one per problem."""
        return _Session(batch, self.settings())


class _Session:
    def __init__(self, batch: Batch, settings: dict[str, Any]) -> None:
        self.diffcp, self.batch = load("diffcp"), batch
        self.chosen = settings["scs" if batch.cones.get("s") else "clarabel"]
        self.mode = settings["mode"]
        self.cones = {name: rows for name, rows in batch.cones.items() if rows}
        self.A = [sp.csc_matrix(batch.problem(i)[2]) for i in range(batch.size)]
        used = pattern(batch.A)
        self.A_at = used.rows, used.columns  # its gradient has no other entries

    def forward(self) -> Outcome:
        batch = self.batch
        x = np.empty(batch.q.shape)
        solved = np.empty(len(x), bool)
        for i in range(len(x)):
            answer = self.diffcp.solve_only(self.A[i], batch.b[i], batch.q[i], self.cones, **self.chosen)
            x[i] = answer[0]
            solved[i] = True  # it raises otherwise
        return Outcome(x, solved)

    def forward_backward(self, x_bar: Array) -> Outcome:
        batch = self.batch
        x = np.empty(batch.q.shape)
        A_bar = np.empty((len(x), len(self.A_at[0])))
        bar = Gradients(np.empty(x.shape), np.empty(batch.b.shape), A_bar, A_at=self.A_at)
        assert bar.q is not None
        assert bar.b is not None
        zero = np.zeros(batch.m)
        for i in range(len(x)):
            x[i], _, _, _, pull = self.diffcp.solve_and_derivative(
                self.A[i], batch.b[i], batch.q[i], self.cones, mode=self.mode, **self.chosen
            )
            matrix, bar.b[i], bar.q[i] = pull(x_bar[i], zero, zero)
            A_bar[i] = matrix.toarray()[self.A_at]
        return Outcome(x, np.ones(len(x), bool), bar)
