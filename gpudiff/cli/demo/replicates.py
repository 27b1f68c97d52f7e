"""The demo's computation: every replicate solved, differentiated in t (forward) and in the data (reverse)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gpudiff as gd
from gpudiff.cli.demo import bootstrap
from gpudiff.cli.errors import require

Array = NDArray[np.float64]

CHUNK = 4000
"""Replicates in memory at once: about 60 MB."""


@dataclass
class Outcome:
    """What the run over all replicates gathers; arrays are filled chunk by chunk.

    Attributes:
        bound: t.
        beta: Coefficients; `[R, p]`, NaN where not solved.
        slope: dβ/dt; `[R, p]`.
        least_squares: Unconstrained coefficients; `[R, p]`.
        influence: dβ̄/du, the derivative of the mean of β over the replicates in each patient's weight; `[N, p]`.
        status: `[R]`.
        solve_seconds: Wall time in `solve`.
        forward_seconds: Wall time in `jvp`, one call per chunk.
        reverse_seconds: Wall time in `vjp`, p calls per chunk.
        mismatch: Largest relative difference between forward and reverse mode in Σ_r dβ/dt.
    """

    bound: float
    beta: Array
    slope: Array
    least_squares: Array
    influence: Array
    status: NDArray[np.int8]
    solve_seconds: float = 0.0
    forward_seconds: float = 0.0
    reverse_seconds: float = 0.0
    mismatch: float = 0.0

    @property
    def solved(self) -> NDArray[np.bool_]:
        """Which replicates were solved; `[R]`."""
        return self.status == gd.Status.SOLVED

    def at_zero(self) -> Array:
        """Share of the solved replicates in which each coefficient is zero; `[p]`."""
        return np.mean(self.beta[self.solved] < 1e-8 * self.bound, axis=0)

    def bound_active(self) -> float:
        """Share of the solved replicates in which Σβ = t."""
        return float(np.mean(self.beta[self.solved].sum(axis=1) > (1 - 1e-8) * self.bound))


def constraints(features: int, bound: float) -> tuple[Array, Array, list[gd.Nonnegative]]:
    """A, b and cones of Σβ ≤ t (first row) and β ≥ 0; shared by all replicates."""
    A = np.vstack([np.ones((1, features)), -np.eye(features)])
    b = np.concatenate([[bound], np.zeros(features)])
    return A, b, [gd.Nonnegative(features + 1)]


def toward_bound(features: int) -> Array:
    """The tangent of b that moves t alone."""
    return np.eye(features + 1)[0]


def solve_all(data: bootstrap.Regression, total: int, bound: float, seed: int, settings: gd.Settings) -> Outcome:
    """Solve and differentiate `total` replicates, `CHUNK` at a time."""
    tqdm: Any = require("tqdm", "demo").tqdm
    p = data.features
    A, b, cones = constraints(p, bound)
    out = Outcome(
        bound=bound,
        beta=np.empty((total, p)),
        slope=np.empty((total, p)),
        least_squares=np.empty((total, p)),
        influence=np.zeros((data.observations, p)),
        status=np.empty(total, dtype=np.int8),
    )
    reverse_slope = np.zeros(p)
    rng = np.random.default_rng(seed)
    # disable=None: no bar where stderr is not a terminal.
    with tqdm(total=total, unit=" QP", unit_scale=True, desc="replicates", disable=None) as bar:
        for start in range(0, total, CHUNK):
            part = slice(start, min(start + CHUNK, total))
            chunk = bootstrap.moments_to_qp(data, bootstrap.draw(data.observations, part.stop - start, rng))

            clock = time.perf_counter()
            sol = gd.solve(chunk.P, chunk.q, A, b, cones, settings=settings)
            out.solve_seconds += time.perf_counter() - clock
            clock = time.perf_counter()
            dot = sol.jvp(b=toward_bound(p))
            out.forward_seconds += time.perf_counter() - clock

            for j in range(p):
                x_bar = np.zeros_like(sol.x)
                x_bar[:, j] = 1.0
                clock = time.perf_counter()
                bar_j = sol.vjp(x=x_bar, wrt=("P", "q", "b"))
                out.reverse_seconds += time.perf_counter() - clock
                out.influence[:, j] += bootstrap.influence(data, chunk, bar_j.P, bar_j.q)
                reverse_slope[j] += bar_j.b[0]  # b is shared, so this is the sum over the chunk

            out.beta[part], out.slope[part], out.status[part] = sol.x, dot.x, sol.status
            out.least_squares[part] = np.linalg.solve(chunk.P, -chunk.q[:, :, None])[:, :, 0]
            bar.update(part.stop - start)
    out.influence /= max(1, int(out.solved.sum()))  # replicates that were not solved added zero
    slope = out.slope[out.solved].sum(axis=0)
    out.mismatch = float(np.abs(slope - reverse_slope).max(initial=0.0) / max(np.abs(slope).max(initial=0.0), 1e-300))
    return out
