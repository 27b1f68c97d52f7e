"""A portfolio with a risk limit: how does the result on held-out returns change with the limit σ?

One second-order cone program for each σ, all in one batch, with Σ = L Lᵀ the covariance and μ the expected returns:

    maximise μᵀx   subject to   1ᵀx ≤ 1,  x ≥ 0,  ‖Lᵀx‖ ≤ σ.

The loss on held-out returns r is −mean log(1 + rᵀx); reverse mode gives its derivative in σ.
Known answer: σ = 0.04 gives x = (0, 0.28692941, 0.71307059).

Run: python examples/risk_limit.py [picture.png]
"""

import sys

import numpy as np

import gpudiff as gd

SIGMA = np.array([[0.002, 0.0005, 0.001], [0.0005, 0.003, 0.0002], [0.001, 0.0002, 0.0025]])
MU = np.array([0.05, 0.08, 0.12])
CONES = [gd.Nonnegative(4), gd.SecondOrder(4)]
RISK = 4  # the row of b that holds σ

# What the investor did not know: the third asset disappoints.
HELD_OUT = np.random.default_rng(0).multivariate_normal([0.05, 0.075, 0.06], SIGMA, size=400)


def portfolios(limits):
    """Solve for each limit in `limits` `[B]`."""
    L = np.linalg.cholesky(SIGMA)
    A = np.vstack([np.ones(3), -np.eye(3), np.zeros(3), -L.T])  # rows: budget, x ≥ 0, then (σ, Lᵀx) in the cone
    b = np.zeros((len(limits), 8))
    b[:, 0], b[:, RISK] = 1.0, limits
    sol = gd.solve(None, -MU, A, b, CONES)
    sol.raise_for_status()
    return sol


def held_out_loss(sol):
    """Loss on the held-out returns `[B]` and its derivative in σ `[B]`."""
    growth = 1 + sol.x @ HELD_OUT.T  # [B, observations]
    gradient = -(1 / growth) @ HELD_OUT / len(HELD_OUT)
    return -np.log(growth).mean(axis=1), sol.vjp(x=gradient).b[:, RISK]


def draw(path):
    """Weights, loss and derivative over σ."""
    from matplotlib.figure import Figure

    limits = np.linspace(0.005, 0.06, 221)
    sol = portfolios(limits)
    loss, slope = held_out_loss(sol)
    best = int(loss.argmin())
    figure = Figure(figsize=(8, 8.4), dpi=120, layout="constrained")
    weights, losses, slopes = figure.subplots(3, 1, sharex=True)
    weights.stackplot(
        limits, sol.x.T, colors=("#2c7a4b", "#1f5fa8", "#b8582b"), alpha=0.75,
        labels=("asset 1, μ = 0.05", "asset 2, μ = 0.08", "asset 3, μ = 0.12"),
    )  # fmt: skip
    weights.set(ylabel="weights", title="Portfolio", ylim=(0, 1.02))
    weights.legend(loc="upper left", frameon=False)
    losses.plot(limits, loss, color="#222222", lw=2)
    losses.plot(limits[best], loss[best], "o", color="#b8582b")
    losses.set(ylabel="−mean log growth", title="Loss on held-out returns")
    slopes.axhline(0, color="#767676", lw=0.8)
    exists = np.where(sol.differentiable, slope, np.nan)  # not at σ = 0.05, where the limit and asset 2 go out at once
    slopes.plot(limits, exists, color="#222222", lw=2)
    slopes.plot(limits[best], slope[best], "o", color="#b8582b")
    slopes.set(xlabel="risk limit σ", ylabel="d loss / dσ", title="Its derivative")
    for axes in (weights, losses, slopes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(limits[0], limits[-1])
    figure.savefig(path)


def main(path="risk_limit.png"):
    """Print the portfolio at σ = 0.04 and draw all of them."""
    sol = portfolios(np.array([0.04]))
    loss, slope = held_out_loss(sol)
    print(f"σ = 0.04: x = {sol.x[0].round(8)}, held-out loss {loss[0]:.6f}, derivative in σ {slope[0]:.6f}")
    draw(path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
