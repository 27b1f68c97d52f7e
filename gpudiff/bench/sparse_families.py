"""Large sparse problems from applications, each built feasible and with an optimum, for tests and benchmarks.

Sizes are arguments; what is said of sparsity holds for all of them. All data are in double precision, P and A in
compressed columns.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from gpudiff._cones import PSD, Cone, Exponential, Nonnegative, SecondOrder, Zero
from gpudiff._svec import layout
from gpudiff.bench.families import Array


class SparseCase(NamedTuple):
    """The arguments of `gpudiff.solve`; P and A are SciPy's."""

    P: Any
    q: Array
    A: Any
    b: Array
    cones: list[Cone]


def mpc(seed: int, horizon: int, states: int = 12, inputs: int = 4) -> SparseCase:
    """Linear-quadratic control with bounds: (states + inputs) · horizon variables in bands.

    minimise Σ xₜᵀQ xₜ + uₜᵀR uₜ subject to xₜ₊₁ = F xₜ + G uₜ, |uₜ| ≤ 1 and |xₜ| ≤ 4.
    """
    sparse: Any = import_module("scipy.sparse")

    rng = np.random.default_rng(seed)
    step = np.eye(states) + rng.normal(0, 0.1, (states, states)) / np.sqrt(states)
    # stable: otherwise the last state depends on the first beyond reason
    F = step * 0.98 / np.max(np.abs(np.linalg.eigvals(step)))
    G = rng.normal(0, 0.5, (states, inputs))
    start = rng.uniform(-1, 1, states)
    stage = sparse.block_diag([sparse.diags(rng.uniform(0.1, 1, inputs)), sparse.diags(rng.uniform(1, 10, states))])
    P = sparse.block_diag([stage] * horizon, "csc")
    n = P.shape[0]  # order of variables: u₀, x₁, u₁, x₂, …
    shift = sparse.diags([np.ones(horizon - 1)], [-1])
    now = sparse.kron(sparse.eye(horizon), np.hstack([-G, np.eye(states)]))
    back = sparse.kron(shift, np.hstack([np.zeros((states, inputs)), -F]))
    limit = np.tile(np.concatenate([np.ones(inputs), np.full(states, 4.0)]), horizon)
    b = np.concatenate([F @ start, np.zeros(states * (horizon - 1)), limit, limit])
    A = sparse.vstack([now + back, sparse.eye(n), -sparse.eye(n)], "csc")
    A.eliminate_zeros()
    return SparseCase(P, 0.1 * rng.standard_normal(n), A, b, [Zero(states * horizon), Nonnegative(2 * n)])


def dispatch(seed: int, units: int, periods: int) -> SparseCase:
    """A linear program: generators with costs, capacities and ramp limits meet demand; units · periods variables.

    minimise Σ c g subject to Σᵤ g = demand in each period, 0 ≤ g ≤ capacity, |gₜ₊₁ − gₜ| ≤ ramp. Costs differ from
    period to period, and ramps, too, so that the optimum is a vertex of as many active rows as variables.
    """
    sparse: Any = import_module("scipy.sparse")

    rng = np.random.default_rng(seed)
    n = units * periods  # order of variables: all units of a period, period after period
    capacity = rng.uniform(0.5, 2, units)
    demand = capacity.sum() * (0.5 + 0.2 * np.sin(np.arange(periods) / 4) + rng.uniform(-0.02, 0.02, periods))
    cost = (rng.uniform(1, 3, units) + rng.uniform(0, 0.5, (periods, units))).ravel()
    total = sparse.kron(sparse.eye(periods), np.ones((1, units)))
    change = sparse.kron(
        sparse.diags([-np.ones(periods - 1), np.ones(periods - 1)], [0, 1], (periods - 1, periods)), sparse.eye(units)
    )
    ramp = np.tile(0.3 * capacity, periods - 1) * rng.uniform(0.8, 1.2, units * (periods - 1))
    A = sparse.vstack([total, sparse.eye(n), -sparse.eye(n), change, -change], "csc")
    b = np.concatenate([demand, np.tile(capacity, periods), np.zeros(n), ramp, ramp])
    return SparseCase(None, cost, A, b, [Zero(periods), Nonnegative(2 * n + 2 * ramp.size)])


