"""Moreau (Rust) on the CPU: its interior point and its dual active set, with its own batch interface and gradients.

Both run the whole batch in one call of ``CompiledSolver``: the batch interface is faster than a loop. "Moreau's best
mode" in a table is the faster of the two among those that solved every problem.

``solve(…, warm_start=solution.to_warm_start())`` starts either of them from an earlier solution.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from gpudiff.bench.families import Array, Batch
from gpudiff.bench.peers._base import Peer, load
from gpudiff.bench.reference import clarabel_rows
from gpudiff.bench.solver import (
    TOLERANCE,
    Gradients,
    Outcome,
    Session,
    dual_cones,
    only_cones,
    only_linear,
    pattern,
)


class _Moreau(Peer):
    package = module = "moreau"
    differentiates = True
    mode = ""

    def prepare(self, batch: Batch, derivatives: bool) -> _Session:
        """Compiles the sparsity pattern (dense) for the batch size."""
        return _Session(self.mode, batch, derivatives)

    def prepare_warm(self, first: Batch, moved: list[Batch]) -> list[Session]:
        """Sessions that start from the first batch's solutions."""
        start = _Session(self.mode, first, False).solution().to_warm_start()
        return [_Session(self.mode, batch, False, start) for batch in moved]


class MoreauInteriorPoint(_Moreau):
    """The interior point; every cone. QDLDL beat faer from n = 64 up and is within 5 % below."""

    name = "moreau-ipm"
    mode = "ipm"

    def supports(self, batch: Batch) -> bool:
        """Everything but dual cones and mixtures of semidefinite, exponential and power cones."""
        return any(only_cones(batch, ("z", "l", "q", key)) for key in ("s", "ep", "p")) and not dual_cones(batch)

    def settings(self) -> dict[str, Any]:
        """Its default tolerances are 1e-8 already."""
        return {"direct_solve_method": "qdldl"}


class MoreauActiveSet(_Moreau):
    """The dual active set: equalities and inequalities."""

    name = "moreau-as"
    mode = "active_set"

    def supports(self, batch: Batch) -> bool:
        """QPs and LPs."""
        return only_linear(batch)

    def settings(self) -> dict[str, Any]:
        """Its primal tolerance is looser than the others' by default."""
        return {"primal_tol": TOLERANCE}


def moreau_cones(cones: dict[str, Any]) -> Any:
    """Its description of the cones of a dictionary; rows are those of ``clarabel_rows``."""
    return load("moreau").Cones(
        num_zero_cones=cones["z"],
        num_nonneg_cones=cones["l"],
        so_cone_dims=list(cones["q"]),
        psd_dims=list(cones.get("s", [])),
        num_exp_cones=cones.get("ep", 0),
        power_alphas=list(cones.get("p", [])),
    )


class _Session:
    def __init__(self, mode: str, batch: Batch, derivatives: bool, start: Any = None) -> None:
        moreau = load("moreau")
        cones = batch.cones
        self.batch = batch
        settings = moreau.Settings(
            solver=mode,
            device="cpu",
            batch_size=batch.size,
            enable_grad=derivatives,
            ipm_settings=moreau.IPMSettings(**MoreauInteriorPoint().settings()),
            active_set_settings=moreau.ActiveSetSettings(**MoreauActiveSet().settings()),
        )
        # It wants rows compressed: that is the column form of the transpose; P is symmetric.
        # The active set alone is faster on dense matrices; its backward pass and the interior point on sparse ones.
        dense = mode == "active_set" and not derivatives
        self.rows = clarabel_rows(cones)
        A = pattern(np.swapaxes(self.rows.of(batch.A), -1, -2), dense)
        P = None if batch.P is None else pattern(batch.P, dense)
        self.A_at, self.P_at = (self.rows.order[A.columns], A.rows), None if P is None else (P.columns, P.rows)
        self.solver = moreau.CompiledSolver(
            batch.n,
            batch.m,
            np.zeros(batch.n + 1, int) if P is None else P.starts,
            np.zeros(0, int) if P is None else P.rows,
            A.starts,
            A.rows,
            moreau_cones(cones),
            settings,
        )
        self.P, self.A = np.zeros((batch.size, 0)) if P is None else P.values, A.values
        self.q, self.b = np.ascontiguousarray(batch.q), self.rows.of_vector(batch.b)
        self.success, self.start = moreau.SolverStatus.Solved, start

    def solution(self) -> Any:
        """Its own solution of the batch."""
        self.solver.setup(self.P, self.A)
        if self.start is None:
            return self.solver.solve(self.q, self.b)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says when a warm start failed, and solves from a cold one
            return self.solver.solve(self.q, self.b, warm_start=self.start)

    def forward(self) -> Outcome:
        solution = self.solution()
        info = self.solver.info
        return Outcome(solution.x, np.array([status == self.success for status in info.status]))

    def forward_backward(self, x_bar: Array) -> Outcome:
        outcome = self.forward()
        bar = self.solver.backward(x_bar)
        P = None if self.P_at is None else bar["dP_values"]
        outcome.gradients = Gradients(
            bar["dq"], self.rows.multipliers(bar["db"]), bar["dA_values"], P, self.A_at, self.P_at
        )
        return outcome
