"""qpth (torch, batched interior point; OptNet's own solver) on the device of the data.

It has no statuses: whether it converged, the errors tell. It averages, rather than sums, the gradients of what is
shared, so those are not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpudiff.bench.cuda.data import Part
from gpudiff.bench.cuda.device import to_host
from gpudiff.bench.cuda.solver import DeviceOutcome
from gpudiff.bench.families import Batch
from gpudiff.bench.peers._base import Peer, load
from gpudiff.bench.solver import TOLERANCE, Gradients, only_linear


class Qpth(Peer):
    """``QPFunction`` with its batched LU factorisations."""

    name = package = module = "qpth"
    differentiates = True

    def unavailable(self) -> str | None:
        """Its functions are in a module of their own."""
        try:
            load("qpth.qp")
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    def supports(self, batch: Batch) -> bool:
        """QPs; P has to be definite."""
        return only_linear(batch) and batch.P is not None

    def settings(self) -> dict[str, Any]:
        """The others' tolerance for its 1e-12; no check whether P is definite, no warnings."""
        return {"eps": TOLERANCE, "check_Q_spd": False, "verbose": -1}

    def prepare_parts(self, parts: Sequence[Part], derivatives: bool) -> _Session:
        """Equalities and inequalities apart."""
        return _Session(self.settings(), parts, derivatives)


class _Session:
    def __init__(self, settings: dict[str, Any], parts: Sequence[Part], derivatives: bool) -> None:
        self.torch = load("torch")
        self.function = load("qpth.qp").QPFunction(**settings)
        self.shared = parts[0].batch.shared
        self.data = [self._leaves(part.batch, derivatives) for part in parts]
        self.x_bar = [part.x_bar for part in parts]

    def _leaves(self, batch: Batch, derivatives: bool) -> list[Any]:
        """Q, p, G, h, A, b in its order; the last two empty where there are no equalities."""
        z = batch.cones["z"]
        tensors: list[Any] = [
            batch.P,
            batch.q,
            batch.A[..., z:, :],
            batch.b[:, z:],
            batch.A[..., :z, :],
            batch.b[:, :z],
        ]
        leaves = [tensor.detach().contiguous() for tensor in tensors]
        if z == 0:
            leaves[4:] = [leaves[1].new_empty(0), leaves[1].new_empty(0)]
        return [leaf.requires_grad_(derivatives and leaf.numel() > 0) for leaf in leaves]

    def forward(self, k: int) -> Any:
        with self.torch.no_grad():
            return self.function(*self.data[k]), None

    def forward_backward(self, k: int) -> Any:
        x = self.function(*self.data[k])
        leaves = [leaf for leaf in self.data[k] if leaf.requires_grad]
        return x, self.torch.autograd.grad(x, leaves, self.x_bar[k])

    def outcome(self, answer: Any, count: int) -> DeviceOutcome:
        x, bars = answer
        found = DeviceOutcome(to_host(x[:count]), np.ones(len(x), bool))
        if bars is not None:
            P, q, G, h, *equalities = (to_host(bar[:count]) for bar in bars)
            A, b = equalities if equalities else (G[..., :0, :], h[:, :0])
            matrices = (None, None) if self.shared else (np.concatenate([A, G], axis=-2), P)
            found.gradients = Gradients(q, np.concatenate([b, h], axis=1), *matrices)
        return found
