"""Hyperparameter descent: the strength of a regularisation, found by the gradient of the loss on held-out data.

The weights are the solution of a QP in which α is a named parameter, n = 50 points in D = 20 dimensions,

    w(α) = argmin 1/(2nD) ‖X w − y‖² + α/(2D) ‖w‖²,   and   L(α) = 1/(2nD) ‖X' w(α) − y'‖²   on the other half.

Known answer from α = 0.1 with steps of 0.01: dL/dα = −0.9498922584 and L = 0.8133283822 at the start, 268 steps,
the last from where |dL/dα| ≤ 1e-3, to α = 0.4653073593; the optimum is 0.4656949051.

Run: python examples/hyperparameter_descent.py [picture.png]
"""

import sys

import numpy as np

import gpudiff as gd

START, STEP, STOP = 0.1, 0.01, 1e-3
random = np.random.RandomState(42)
WEIGHTS = 10 * random.randn(20)
X = 10 * random.randn(100, 20)
Y = X @ WEIGHTS + 5 * random.randn(100)
TRAIN, TEST = slice(0, 50), slice(50, 100)
D = 20
SCALE = 50 * D
RIDGE = gd.Sensitivity(P={"": X[TRAIN].T @ X[TRAIN] / SCALE, "alpha": np.eye(D) / D}, q=-X[TRAIN].T @ Y[TRAIN] / SCALE)


def held_out(alpha):
    """L and dL/dα for each α `[B]`, or for one: one solve of a batch and one reverse pass."""
    sol = RIDGE.solve(alpha=np.asarray(alpha, float))
    sol.raise_for_status()
    residual = sol.x @ X[TEST].T - Y[TEST]
    loss = (residual**2).sum(axis=-1) / (2 * SCALE)
    return loss, sol.vjp(x=residual @ X[TEST] / SCALE)["alpha"]


def descend(most=1000):
    """The α of each step; the last one is taken where the slope is at most STOP."""
    path = [START]
    for _ in range(most):
        _, slope = held_out(path[-1])
        path.append(float(path[-1] - STEP * slope))
        if abs(slope) <= STOP:
            break
    return np.array(path)


def draw(steps, path):
    """The loss with the descent on it, and its derivative."""
    from matplotlib.figure import Figure

    alpha = np.linspace(0, 1, 201)
    loss, slope = held_out(alpha)
    figure = Figure(figsize=(7.6, 7), dpi=120, layout="constrained")
    losses, slopes = figure.subplots(2, 1, sharex=True)
    blue, red = "#1f5fa8", "#b8582b"
    losses.plot(alpha, loss, color=blue, lw=2)
    shown = steps[::8]
    losses.plot(shown, held_out(shown)[0], "o", color=red, ms=4, label=f"every eighth of {len(steps) - 1} steps")
    losses.set(ylabel="loss on held-out data", title="Too little regularisation overfits, too much biases")
    losses.legend(frameon=False, loc="upper center")
    slopes.plot(alpha, slope, color=blue, lw=2)
    slopes.plot(shown, held_out(shown)[1], "o", color=red, ms=4)
    slopes.axhline(0, color="#bbbbbb", lw=0.8)
    slopes.set(xlabel="α", ylabel="dL/dα, by one reverse pass")
    for axes in (losses, slopes):
        axes.axvline(steps[-1], color="#767676", lw=0.8, ls=":")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(path="hyperparameter_descent.png"):
    """Print the start and the end of the descent, and draw it."""
    steps = descend()
    for alpha in (steps[0], steps[-1]):
        loss, slope = held_out(alpha)
        print(f"α = {alpha:.10f}: loss {loss:.10f}, dL/dα = {slope:.10f}")
    print(f"{len(steps) - 1} steps")
    draw(steps, path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
