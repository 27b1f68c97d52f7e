"""DAQP (C, dual active set): the fastest of its two interfaces for the data at hand, always from a cold start."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpudiff.bench.families import Batch
from gpudiff.bench.peers._base import ForwardOnly, Peer, load
from gpudiff.bench.solver import NO_BOUND, TOLERANCE, Outcome, split

_EQUALITY = 5  # DAQP's flag of a row that must stay active


class Daqp(Peer):
    """``daqp.solve`` per problem, which is faster than ``Model.update`` unless P and A stay."""

    name = package = module = "daqp"

    def settings(self) -> dict[str, Any]:
        """Its primal tolerance is looser than the others' by default."""
        return {"primal_tol": TOLERANCE}

    def prepare(self, batch: Batch, derivatives: bool) -> _Session:
        """Rows, bounds and their kinds in its own order, and a workspace."""
        return _Session(batch, self.settings())


class _Session(ForwardOnly):
    def __init__(self, batch: Batch, settings: dict[str, Any]) -> None:
        daqp = load("daqp")
        self.chosen, self.solve = settings, daqp.solve
        d = split(batch, bounds=True)
        z, conic = d.e.shape[1], d.h.shape[1]
        # Bounds come first in the right-hand sides and have no row in the matrix.
        lowest = np.full(d.h.shape, -NO_BOUND)
        bounds = (d.lower, d.upper) if d.bounded else (d.lower[:, :0], d.upper[:, :0])
        self.P, self.q = d.P, d.q
        matrices = zip(d.E[:1], d.G[:1], strict=True) if batch.shared else zip(d.E, d.G, strict=True)
        self.A = [np.vstack(rows) for rows in matrices]
        self.lower = np.hstack([bounds[0], d.e, lowest])
        self.upper = np.hstack([bounds[1], d.e, d.h])
        self.sense = np.repeat(np.array([0, _EQUALITY, 0], np.int32), [bounds[0].shape[1], z, conic])
        self.model: Any = None
        if batch.shared:
            self.model = daqp.Model()
            self.model.setup(batch.P, self.q[0], self.A[0], self.upper[0], self.lower[0], self.sense)
            self.model.settings = settings

    def forward(self) -> Outcome:
        q, upper, lower, sense = self.q, self.upper, self.lower, self.sense
        x = np.empty(q.shape)
        solved = np.empty(len(q), bool)
        if self.model is not None:
            update, solve = self.model.update, self.model.solve
            for i in range(len(q)):
                update(None, q[i], None, upper[i], lower[i], sense)
                x[i], _, flag, _ = solve()
                solved[i] = flag == 1
        else:
            P, A = self.P, self.A
            for i in range(len(q)):
                H = None if P is None else P[i]
                x[i], _, flag, _ = self.solve(H, q[i], A[i], upper[i], lower[i], sense, **self.chosen)
                solved[i] = flag == 1
        return Outcome(x, solved)
