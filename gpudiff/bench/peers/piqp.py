"""PIQP (C++, proximal interior point): the dense solver, data replaced by ``update``."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpudiff.bench.families import Batch
from gpudiff.bench.peers._base import ForwardOnly, Peer, load
from gpudiff.bench.solver import TOLERANCE, Outcome, split


class Piqp(Peer):
    """Inequalities from above, bounds of variables as such; one workspace."""

    name = package = module = "piqp"

    def settings(self) -> dict[str, Any]:
        """The same tolerance in every test; its defaults mix 1e-8 and 1e-9."""
        return {
            "eps_abs": TOLERANCE,
            "eps_rel": TOLERANCE,
            "eps_duality_gap_abs": TOLERANCE,
            "eps_duality_gap_rel": TOLERANCE,
        }

    def prepare(self, batch: Batch, derivatives: bool) -> _Session:
        """Column-major copies (it takes no others) and one ``setup``."""
        return _Session(batch, self.settings())


class _Session(ForwardOnly):
    def __init__(self, batch: Batch, settings: dict[str, Any]) -> None:
        piqp = load("piqp")
        self.data = d = split(batch, order="F", bounds=True)
        self.P = [np.zeros((batch.n, batch.n), order="F")] * batch.size if d.P is None else d.P
        self.solver = piqp.DenseSolver()
        for name, value in settings.items():
            setattr(self.solver.settings, name, value)
        self.solver.setup(*self._arguments(0))
        self.success = piqp.PIQP_SOLVED

    def _arguments(self, i: int) -> list[Any]:
        """P, c, A, b, G, h_l, h_u, x_l, x_u of problem i; None where there is nothing."""
        d = self.data
        E, e = (d.E[i], d.e[i]) if d.e.shape[1] else (None, None)
        G, h = (d.G[i], d.h[i]) if d.h.shape[1] else (None, None)
        lower, upper = (d.lower[i], d.upper[i]) if d.bounded else (None, None)
        return [self.P[i], d.q[i], E, e, G, None, h, lower, upper]

    def forward(self) -> Outcome:
        solver, batch = self.solver, self.data.batch
        x = np.empty(batch.q.shape)
        solved = np.empty(len(x), bool)
        for i in range(len(x)):
            P, c, A, b, G, low, high, lower, upper = self._arguments(i)
            if batch.shared:
                solver.update(c=c, b=b, h_u=high, x_l=lower, x_u=upper)
            elif batch.P is None:
                solver.update(None, c, A, b, G, low, high, lower, upper)
            else:
                solver.update(P, c, A, b, G, low, high, lower, upper)
            solved[i] = solver.solve() == self.success
            x[i] = solver.result.x
        return Outcome(x, solved)
