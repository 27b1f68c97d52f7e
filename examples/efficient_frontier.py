"""The efficient frontier and its price of risk: a portfolio told as a list of constraints, one problem for each limit.

With Σ = FᵀF the covariance, μ the expected returns and σ the largest risk that is allowed:

    maximise μᵀx   subject to   1ᵀx = 1,  0 ≤ x ≤ limit,  ½ ‖F x‖² ≤ ½ σ².

The multiplier of the last constraint says what one more unit of variance would return, so that σ times it is the slope
of the frontier; forward mode says which assets the risk would go into.
Known answer: σ = 0.04 without a limit gives x = (0, 0.28692941, 0.71307059).

Run: python examples/efficient_frontier.py [picture.png]
"""

import sys

import numpy as np

import gpudiff as gd
from gpudiff.forms import Bounds, Equal, Quadratic

SIGMA = np.array([[0.002, 0.0005, 0.001], [0.0005, 0.003, 0.0002], [0.001, 0.0002, 0.0025]])
MU = np.array([0.05, 0.08, 0.12])
F = np.linalg.cholesky(SIGMA).T
RISK = 2  # the position of the risk constraint in the list


def portfolios(sigmas, limit=np.inf):
    """The solution for each risk in `sigmas` `[B]`, no position above `limit`."""
    rules = [Equal(np.ones((1, 3)), [1.0]), Bounds(0.0, limit), Quadratic(F, None, sigmas**2 / 2, scale=1e-3)]
    sol = gd.solve_forms(None, -MU, rules)
    sol.raise_for_status()
    return sol


def slopes(sol, sigmas):
    """How return `[B]` (by the multiplier) and weights `[B, 3]` (by forward mode) move with σ."""
    dot = sol.jvp(forms={RISK: Quadratic(r=sigmas)})  # d(½σ²) = σ dσ
    return sigmas * sol.forms[RISK].y, dot.x


def draw(path):
    """The frontier with two of its tangents, and where the next unit of risk goes."""
    from matplotlib.figure import Figure

    sigmas = np.linspace(0.035, 0.0495, 291)
    figure = Figure(figsize=(8, 7.2), dpi=120, layout="constrained")
    frontier, weights = figure.subplots(2, 1, sharex=True)
    for limit, color, label in ((np.inf, "#1f5fa8", "no limit"), (0.5, "#b8582b", "no position above 0.5")):
        sol = portfolios(sigmas, limit)
        frontier.plot(sigmas, -sol.obj, color=color, lw=2, label=label)
        slope, _ = slopes(sol, sigmas)
        for at in (20, 110):
            near = np.array([-0.0015, 0.0015])
            frontier.plot(sigmas[at] + near, -sol.obj[at] + slope[at] * near, color="#767676", lw=0.9)
            frontier.plot(sigmas[at], -sol.obj[at], "o", color=color, ms=4)
    _, moves = slopes(portfolios(sigmas), sigmas)
    for move, color, i in zip(moves.T, ("#2c7a4b", "#1f5fa8", "#b8582b"), (1, 2, 3), strict=True):
        weights.plot(sigmas, move, color=color, lw=2, label=f"asset {i}, μ = {MU[i - 1]:.2f}")
    weights.axhline(0, color="#767676", lw=0.8)
    frontier.set(ylabel="expected return", title="Efficient frontier: its slope is σ times a multiplier")
    weights.set(xlabel="risk limit σ", ylabel="dx / dσ", title="Where one more unit of risk goes (no limit)")
    for axes in (frontier, weights):
        axes.legend(loc="best", frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(sigmas[0], sigmas[-1])
    figure.savefig(path)


def main(path="efficient_frontier.png"):
    """Print the portfolio at σ = 0.04 and draw the frontier."""
    sigmas = np.array([0.04])
    sol = portfolios(sigmas)
    slope, move = slopes(sol, sigmas)
    print(
        f"σ = 0.04: x = {sol.x[0].round(8)}, return {-sol.obj[0]:.6f}, slope {slope[0]:.6f}, dx/dσ {move[0].round(4)}"
    )
    draw(path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
