"""Ridge regression: how does the slope of the line move when one data point moves?

    minimise (1/N) Σ (yᵢ − w xᵢ − c)² + α (w² + c²).

The residuals are variables of the QP, so that each point stands in one row, w xᵢ + c + rᵢ = yᵢ, and one reverse pass
tells the influence of all of them. Known answer (α = 0.8, the data below): (w, c) = (0.57244494, 0.48331765),
dw/dy = (−0.00050017, −0.00414739, 0.00121241, …), dw/dx = (0.00456826, 0.00544634, −0.00185827, …).

Run: python examples/ridge_sensitivity.py [picture.png]
"""

import sys

import numpy as np

import gpudiff as gd

ALPHA, N = 0.8, 150
random = np.random.RandomState(42)
SLOPE, SHIFT = 2 * abs(random.randn()), random.rand()
X = random.randn(N)
Y = SLOPE * X + SHIFT + 0.8 * random.randn(N)


def fit():
    """Solve the QP in the variables (w, c, r)."""
    P = np.diag(np.concatenate([[2 * ALPHA, 2 * ALPHA], np.full(N, 2 / N)]))
    A = np.hstack([X[:, None], np.ones((N, 1)), np.eye(N)])
    sol = gd.solve(P, np.zeros(2 + N), A, Y, [gd.Zero(N)])
    sol.raise_for_status()
    return sol


def influence(sol):
    """(dw/dx, dw/dy) of every point, `[N]` each: the first column of A holds x, and b holds y."""
    bar = sol.vjp(x=np.eye(2 + N)[0])
    return bar.A[:, 0], bar.b


def draw(sol, dx, dy, path):
    """The points with the direction in which moving each raises the slope most, and both derivatives over x."""
    from matplotlib.figure import Figure

    blue, red = "#1f5fa8", "#b8582b"
    figure = Figure(figsize=(11.5, 5), dpi=110, layout="constrained")
    points, slopes = figure.subplots(1, 2)
    ends = np.array([X.min() - 0.3, X.max() + 0.3])
    norm = np.hypot(dx, dy)
    points.plot(ends, sol.x[0] * ends + sol.x[1], color="#222222", lw=1.5, label="ridge")
    points.plot(ends, SLOPE * ends + SHIFT, ":", color="#767676", lw=1.5, label="what the data come from")
    points.scatter(X, Y, s=1e4 * norm, color=blue, alpha=0.45, edgecolors="white", lw=0.5)
    points.quiver(X, Y, dx, dy, color=red, angles="xy", scale=0.13, width=0.003)
    points.set(xlabel="x", ylabel="y", title="Arrows: where to move a point for a larger slope w")
    points.legend(frameon=False, loc="upper left")
    slopes.axhline(0, color="#bbbbbb", lw=0.8)
    slopes.plot(X, dy, ".", color=blue, label="dw/dyᵢ: a line in xᵢ")
    slopes.plot(X, dx, ".", color=red, label="dw/dxᵢ: the residual counts as well")
    slopes.set(xlabel="xᵢ", ylabel="derivative of the slope", title="Influence of each point")
    slopes.legend(frameon=False, loc="upper left")
    for axes in (points, slopes):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(path="ridge_sensitivity.png"):
    """Print the line and the first derivatives, and draw all of them."""
    sol = fit()
    dx, dy = influence(sol)
    print(f"w = {sol.x[0]:.8f}, c = {sol.x[1]:.8f}")
    print(f"dw/dy = {dy[:3].round(8)}, …   dw/dx = {dx[:3].round(8)}, …")
    most = int(np.hypot(dx, dy).argmax())
    print(f"the most influential point is number {most}: dw/dx = {dx[most]:.8f}, dw/dy = {dy[most]:.8f}")
    draw(sol, dx, dy, path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
