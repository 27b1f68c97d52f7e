"""DAQP (C, dual active set): the fastest of its two interfaces for the data at hand, from a cold start or a warm one.

Warm starts, by measurement: the rows active at the first solution, marked as such in ``sense``. It is the fastest way
for data of their own per problem (``dual_start`` is 1 … 20 % slower, a model per problem with ``update`` of everything
10 … 15 %), and for shared P and A as fast as a model per problem that keeps its working set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpudiff.bench.families import Array, Batch
from gpudiff.bench.peers._base import ForwardOnly, Peer, load
from gpudiff.bench.solver import NO_BOUND, TOLERANCE, Outcome, Session, split

_EQUALITY = 5  # DAQP's flags: of a row that must stay active,
_UPPER, _LOWER = 1, 3  # and of ones to start with as active, at the one bound or the other
_ZERO = 1e-12  # a smaller multiplier does not mark a row as active


class Daqp(Peer):
    """``daqp.solve`` per problem, which is faster than ``Model.update`` unless P and A stay."""

    name = package = module = "daqp"

    def settings(self) -> dict[str, Any]:
        """Its primal tolerance is looser than the others' by default."""
        return {"primal_tol": TOLERANCE}

    def prepare(self, batch: Batch, derivatives: bool) -> _Session:
        """Rows, bounds and their kinds in its own order, and a workspace."""
        return _Session(batch, self.settings())

    def prepare_warm(self, first: Batch, moved: list[Batch]) -> list[Session]:
        """Sessions that start from the first batch's active rows."""
        sense = _Session(first, self.settings()).active()
        return [_Session(batch, self.settings(), sense) for batch in moved]

    def single(self, batch: Batch) -> Callable[[int], Array]:
        """One call of ``daqp.solve`` with problem i of the batch, its arrays in DAQP's order beforehand; gives x."""
        session = _Session(batch, self.settings())
        P, q, A, upper, lower, sense = (getattr(session, name) for name in ("P", "q", "A", "upper", "lower", "sense"))

        def solve(i: int) -> Array:
            return session.solve(P[i], q[i], A[i], upper[i], lower[i], sense[i], **session.chosen)[0]

        return solve


class _Session(ForwardOnly):
    def __init__(self, batch: Batch, settings: dict[str, Any], sense: list[Any] | None = None) -> None:
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
        cold = np.repeat(np.array([0, _EQUALITY, 0], np.int32), [bounds[0].shape[1], z, conic])
        self.sense = [cold] * batch.size if sense is None else sense
        self.model: Any = None
        if batch.shared:
            self.model = daqp.Model()
            self.model.setup(batch.P, self.q[0], self.A[0], self.upper[0], self.lower[0], cold)
            self.model.settings = settings

    def active(self) -> list[Any]:
        """The flags of each problem with its active inequalities marked."""
        found: list[Any] = []
        for i, cold in enumerate(self.sense):
            if self.model is not None:
                self.model.update(None, self.q[i], None, self.upper[i], self.lower[i], cold)
                info = self.model.solve()[3]
            else:
                H = None if self.P is None else self.P[i]
                info = self.solve(H, self.q[i], self.A[i], self.upper[i], self.lower[i], cold, **self.chosen)[3]
            side = np.where(info["lam"] > 0, _UPPER, _LOWER)
            marked = np.where(np.abs(info["lam"]) > _ZERO, side, cold)
            found.append(np.where(cold == _EQUALITY, cold, marked).astype(np.int32))
        return found

    def forward(self) -> Outcome:
        q, upper, lower, sense = self.q, self.upper, self.lower, self.sense
        x = np.empty(q.shape)
        solved = np.empty(len(q), bool)
        if self.model is not None:
            update, solve = self.model.update, self.model.solve
            for i in range(len(q)):
                update(None, q[i], None, upper[i], lower[i], sense[i])
                x[i], _, flag, _ = solve()
                solved[i] = flag == 1
        else:
            P, A = self.P, self.A
            for i in range(len(q)):
                H = None if P is None else P[i]
                x[i], _, flag, _ = self.solve(H, q[i], A[i], upper[i], lower[i], sense[i], **self.chosen)
                solved[i] = flag == 1
        return Outcome(x, solved)