def portfolio(seed: int, assets: int, factors: int) -> SparseCase:
    """Mean and variance with a factor model: assets + factors variables.

    minimise ½ xᵀD x + ½ zᵀz − μᵀx subject to z = Fᵀx, Σx = 1, x ≥ 0.
    """
    sparse: Any = import_module("scipy.sparse")

    rng = np.random.default_rng(seed)
    F = sparse.random(assets, factors, density=min(1.0, 20 / factors), random_state=rng, data_rvs=rng.standard_normal)
    P = sparse.diags(np.concatenate([rng.uniform(0.1, 1, assets), np.ones(factors)]), format="csc")
    q = np.concatenate([-rng.normal(0, 0.1, assets), np.zeros(factors)])
    A = sparse.bmat(
        [[F.T, -sparse.eye(factors)], [np.ones((1, assets)), None], [-sparse.eye(assets), None]], format="csc"
    )
    b = np.concatenate([np.zeros(factors), [1.0], np.zeros(assets)])
    return SparseCase(P, q, A, b, [Zero(factors + 1), Nonnegative(assets)])


def robust_portfolio(seed: int, assets: int, factors: int) -> SparseCase:
    """Return with a bound on risk: one second-order cone of assets + factors + 1 rows, x ≥ 0, Σx = 1."""
    sparse: Any = import_module("scipy.sparse")

    rng = np.random.default_rng(seed)
    F = sparse.random(assets, factors, density=min(1.0, 20 / factors), random_state=rng, data_rvs=rng.standard_normal)
    D = sparse.diags(np.sqrt(rng.uniform(0.1, 1, assets)))
    uniform = np.full(assets, 1 / assets)
    risk = np.linalg.norm(np.concatenate([F.T @ uniform, D @ uniform]))
    A = sparse.vstack([np.ones((1, assets)), -sparse.eye(assets), sparse.csc_matrix((1, assets)), -F.T, -D], "csc")
    b = np.concatenate([[1.0], np.zeros(assets), [1.2 * risk], np.zeros(factors + assets)])
    cones: list[Cone] = [Zero(1), Nonnegative(assets), SecondOrder(1 + factors + assets)]
    return SparseCase(None, -rng.normal(0.5, 0.2, assets), A, b, cones)


