"""ProxQP (C++, proximal augmented Lagrangian) with the backward pass of its QP layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpudiff.bench.families import Array, Batch
from gpudiff.bench.peers._base import Peer, load
from gpudiff.bench.solver import TOLERANCE, Gradients, Outcome, Session, split

_UNBOUNDED = -1e20


class Proxqp(Peer):
    """The dense backend; its backward pass runs at its own default regularisation of 1e-6."""

    name = "proxqp"
    package = module = "proxsuite"
    differentiates = True

    def settings(self) -> dict[str, Any]:
        """Tolerances of 1e-8, and two that correct it.

        Its duality gap can be 4e-3 unless checked, and at its default tolerances for infeasibility it calls one MPC
        problem in a hundred and half of the LPs infeasible.
        """
        return {
            "eps_abs": TOLERANCE,
            "eps_rel": TOLERANCE,
            "check_duality_gap": True,
            "eps_duality_gap_abs": TOLERANCE,
            "eps_duality_gap_rel": TOLERANCE,
            "eps_primal_inf": 1e-10,
            "eps_dual_inf": 1e-10,
        }

    def prepare(self, batch: Batch, derivatives: bool) -> _Session:
        """A workspace initialised with problem 0."""
        return _Session(batch, self.settings())

    def prepare_warm(self, first: Batch, moved: list[Batch]) -> list[Session]:
        """Sessions that pass the first batch's x, y and z to ``solve``."""
        start = _Session(first, self.settings()).points()
        return [_Session(batch, self.settings(), start) for batch in moved]


class _Session:
    def __init__(self, batch: Batch, settings: dict[str, Any], start: list[Any] | None = None) -> None:
        self.proxqp = proxqp = load("proxsuite").proxqp
        self.data = split(batch)
        if self.data.P is None:
            self.data.P = [np.zeros((batch.n, batch.n))] * batch.size
        z = batch.cones["z"]
        self.equalities = z > 0
        self.lower = np.full(batch.m - z, _UNBOUNDED)
        self.qp = proxqp.dense.QP(batch.n, z, batch.m - z)
        for name, value in settings.items():
            setattr(self.qp.settings, name, value)
        d = self.data
        E, e = (d.E[0], d.e[0]) if self.equalities else (None, None)
        self.qp.init(self.data.P[0], d.q[0], E, e, d.G[0], self.lower, d.h[0])
        self.success, self.start = proxqp.PROXQP_SOLVED, start
        if start is not None:
            self.qp.settings.initial_guess = proxqp.InitialGuess.WARM_START

    def _solve(self, i: int) -> bool:
        d, qp = self.data, self.qp
        assert d.P is not None
        E, e = (d.E[i], d.e[i]) if self.equalities else (None, None)
        if d.batch.shared:
            qp.update(g=d.q[i], b=e, u=d.h[i])
        else:
            qp.update(d.P[i], d.q[i], E, e, d.G[i], self.lower, d.h[i], True)
        if self.start is None:
            qp.solve()
        else:
            qp.solve(*self.start[i])
        return bool(qp.results.info.status == self.success)

    def points(self) -> list[Any]:
        """x, y and z of each problem."""
        found: list[Any] = []
        for i in range(self.data.batch.size):
            self._solve(i)
            r = self.qp.results
            found.append((np.array(r.x), np.array(r.y), np.array(r.z)))
        return found

    def forward(self) -> Outcome:
        x = np.empty(self.data.q.shape)
        solved = np.empty(len(x), bool)
        for i in range(len(x)):
            solved[i] = self._solve(i)
            x[i] = self.qp.results.x
        return Outcome(x, solved)

    def forward_backward(self, x_bar: Array) -> Outcome:
        batch = self.data.batch
        z = batch.cones["z"]
        x = np.empty(self.data.q.shape)
        solved = np.empty(len(x), bool)
        bar = Gradients(
            np.empty(x.shape),
            np.empty(batch.b.shape),
            np.empty((len(x), batch.m, batch.n)),
            np.empty((len(x), batch.n, batch.n)),
        )
        assert bar.q is not None
        assert bar.b is not None
        assert bar.A is not None
        assert bar.P is not None
        loss = np.zeros(batch.n + batch.m)
        for i in range(len(x)):
            solved[i] = self._solve(i)
            x[i] = self.qp.results.x
            loss[: batch.n] = x_bar[i]
            self.proxqp.dense.compute_backward(self.qp, loss)
            grads = self.qp.model.backward_data
            bar.q[i], bar.P[i] = grads.dL_dg, grads.dL_dH
            bar.b[i, :z], bar.b[i, z:] = grads.dL_db, grads.dL_du
            bar.A[i, :z], bar.A[i, z:] = grads.dL_dA, grads.dL_dC
        return Outcome(x, solved, bar)
