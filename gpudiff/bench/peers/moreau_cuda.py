"""Moreau on a GPU (its packages moreau-cuda12 and -cuda13): ``moreau.torch.Solver``, the whole batch in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpudiff.bench.cuda.data import Part, on_host
from gpudiff.bench.cuda.device import to_host
from gpudiff.bench.cuda.solver import DeviceOutcome
from gpudiff.bench.families import Batch
from gpudiff.bench.peers._base import Peer, load
from gpudiff.bench.solver import Gradients, only_cones, pattern

_LOOKED_AT = 64  # problems from which the common sparsity pattern is taken


class MoreauCuda(Peer):
    """Its interior point, on the device that is asked for by name: left to choose, it takes the CPU below n = 500."""

    name = "moreau-cuda"
    package = module = "moreau"
    differentiates = True

    def __init__(self, device: str = "cuda") -> None:
        self.device = device

    def unavailable(self) -> str | None:
        """Also why it has no such device."""
        reason = super().unavailable()
        if reason is not None:
            return reason
        moreau = load("moreau")
        if not moreau.device_available(self.device):
            return moreau.device_error(self.device) or "needs the package moreau-cuda13 or moreau-cuda12 as well"
        return None

    def supports(self, batch: Batch) -> bool:
        """Second-order cones at most; whether others run on a GPU could not be tried."""
        return only_cones(batch, "zlq")

    def settings(self) -> dict[str, Any]:
        """Its default tolerances are 1e-8 already, and it chooses its linear solver by its own table."""
        return {"solver": "ipm", "device": self.device}

    def prepare_parts(self, parts: Sequence[Part], derivatives: bool) -> _Session:
        """Compiles the common sparsity pattern, and gathers the values."""
        return _Session(self.settings(), parts, derivatives)


class _Session:
    def __init__(self, settings: dict[str, Any], parts: Sequence[Part], derivatives: bool) -> None:
        moreau, self.torch = load("moreau"), load("torch")
        batch = parts[0].batch
        n, m, cones = batch.n, batch.m, batch.cones
        looked_at = on_host(batch.take(0, _LOOKED_AT))
        # It wants rows compressed: that is the column form of the transpose; P is symmetric.
        A = pattern(np.swapaxes(looked_at.A, -1, -2))
        P = None if looked_at.P is None else pattern(looked_at.P)
        self.A_at, self.P_at = (A.columns, A.rows), None if P is None else (P.columns, P.rows)
        self.size, self.success = batch.size, int(moreau.SolverStatus.Solved)
        self.data = [self._leaves(part.batch, derivatives) for part in parts]
        self.x_bar = [part.x_bar for part in parts]
        offsets = (np.zeros(n + 1, int), np.zeros(0, int)) if P is None else (P.starts, P.rows)
        self.solver = load("moreau.torch").Solver(
            n,
            m,
            *(self.torch.from_numpy(np.ascontiguousarray(index)) for index in (*offsets, A.starts, A.rows)),
            moreau.Cones(num_zero_cones=cones["z"], num_nonneg_cones=cones["l"], so_cone_dims=list(cones["q"])),
            moreau.Settings(batch_size=batch.size, enable_grad=derivatives, **settings),
        )

    def _leaves(self, batch: Batch, derivatives: bool) -> list[Any]:
        """Values of P and A, q, b as tensors of their own, which require gradients if asked for."""
        A, P, q, b = batch.A, batch.P, batch.q, batch.b
        no_entries: Any = q[:, :0]
        values = no_entries if P is None or self.P_at is None else P[..., self.P_at[0], self.P_at[1]]
        tensors: list[Any] = [values, A[..., self.A_at[0], self.A_at[1]], q, b]
        return [tensor.detach().contiguous().requires_grad_(derivatives) for tensor in tensors]

    def forward(self, k: int) -> Any:
        with self.torch.no_grad():
            return self.solver.solve(*self.data[k]).x, None

    def forward_backward(self, k: int) -> Any:
        leaves = self.data[k]
        x = self.solver.solve(*leaves).x
        return x, self.torch.autograd.grad(x, leaves, self.x_bar[k], allow_unused=True)

    def outcome(self, answer: Any, count: int) -> DeviceOutcome:
        x, bars = answer
        solved = np.array([int(status) == self.success for status in self.solver.info.status])
        found = DeviceOutcome(to_host(x[:count]), solved)
        if bars is not None:
            P, A, q, b = (None if bar is None or bar.ndim == 1 else to_host(bar[:count]) for bar in bars)
            found.gradients = Gradients(q, b, A, None if self.P_at is None else P, self.A_at, self.P_at)
        return found