def many_norms(seed: int, n: int, count: int, size: int = 4) -> SparseCase:
    """A linear objective over `count` small second-order cones and a box: sparse in rows and columns.

    minimise qᵀx subject to ‖Gᵢ x + gᵢ‖ ≤ dᵢ, |x| ≤ 1, where each Gᵢ has `size` rows of three entries.
    """
    sparse: Any = import_module("scipy.sparse")

    rng = np.random.default_rng(seed)
    rows, m = np.repeat(np.arange(count * size), 3), count * (size + 1)
    columns = rng.integers(0, n, rows.size)
    G = sparse.csc_matrix((rng.standard_normal(rows.size), (rows + rows // size + 1, columns)), (m, n))
    inside = rng.uniform(-0.2, 0.2, n)
    b = np.zeros(m)
    heads = np.arange(count) * (size + 1)
    b[:] = rng.uniform(-0.1, 0.1, m)
    tails = (b - G @ inside).reshape(count, size + 1)[:, 1:]
    b[heads] = np.linalg.norm(tails, axis=1) + rng.uniform(0.1, 0.5, count)
    A = sparse.vstack([sparse.eye(n), -sparse.eye(n), G], "csc")
    cones: list[Cone] = [Nonnegative(2 * n), *[SecondOrder(size + 1)] * count]
    return SparseCase(None, rng.standard_normal(n), A, np.concatenate([np.ones(2 * n), b]), cones)


def correlation(seed: int, order: int) -> SparseCase:
    """The correlation matrix with the least ⟨C, X⟩: X ⪰ 0, a diagonal of ones; order (order + 1) / 2 variables."""
    sparse: Any = import_module("scipy.sparse")

    rng = np.random.default_rng(seed)
    rows, columns, factors = (np.asarray(part) for part in layout(order))
    n = rows.size
    C = rng.standard_normal((order, order))
    diagonal = np.flatnonzero(rows == columns)
    picks = sparse.csc_matrix((np.ones(order), (np.arange(order), diagonal)), (order, n))
    A = sparse.vstack([picks, -sparse.eye(n)], "csc")
    cost = ((C + C.T) / 2)[rows, columns] * factors
    return SparseCase(None, cost, A, np.concatenate([np.ones(order), np.zeros(n)]), [Zero(order), PSD(order)])


def entropy(seed: int, n: int, moments: int) -> SparseCase:
    """The distribution of largest entropy with given moments: n exponential cones, 2 n variables (p, t).

    minimise −Σt subject to (tᵢ, pᵢ, 1) ∈ K, that is tᵢ ≤ −pᵢ log pᵢ; G p = g, Σp = 1.
    """
    sparse: Any = import_module("scipy.sparse")

    rng = np.random.default_rng(seed)
    G = sparse.random(moments, n, density=min(1.0, 10 / moments), random_state=rng, data_rvs=rng.standard_normal)
    p = rng.uniform(0.5, 1.5, n)
    p /= p.sum()
    scale = float(n)  # p in units of its mean: entries of order one
    each = np.arange(n)
    cone = sparse.csc_matrix(
        (-np.ones(2 * n), (np.concatenate([3 * each + 1, 3 * each]), np.concatenate([each, n + each]))), (3 * n, 2 * n)
    )
    linear = sparse.hstack([sparse.vstack([np.ones((1, n)) / scale, G]), sparse.csc_matrix((moments + 1, n))])
    b = np.zeros(3 * n)
    b[2::3] = 1.0
    q = np.concatenate([np.zeros(n), -np.ones(n)])
    rhs = np.concatenate([[1.0], G @ (p * scale), b])
    return SparseCase(None, q, sparse.vstack([linear, cone], "csc"), rhs, [Zero(moments + 1), Exponential(n)])


def banded(seed: int, n: int) -> SparseCase:
    """A quadratic program whose P has three bands and whose rows bound neighbouring differences."""
    sparse: Any = import_module("scipy.sparse")

    rng = np.random.default_rng(seed)
    P = sparse.diags([np.full(n - 1, -0.5), np.full(n, 1.5), np.full(n - 1, -0.5)], [-1, 0, 1], format="csc")
    D = sparse.diags([-np.ones(n - 1), np.ones(n - 1)], [0, 1], (n - 1, n))
    A = sparse.vstack([D, -D], "csc")
    return SparseCase(P, rng.standard_normal(n), A, rng.uniform(0.05, 0.5, 2 * n - 2), [Nonnegative(2 * n - 2)])


def lasso_like(seed: int, n: int, rows: int) -> SparseCase:
    """A sparse quadratic program with random rows: n variables, `rows` inequalities and a box."""
    sparse: Any = import_module("scipy.sparse")

    rng = np.random.default_rng(seed)
    G = sparse.random(rows, n, density=min(1.0, 3 / n), random_state=rng, data_rvs=rng.standard_normal, format="csc")
    P = sparse.diags([np.full(n - 1, -0.4), rng.uniform(1, 2, n), np.full(n - 1, -0.4)], [-1, 0, 1], format="csc")
    A = sparse.vstack([G, sparse.eye(n), -sparse.eye(n)], "csc")
    inside = rng.uniform(-0.5, 0.5, n)
    b = np.concatenate([G @ inside + rng.uniform(0, 0.5, rows), np.ones(2 * n)])
    return SparseCase(P, 2 * rng.standard_normal(n), A, b, [Nonnegative(rows + 2 * n)])
