"""A production LP: what is the best plan, what is one more unit of each resource worth, and how does the plan move?

Two products, profits 3 and 5 a unit; machine hours 2x₁ + x₂ ≤ 100 and work hours x₁ + 3x₂ ≤ 90:

    minimise −3x₁ − 5x₂   subject to   A x + s = b,  s ≥ 0.

Known answer: x = (42, 16), profit 206, shadow prices y = (0.8, 1.4); dx/db₀ = (0.6, −0.2), dx/db₁ = (−0.2, 0.4).

Run: python examples/production_lp.py [picture.png]
"""

import sys

import numpy as np

import gpudiff as gd

q = np.array([-3.0, -5.0])
A = np.array([[2.0, 1.0], [1.0, 3.0], [-1.0, 0.0], [0.0, -1.0]])
b = np.array([100.0, 90.0, 0.0, 0.0])
CONES = [gd.Nonnegative(4)]


def plan():
    """The solution, and its tangents for one more hour of each resource."""
    sol = gd.solve(None, q, A, b, CONES)
    return sol, sol.jvp(b=[1.0, 0.0, 0.0, 0.0]), sol.jvp(b=[0.0, 1.0, 0.0, 0.0])


def profits(machine_hours):
    """Profit and its derivative for many amounts of machine hours `[B]`, one batched solve."""
    hours = np.tile(b, (len(machine_hours), 1))
    hours[:, 0] = machine_hours
    sol = gd.solve(None, q, A, hours, CONES)
    return -sol.obj, -sol.vjp(obj=np.ones(len(machine_hours))).b[:, 0]


def draw(path):
    """Left: the feasible plans and how the best one moves. Right: profit and shadow price over machine hours."""
    from matplotlib.figure import Figure

    sol, machine, work = plan()
    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.fill([0, 50, 42, 0], [0, 0, 16, 30], color="#dce6f2", label="feasible plans")
    left.plot(*sol.x, "o", color="#1f5fa8", ms=9, label=f"best plan ({sol.x[0]:.0f}, {sol.x[1]:.0f})")
    for dot, color, name in ((machine, "#b8582b", "machine"), (work, "#2c7a4b", "work")):
        end = sol.x + 15 * dot.x
        left.annotate("", end, sol.x, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2})
        left.annotate(f"+15 {name} hours", end, xytext=(4, 4), textcoords="offset points", color=color)
    left.set(xlabel="x₁", ylabel="x₂", xlim=(0, 80), ylim=(0, 33), title="The best plan and where it moves")
    left.legend(loc="upper right", frameon=False)

    hours = np.arange(5.5, 250)  # not at 30 and 180, where the price jumps and there is no derivative
    profit, price = profits(hours)
    right.plot(hours, profit, color="#1f5fa8", lw=2)
    right.plot(b[0], -sol.obj, "o", color="#1f5fa8", ms=8)
    right.set(xlabel="machine hours b₀", title="Profit and the price of a machine hour")
    right.set_ylabel("profit", color="#1f5fa8")
    prices = right.twinx()
    prices.plot(hours, price, color="#b8582b", lw=1.5)
    prices.set_ylabel("d profit / d b₀", color="#b8582b")
    prices.set_ylim(0, 6)
    left.spines["right"].set_visible(False)
    for axes in (left, right, prices):
        axes.spines["top"].set_visible(False)
    figure.savefig(path)


def main(path="production_lp.png"):
    """Print the answer and draw it."""
    sol, machine, work = plan()
    print(f"plan {sol.x.round(6)}, profit {-sol.obj:.6f}, shadow prices {sol.y[:2].round(6)}")
    print(f"one more machine hour: plan {machine.x.round(6)}, profit {-machine.obj:+.6f}")
    print(f"one more work hour:    plan {work.x.round(6)}, profit {-work.obj:+.6f}")
    draw(path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
