"""QOCO (C, sparse interior point with second-order cones): one solver object, values replaced between solves."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpudiff.bench.families import Batch
from gpudiff.bench.peers._base import ForwardOnly, Peer, load
from gpudiff.bench.solver import TOLERANCE, Outcome, only_cones, pattern, upper_pattern


class Qoco(Peer):
    """Equalities as A x = b, all other rows as G x + s = h."""

    name = package = module = "qoco"

    def supports(self, batch: Batch) -> bool:
        """Second-order cones at most."""
        return only_cones(batch, "zlq")

    def settings(self) -> dict[str, Any]:
        """Its defaults are 1e-7."""
        return {"abstol": TOLERANCE, "reltol": TOLERANCE}

    def prepare(self, batch: Batch, derivatives: bool) -> _Session:
        """Symbolic analysis on problem 0; values of the sparse matrices laid out per problem."""
        return _Session(batch, self.settings())


class _Session(ForwardOnly):
    def __init__(self, batch: Batch, settings: dict[str, Any]) -> None:
        qoco = load("qoco")
        n, z, conic = batch.n, batch.cones["z"], batch.m - batch.cones["z"]
        self.batch = batch
        P = None if batch.P is None else upper_pattern(batch.P)
        E, G = pattern(batch.A[..., :z, :]), pattern(batch.A[..., z:, :])
        self.P, self.E, self.G = None if P is None else P.values, E.values, G.values
        self.q = np.ascontiguousarray(batch.q)
        self.e, self.h = np.ascontiguousarray(batch.b[:, :z]), np.ascontiguousarray(batch.b[:, z:])
        self.solver = qoco.QOCO()
        self.solver.setup(
            n,
            conic,
            z,
            None if P is None else P.first(),
            self.q[0],
            E.first() if z else None,
            self.e[0] if z else None,
            G.first(),
            self.h[0],
            batch.cones["l"],
            len(batch.cones["q"]),
            np.array(batch.cones["q"], np.int32) if batch.cones["q"] else None,
            **settings,
        )

    def forward(self) -> Outcome:
        # The Python wrapper's update methods only check and convert; its extension object is called directly.
        batch, native, z = self.batch, self.solver._solver, self.batch.cones["z"]
        x = np.empty(self.q.shape)
        solved = np.empty(len(x), bool)
        for i in range(len(x)):
            native.update_vector_data(self.q[i], self.e[i] if z else None, self.h[i])
            if not batch.shared:
                P = None if self.P is None else self.P[i]
                native.update_matrix_data(P, self.E[i] if z else None, self.G[i])
            native.solve()
            x[i] = native.solution.x
            solved[i] = native.solution.status == 1
        return Outcome(x, solved)
