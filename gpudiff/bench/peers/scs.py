"""SCS (C, operator splitting): every cone; one solver object per problem, or one for all that share P and A."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from gpudiff.bench.families import Batch
from gpudiff.bench.peers._base import ForwardOnly, Peer, load
from gpudiff.bench.solver import TOLERANCE, Outcome


class Scs(Peer):
    """Its direct linear solver; ``update`` takes b and c alone, so that a new P or A is a new object."""

    name = package = module = "scs"

    def supports(self, batch: Batch) -> bool:
        """Everything."""
        return True

    def settings(self) -> dict[str, Any]:
        """Its tolerances are 1e-4 by default."""
        return {"eps_abs": TOLERANCE, "eps_rel": TOLERANCE, "verbose": False}

    def prepare(self, batch: Batch, derivatives: bool) -> _Session:
        """Sparse matrices, one per problem unless they are shared."""
        return _Session(batch, self.settings())


class _Session(ForwardOnly):
    def __init__(self, batch: Batch, settings: dict[str, Any]) -> None:
        self.scs, self.batch, self.chosen = load("scs"), batch, settings
        self.cones = {name: entry for name, entry in batch.cones.items() if entry}
        self.q, self.b = np.ascontiguousarray(batch.q), np.ascontiguousarray(batch.b)
        self.data: list[dict[str, Any]] = []
        for i in range(1 if batch.shared else batch.size):
            P, _, A, _ = batch.problem(i)
            self.data.append({"A": sp.csc_matrix(A)})
            if P is not None:
                self.data[-1]["P"] = sp.csc_matrix(np.triu(P))
        self.shared = self._solver(0) if batch.shared else None

    def _solver(self, i: int) -> Any:
        return self.scs.SCS({**self.data[i], "b": self.b[i], "c": self.q[i]}, self.cones, **self.chosen)

    def forward(self) -> Outcome:
        x = np.empty(self.q.shape)
        solved = np.empty(len(x), bool)
        for i in range(len(x)):
            solver = self.shared
            if solver is None:
                solver = self._solver(i)
            else:
                solver.update(b=self.b[i], c=self.q[i])
            answer = solver.solve(warm_start=False)
            x[i] = answer["x"]
            solved[i] = answer["info"]["status_val"] == 1
        return Outcome(x, solved)
