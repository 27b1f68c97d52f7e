"""Where the derivative of a solution exists, and what comes where it does not: a kink, a vertex, rows that repeat.

1. min ½(x − 1)²  s.t.  −1 ≤ x ≤ b: x = min(b, 1) has slopes 1 and 0 to the left and right of b = 1.
2. The production LP with profit p for its first product: x₁ is 0, 42 and 50 with jumps at p = 5/3 and 10, and its
   derivative exactly zero between them; along the central path s∘y = μ it is smooth.
3. min ½‖x − (1, 2)‖²  s.t.  x₁ ≤ t twice: at t = 0 any y ≥ 0 with y₁ + y₂ = 1 will do, (½, ½) is the shortest, and x₁
   moves with t whichever is taken.

derivatives.md tells the whole story.

Run: python examples/where_derivatives_exist.py [picture.png]
"""

import sys

import numpy as np

import gpudiff as gd

MU = 2.0  # of the central path: a duality gap of 4 μ beside profits of 200
A = np.array([[2.0, 1.0], [1.0, 3.0], [-1.0, 0.0], [0.0, -1.0]])
HOURS = np.array([100.0, 90.0, 0.0, 0.0])
TWICE = (np.eye(2), np.array([-1.0, -2.0]), np.array([[1.0, 0.0], [1.0, 0.0]]))


def kink(bounds):
    """X [B], dx/db [B], margin [B] and whether it can be trusted [B] for each bound b."""
    b = np.stack([bounds, np.ones(len(bounds))], axis=1)
    sol = gd.solve(np.eye(1), [-1.0], [[1.0], [-1.0]], b, [gd.Nonnegative(2)])
    return sol.x[:, 0], sol.jvp(b=[1.0, 0.0]).x[:, 0], sol.margin, sol.differentiable


def vertices(profits):
    """Plans x [B, 2] of the production LP and dx/dp [B, 2] for each profit p of the first product."""
    sol = gd.solve(None, costs(profits), A, HOURS, [gd.Nonnegative(4)])
    return sol.x, sol.jvp(q=[-1.0, 0.0]).x


def smoothed(profits):
    """dx/dp [B, 2] on the central path."""
    sol = gd.solve(None, costs(profits), A, HOURS, [gd.Nonnegative(4)], gd.Settings(smoothing=MU))
    return sol.jvp(q=[-1.0, 0.0]).x


def costs(profits):
    """Q [B, 2] for each profit p of the first product; the second brings 5."""
    return np.stack([-np.asarray(profits), np.full(len(profits), -5.0)], axis=1)


def central_path(q):
    """X [B, 2] that minimises qᵀx − μ Σ log(b − A x), by Newton's method."""
    x = np.tile([10.0, 10.0], (len(q), 1))
    for _ in range(100):
        s = HOURS - x @ A.T
        hessian = np.einsum("ki,bk,kj->bij", A, MU / s**2, A)
        step = -np.linalg.solve(hessian, (q + (MU / s) @ A)[..., None])[..., 0]
        reach = np.max((step @ A.T) / s, axis=1, initial=0, where=s > 0)  # a step of 1/reach meets the boundary
        x = x + step / np.maximum(1, 1.5 * reach)[:, None]
    return x


def repeated(t):
    """x₁ at t, and its tangent when both rows move together, by either method."""
    b = np.full(2, t)
    settings = [gd.Settings(method="active_set"), gd.Settings(method="ipm")]
    return [gd.solve(*TWICE, b, [gd.Nonnegative(2)], each) for each in settings]


