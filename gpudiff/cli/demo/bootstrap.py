"""The statistics of `gpudiff demo`: bootstrap replicates as QPs, and their derivatives carried back to the data.

Replicate r gives observation i the integer weight w_ri (how often it was drawn). With z = (x, y), all that a
least-squares fit needs of the data is the weighted mean M_r = Σ_i w_ri φ(z_i) / N of the monomials

    φ(z) = (x, y, vec(x xᵀ), x y),

because with an intercept fitted in every replicate (that is, with the replicate's means m_x, m_y removed)

    P = M_xx − m_x m_xᵀ,    q = −(M_xy − m_x m_y).

M is linear in the weights, so a cotangent (P̄, q̄) of one replicate's QP goes back to every observation by the transposed
map, which is what `pull_back` does. Both directions are matrix products over all replicates at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpudiff.cli.errors import require

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Regression:
    """Standardised features and centred responses of one data set.

    Attributes:
        names: The p features.
        x: Features, mean 0 and variance 1 in each column; `[N, p]`.
        y: Responses, mean 0; `[N]`.
        raw_x: Features in their own units; `[N, p]`.
        raw_y: Responses in their own units; `[N]`.
        monomials: φ(z_i) in rows; `[N, p + 1 + p² + p]`.
    """

    names: tuple[str, ...]
    x: Array
    y: Array
    raw_x: Array
    raw_y: Array
    monomials: Array

    @property
    def observations(self) -> int:
        """N."""
        return self.x.shape[0]

    @property
    def features(self) -> int:
        """The number p of features, which is the number of variables of each QP."""
        return self.x.shape[1]


def load_diabetes() -> Regression:
    """Read the diabetes data of scikit-learn (442 patients, 10 measurements, progression after one year).

    Source: Efron, Hastie, Johnstone, Tibshirani, "Least angle regression", Annals of Statistics 32 (2004).
    """
    data: Any = require("sklearn.datasets", "demo").load_diabetes(scaled=False)
    return regression(data.data, data.target, tuple(str(name) for name in data.feature_names))


def regression(raw_x: Array, raw_y: Array, names: tuple[str, ...]) -> Regression:
    """Standardise features `[N, p]`, centre responses `[N]` and tabulate the monomials."""
    x = (raw_x - raw_x.mean(axis=0)) / raw_x.std(axis=0)
    y = raw_y - raw_y.mean()
    squares = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    monomials = np.concatenate([x, y[:, None], squares, x * y[:, None]], axis=1)
    return Regression(names, x, y, raw_x, raw_y, monomials)


def draw(observations: int, replicates: int, rng: np.random.Generator) -> Array:
    """Bootstrap weights: how often each observation is drawn; rows sum to N; `[replicates, N]`."""
    return rng.multinomial(observations, np.full(observations, 1 / observations), size=replicates).astype(np.float64)


@dataclass(frozen=True)
class Replicates:
    """The QPs of one chunk of replicates: objective ½βᵀPβ + qᵀβ, and the means they were built from.

    Attributes:
        weights: `[B, N]`.
        mean_x: m_x; `[B, p]`.
        mean_y: m_y; `[B]`.
        P: `[B, p, p]`.
        q: `[B, p]`.
    """

    weights: Array
    mean_x: Array
    mean_y: Array
    P: Array
    q: Array


def moments_to_qp(data: Regression, weights: Array) -> Replicates:
    """Build P and q of the replicates with the given weights `[B, N]`; 2·B·N·(p² + 2p + 1) flops in one product."""
    p = data.features
    moments = weights @ data.monomials / data.observations
    mean_x, mean_y = moments[:, :p], moments[:, p]
    second = moments[:, p + 1 : p + 1 + p * p].reshape(-1, p, p)
    # One triangle mirrored: the two halves of a matrix product need not round alike, and P has to be symmetric.
    second = np.tril(second) + np.tril(second, -1).swapaxes(1, 2)
    P = second - mean_x[:, :, None] * mean_x[:, None, :]
    q = mean_x * mean_y[:, None] - moments[:, p + 1 + p * p :]
    return Replicates(weights, mean_x, mean_y, P, q)


def pull_back(replicates: Replicates, P_bar: Array, q_bar: Array) -> tuple[Array, Array]:
    """Carry cotangents of P `[B, p, p]` and q `[B, p]` back to the monomials: M̄ `[B, p + 1 + p² + p]` and M̄ᵀM `[B]`.

    The derivative with respect to the weight of observation i, weights being normalised to mean one, is
    w_i (M̄ᵀφ(z_i) − M̄ᵀM) / N.
    """
    m_x, m_y = replicates.mean_x, replicates.mean_y
    to_x = q_bar * m_y[:, None] - 2 * np.einsum("bij,bj->bi", P_bar, m_x)
    to_y = np.einsum("bi,bi->b", q_bar, m_x)
    M_bar = np.concatenate([to_x, to_y[:, None], P_bar.reshape(len(P_bar), -1), -q_bar], axis=1)
    # ⟨M̄, M⟩ from P and q themselves: P = M_xx − m_x m_xᵀ and q alike, with the means' own terms added.
    second = replicates.P + m_x[:, :, None] * m_x[:, None, :]
    cross = m_x * m_y[:, None] - replicates.q
    total = (
        np.einsum("bi,bi->b", to_x, m_x)
        + to_y * m_y
        + np.einsum("bij,bij->b", P_bar, second)
        - np.einsum("bi,bi->b", q_bar, cross)
    )
    return M_bar, total


def influence(data: Regression, replicates: Replicates, P_bar: Array, q_bar: Array) -> Array:
    """Sum over the replicates of the derivative of a quantity with respect to each observation's weight; `[N]`.

    The quantity is the one whose cotangents are given. Divided by the number of replicates it is the exact derivative
    of the quantity's bootstrap mean: the change, to first order, when one observation counts twice.

    Source: Efron, "Estimation and accuracy after model selection", JASA 109 (2014); infinitesimal jackknife.
    """
    M_bar, total = pull_back(replicates, P_bar, q_bar)
    weights = replicates.weights
    per_monomial = weights.T @ M_bar  # [N, K]
    return (np.einsum("ik,ik->i", data.monomials, per_monomial) - weights.T @ total) / data.observations
