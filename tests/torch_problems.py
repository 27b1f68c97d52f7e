"""Small well-posed problems as tensors, one for each kind of cone: what the tests of torch differentiate."""

from __future__ import annotations

import torch
from problems import ED, E, N, Q, S, Z, generator, planted, stack, well_conditioned

import gpudiff as gd

# name: cones, n, states (see `problems.planted`); away from the tips, so that the curved cones are at their surfaces
CASES = {
    "linear": ([(Z, 1), (N, 3)], 3, ()),
    "second-order": ([(Q, 3), (N, 1)], 3, ()),
    "psd": ([(S, 6)], 4, ("rank 2",)),
    "exponential": ([(E, 3)], 3, ()),
    "dual exponential": ([(ED, 3)], 3, ()),
    "power": ([("power 0.3", 3)], 3, ()),
    "dual power": ([("dual power 0.3", 3)], 3, ()),
}
MIXED = ([(Q, 3), (N, 2), (E, 3)], 4, ())


def tensors(name: str, batch: int = 2):
    """(L, q, A, b) with P = L Lᵀ, which moves among symmetric matrices only, and the cones."""
    cones, n, states = MIXED if name == "mixed" else CASES[name]
    rng = generator("torch", name)
    problem = stack([well_conditioned(lambda rng: planted(rng, n, cones, n, 1, states), rng) for _ in range(batch)])
    L = torch.linalg.cholesky(torch.from_numpy(problem.P))
    return [L, *(torch.from_numpy(part) for part in (problem.q, problem.A, problem.b))], problem.gd_cones


def solve(L, q, A, b, cones, **options):
    return gd.solve(L @ L.mT, q, A, b, cones, **options)


def point(L, q, A, b, cones):
    """x, y, s and obj side by side."""
    sol = solve(L, q, A, b, cones)
    return torch.cat([sol.x, sol.y, sol.s, sol.obj[..., None]], -1)