def draw(path):
    """Above what the solution does, below its derivative."""
    from matplotlib.figure import Figure

    blue, red, grey = "#1f5fa8", "#b8582b", "#767676"
    figure = Figure(figsize=(13, 6.4), dpi=100, layout="constrained")
    (top_1, top_2, top_3), (low_1, low_2, low_3) = figure.subplots(2, 3)

    bounds = np.linspace(0, 2, 201)
    x, slope, margin, _ = kink(bounds)
    top_1.plot(bounds, x, color=blue, lw=2)
    top_1.plot(1, 1, "o", color=red, label="kink: slope 1 before, 0 after")
    top_1.set(title="1. A bound that becomes active", xlabel="b", ylabel="x")
    top_1.legend(frameon=False, loc="lower right")
    beside = margin > 1e-6
    low_1.plot(bounds[beside], slope[beside], ".", color=blue, ms=4, label="dx/db from jvp")
    low_1.plot(bounds[~beside], slope[~beside], "o", color=red, label="at the kink: one of the two")
    low_1.plot(bounds, margin, color=grey, lw=1, label="margin")
    low_1.set(xlabel="b", ylabel="dx/db, margin", ylim=(-0.05, 1.6))
    low_1.legend(frameon=False, loc="upper right")

    profits = np.linspace(0.01, 14, 400)
    x, exact = vertices(profits)
    centre = central_path(costs(profits))
    top_2.plot(profits, x[:, 0], ".", color=blue, ms=3, label="optimum: three vertices")
    top_2.plot(profits, centre[:, 0], color=red, lw=1.5, label=f"central path, μ = {MU:g}")
    top_2.set(title="2. An LP", xlabel="profit p of product 1", ylabel="x₁")
    top_2.legend(frameon=False, loc="lower right")
    low_2.plot(profits, exact[:, 0], color=blue, lw=2, label="exact: zero")
    low_2.plot(profits, smoothed(profits)[:, 0], color=red, lw=1.5, label="smoothed")
    low_2.set(xlabel="profit p of product 1", ylabel="dx₁/dp")
    low_2.legend(frameon=False)

    one, both = repeated(0.0)
    top_3.plot([0, 1], [1, 0], color=grey, lw=1.5, label="all multipliers: y₁ + y₂ = 1")
    top_3.plot(*both.y, "o", color=blue, label="interior point")
    top_3.plot(*one.y, "s", color=red, label="active set (says: margin 0)")
    end = both.y + 0.4 * both.jvp(b=[1.0, 1.0]).y
    top_3.annotate("", end, both.y, arrowprops={"arrowstyle": "-|>", "color": blue, "lw": 1.5})
    top_3.set(title="3. A row that comes twice", xlabel="y₁", ylabel="y₂", xlim=(-0.1, 1.3), ylim=(-0.1, 1.3))
    top_3.legend(frameon=False, loc="upper right")
    along = np.linspace(-1, 2, 7)
    low_3.plot(along, [repeated(t)[0].x[0] for t in along], color=grey, lw=1.5, label="x₁ as both rows move")
    for sol, color, name in ((both, blue, "interior point"), (one, red, "active set")):
        tangent = sol.jvp(b=[1.0, 1.0]).x[0]
        ends = np.array([-0.5, 0.5]) if sol is both else np.array([-0.25, 0.25])
        low_3.plot(ends, sol.x[0] + ends * tangent, color=color, lw=5 if sol is both else 2, label=f"jvp, {name}")
    low_3.set(xlabel="t", ylabel="x₁")
    low_3.legend(frameon=False)
    for axes in (top_1, top_2, top_3, low_1, low_2, low_3):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(path="where_derivatives_exist.png"):
    """Print the three answers and draw them."""
    for bound, x, slope, margin, trusted in zip((0.5, 1.0, 1.5), *kink([0.5, 1.0, 1.5]), strict=True):
        print(f"b = {bound}: x = {x:.6f}, dx/db = {slope:.6f}, margin {margin:.2f}, differentiable: {trusted}")
    profits = [1.0, 3.0, 12.0]
    for p, x, exact, smooth in zip(profits, *vertices(profits), smoothed(profits), strict=True):
        print(f"p = {p:g}: x = {x.round(6) + 0}, dx₁/dp = {abs(exact[0]):.6f}, smoothed {smooth[0]:.6f}")
    for sol in repeated(0.0):
        dot = sol.jvp(b=[1.0, 1.0])
        what = f"y = {sol.y.round(6)}, dx₁/dt = {dot.x[0]:.6f}, dy = {dot.y.round(6)}"
        print(f"{sol.method}: {what}, margin {sol.margin:.2f}")
    draw(path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
