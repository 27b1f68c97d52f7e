"""``python -m gpudiff.bench.crossover``: where Clarabel becomes faster than the dense kernels on the host.

For random problems by size, density of the rows and batch it prints seconds per problem of a solve and a vjp for
all data, by the CPU backend on dense arrays and by Clarabel, one thread each, in turn, best of a few. The table of
``gpudiff._crossover`` is read off from it.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import Any

import numpy as np

from gpudiff._cones import Nonnegative, SecondOrder, Zero
from gpudiff._settings import Settings
from gpudiff._solve import solve
from gpudiff.bench.families import Array

SIZES = (10, 20, 40, 80, 160, 320)
DENSITIES = (0.02, 0.1, 1.0)
BATCHES = (1, 16)
_ENOUGH = 1.5  # seconds: a size whose dense solve takes longer is measured once


def problem(kind: str, n: int, density: float, seed: int) -> tuple[Any, Array, Any, Array, list[Any]]:
    """A random problem of a kind ("qp", "lp" or "socp") with n variables and 2 n + n / 4 rows."""
    sparse: Any = import_module("scipy.sparse")

    rng = np.random.default_rng(seed)
    rows, equal = 2 * n, n // 4
    entries = max(density, 2 / n)
    G = sparse.random(rows + equal, n, density=entries, random_state=rng, data_rvs=rng.standard_normal)
    A = sparse.csc_matrix(G + sparse.eye(rows + equal, n))
    x, s = rng.standard_normal(n), np.zeros(rows + equal)
    active = rng.random(rows) < 0.3
    y = np.concatenate([rng.uniform(0.1, 1, rows) * active, rng.standard_normal(equal)])
    s[:rows] = rng.uniform(0.1, 1, rows) * ~active
    cones: list[Any] = [Nonnegative(rows), Zero(equal)]
    if kind == "socp":  # the same rows in cones of four, all inside or at the tip
        cones = [SecondOrder(4)] * (rows // 4) + [Nonnegative(rows % 4), Zero(equal)]
        heads = np.arange(0, rows // 4 * 4, 4)
        inside = rng.random(heads.size) < 0.7
        for part, there in ((s, inside), (y, ~inside)):
            block = 0.3 * rng.standard_normal((heads.size, 4))
            block[:, 0] = 1 + np.linalg.norm(block[:, 1:], axis=1)
            part[: rows // 4 * 4] = (block * there[:, None]).ravel()
    L = sparse.random(n, n, density=entries / 2, random_state=rng, data_rvs=rng.standard_normal)
    P = sparse.csc_matrix(L @ L.T * 0.1 + sparse.eye(n)) if kind == "qp" else None
    q = -(A.T @ y) - (0 if P is None else P @ x)
    return P, q, A, A @ x + s, cones


def seconds(call: Any, repeats: int) -> float:
    """The least time of a call; one that takes long is measured once."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        spent = time.perf_counter() - start
        best = min(best, spent)
        if spent > _ENOUGH:
            break
    return best


def compare(kind: str, n: int, density: float, batch: int) -> tuple[float, float]:
    """Seconds per problem of the kernels and of Clarabel, for a solve and a vjp."""
    P, q, A, b, cones = problem(kind, n, density, 0)
    qs = q * np.linspace(1, 1.01, batch)[:, None] if batch > 1 else q
    dense = None if P is None else P.toarray(), qs, A.toarray(), b
    settings = Settings(threads=1)
    bar = np.ones(n)
    kernels = seconds(lambda: solve(*dense, cones, settings, "cpu").vjp(x=bar), 3)
    sparse = seconds(lambda: solve(P, qs, A, b, cones, settings, "clarabel").vjp(x=bar), 3)
    return kernels / batch, sparse / batch


def main() -> int:
    """Print the table."""
    print("kind  density  batch      n   kernels ms  Clarabel ms  ratio")
    for kind in ("qp", "lp", "socp"):
        for density in DENSITIES:
            for batch in BATCHES:
                for n in SIZES:
                    if n > 160 and batch > 1:
                        continue
                    kernels, sparse = compare(kind, n, density, batch)
                    print(
                        f"{kind:5} {density:7.2f} {batch:6d} {n:6d} {1e3 * kernels:12.3f} {1e3 * sparse:12.3f}"
                        f" {kernels / sparse:6.2f}",
                        flush=True,
                    )
                    if kernels > 8 * sparse:
                        break  # larger ones are clear
    return 0


if __name__ == "__main__":
    sys.exit(main())
