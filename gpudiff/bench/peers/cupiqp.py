"""cuPIQP (Warp kernels, proximal interior point on the GPU): its dense solver, new data through ``update``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpudiff.bench.cuda.data import Part, on_host
from gpudiff.bench.cuda.solver import DeviceOutcome
from gpudiff.bench.families import Batch
from gpudiff.bench.peers._base import Peer, load
from gpudiff.bench.solver import TOLERANCE, Gradients, find_bounds

_LOOKED_AT = 64  # problems from which it is seen which rows are bounds of a variable


class Cupiqp(Peer):
    """One solver object per shape, CUDA graph on (its default); bounds passed as such."""

    name = package = module = "cupiqp"
    differentiates = True

    def settings(self) -> dict[str, Any]:
        """Its relative tolerances are 1e-9 by default, tighter than the others'."""
        return {"eps_abs": TOLERANCE, "eps_rel": TOLERANCE, "eps_duality_gap_rel": TOLERANCE}

    def prepare_parts(self, parts: Sequence[Part], derivatives: bool) -> _Session:
        """Equalities, inequalities and bounds apart; memory and structure of the solver."""
        return _Session(self.settings(), parts, derivatives)


class _Session:
    def __init__(self, settings: dict[str, Any], parts: Sequence[Part], derivatives: bool) -> None:
        self.torch = load("torch")
        batch = parts[0].batch
        self.z, self.m = batch.cones["z"], batch.m
        bounds = find_bounds(on_host(batch.take(0, _LOOKED_AT)))
        self.rows = [row for row in range(self.z, self.m) if row not in bounds]  # of G
        self.sides = {
            name: {row: variable for row, (variable, sign) in bounds.items() if sign == side}
            for name, side in (("x_u", 1), ("x_l", -1))
        }
        self.data = [self._arguments(part.batch) for part in parts]
        self.x_bar = [part.x_bar for part in parts]
        self.solved = load("cupiqp").Status.CUPIQP_SOLVED.value
        self.solver = load("cupiqp").DenseSolver()
        for name, value in {**settings, "enable_grad": derivatives}.items():
            setattr(self.solver.settings, name, value)
        self.solver.setup(**self.data[0])

    def _arguments(self, batch: Batch) -> dict[str, Any]:
        """What ``setup`` and ``update`` take; what there is none of is left out."""
        q: Any = batch.q
        b: Any = batch.b
        found: dict[str, Any] = {"P": batch.P, "c": q}
        if batch.P is None:
            found["P"] = self.torch.zeros((batch.n, batch.n), dtype=q.dtype, device=q.device)
        if self.z:
            found |= {"A": batch.A[..., : self.z, :], "b": b[:, : self.z]}
        if self.rows:
            found |= {"G": batch.A[..., self.rows, :], "h_u": b[:, self.rows]}
        for name, entries in self.sides.items():
            if entries:
                sign = 1.0 if name == "x_u" else -1.0
                found[name] = self.torch.full_like(q, sign * np.inf)
                for row, variable in entries.items():
                    tighter = self.torch.minimum if name == "x_u" else self.torch.maximum
                    found[name][:, variable] = tighter(found[name][:, variable], sign * b[:, row])
        return {name: tensor.contiguous() for name, tensor in found.items()}

    def forward(self, k: int) -> Any:
        self.solver.update(**self.data[k])
        self.solver.solve()
        return self.solver.result.x, None

    def forward_backward(self, k: int) -> Any:
        x, _ = self.forward(k)
        return x, self.solver.backward(grad_x=self.x_bar[k])

    def outcome(self, answer: Any, count: int) -> DeviceOutcome:
        x, bar = answer
        found = DeviceOutcome(x.numpy()[:count], self.solver.result.info.status.numpy() == self.solved)
        if bar is not None:
            b = np.zeros((count, self.m))
            if self.z:
                b[:, : self.z] = bar.b.numpy()[:count]
            if self.rows:
                b[:, self.rows] = bar.h_u.numpy()[:count]
            for name, entries in self.sides.items():
                for row, variable in entries.items():
                    b[:, row] = (1.0 if name == "x_u" else -1.0) * getattr(bar, name).numpy()[:count, variable]
            P = None if len(bar.P.shape) == 2 else bar.P.numpy()[:count]
            found.gradients = Gradients(bar.c.numpy()[:count], b, None, P)
        return found
