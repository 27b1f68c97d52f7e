"""Economic dispatch: which generators meet a demand d, at what price, and how does each respond to more demand?

Two generators and load shedding at a penalty; one QP per demand, all demands in one batch:

    minimise 20g₁ + 0.2g₁² + 30g₂ + 0.1g₂² + 10⁴u   subject to   g₁ + g₂ + u = d,  0 ≤ g ≤ (150, 80),  u ≥ 0.

Known answer: d = 50: g = (33.3333, 16.6667), price 33.3333, dg/dd = (1/3, 2/3); d = 100: (50, 50), price 40;
d = 200: (120, 80), price 68, dg/dd = (1, 0); d = 251: (150, 80) and 21 shed, price 10⁴.

Run: python examples/economic_dispatch.py [picture.png]
"""

import sys

import numpy as np

import gpudiff as gd

P = np.diag([0.4, 0.2, 0.0])
q = np.array([20.0, 30.0, 1e4])
LOWER = np.zeros(3)
UPPER = np.array([150.0, 80.0, np.inf])


def dispatch(demand):
    """Powers and load shed `[B, 3]`, price `[B]` and d(powers, shed)/dd `[B, 3]` for each demand `[B]`."""
    sol = gd.solve_qp(P, q, A=np.ones((1, 3)), b=np.reshape(demand, (-1, 1)), lb=LOWER, ub=UPPER)
    sol.raise_for_status()
    price = sol.vjp(obj=np.ones(len(demand))).b[:, 0]  # the derivative of the cost: −y, by the envelope theorem
    return sol.x, price, sol.jvp(b=np.ones((len(demand), 1))).x


def draw(path):
    """Three panels over demand: powers, price, and how the powers share one more unit of demand."""
    from matplotlib.figure import Figure

    demand = np.arange(0.25, 251, 0.5)  # not at 25, 145 and 230, where a generator starts or is full
    power, price, response = dispatch(demand)
    figure = Figure(figsize=(8, 8.4), dpi=120, layout="constrained")
    powers, prices, responses = figure.subplots(3, 1, sharex=True)
    names, colors = ("generator 1", "generator 2", "shed"), ("#1f5fa8", "#b8582b", "#767676")
    powers.stackplot(demand, power.T, colors=colors, alpha=0.75, labels=names)
    powers.set(ylabel="power", title="Who meets the demand")
    powers.legend(loc="upper left", frameon=False)
    prices.semilogy(demand, price, color="#222222", lw=2)
    prices.set(ylabel="price (log scale)", title="Price: derivative of the cost")
    for k, name in enumerate(names):
        responses.plot(demand, response[:, k], color=colors[k], lw=2.4, label=name)
    responses.set(xlabel="demand d", ylabel="dg/dd", title="Who meets one more unit of demand", ylim=(-0.05, 1.05))
    for axes in (powers, prices, responses):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(0, 251)
    figure.savefig(path)


def main(path="economic_dispatch.png"):
    """Print the answers at four demands and draw all of them."""
    demands = [50.0, 100.0, 200.0, 251.0]
    for demand, power, price, response in zip(demands, *dispatch(demands), strict=True):
        print(f"d = {demand:g}: (g₁, g₂, shed) = {power.round(4)}, price {price:.4f}, derivative {response.round(4)}")
    draw(path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
