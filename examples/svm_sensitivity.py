"""A support vector machine: how does the classifier move when one training point moves?

Soft margin with the data (xᵢ, yᵢ), yᵢ = ±1:

    minimise λ‖w‖² + Σξ   subject to   yᵢ(wᵀxᵢ + c) ≥ 1 − ξᵢ,  ξ ≥ 0.

Points with a multiplier of zero have no influence at all. Known answer (λ = 0.05, the data below):
w = (−3.01053971, −3.39946666), c = 6.45704409, objective 8.96901385; moving both coordinates of point 19 by the same
amount changes (w, c) by (−1.96120857, 11.33050115, −4.68481057) per unit.

Run: python examples/svm_sensitivity.py [picture.png]
"""

import sys

import numpy as np

import gpudiff as gd

LAMBDA = 0.05
random = np.random.RandomState(62)
X = np.concatenate([random.randn(50, 2), random.randn(50, 2) + 2])
LABEL = np.repeat([1.0, -1.0], 50)
N = len(X)


def train():
    """Solve the QP in the variables (w, c, ξ)."""
    P = np.zeros((3 + N, 3 + N))
    P[0, 0] = P[1, 1] = 2 * LAMBDA
    q = np.concatenate([np.zeros(3), np.ones(N)])
    margin = np.hstack([-LABEL[:, None] * X, -LABEL[:, None], -np.eye(N)])
    positive = np.hstack([np.zeros((N, 3)), -np.eye(N)])
    b = np.concatenate([-np.ones(N), np.zeros(N)])
    sol = gd.solve(P, q, np.vstack([margin, positive]), b, [gd.Nonnegative(2 * N)])
    sol.raise_for_status()
    return sol


def sensitivities(sol):
    """d(w, c)/dx of every point, the Jacobian by reverse mode: `[3, N, 2]`."""
    jacobian = []
    for k in range(3):
        A_bar = sol.vjp(x=np.eye(3 + N)[k]).A
        jacobian.append(-LABEL[:, None] * A_bar[:N, :2])  # row i of A holds −yᵢ xᵢ
    return np.array(jacobian)


def draw(sol, jacobian, path):
    """The points, sized by how much the classifier depends on where they are."""
    from matplotlib.figure import Figure

    (w0, w1, c), norm = sol.x[:3], np.linalg.norm(jacobian, axis=(0, 2))
    figure = Figure(figsize=(7.6, 6), dpi=120, layout="constrained")
    axes = figure.subplots()
    for label, color, name in ((1.0, "#1f5fa8", "class +1"), (-1.0, "#b8582b", "class −1")):
        of = label == LABEL
        axes.scatter(*X[of].T, s=14 + 26 * norm[of], color=color, alpha=0.75, edgecolors="white", lw=0.6, label=name)
    line = np.array([X[:, 0].min() - 0.4, X[:, 0].max() + 0.4])
    for level, style in ((0, "-"), (1, ":"), (-1, ":")):
        axes.plot(line, (level - c - w0 * line) / w1, style, color="#222222", lw=1.3)
    axes.set(xlim=line, ylim=(X[:, 1].min() - 0.5, X[:, 1].max() + 0.5), xlabel="x₁", ylabel="x₂")
    axes.set_title("Marker area: norm of d(w, c)/dx. Small dots have no influence.", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    legend = axes.legend(frameon=False, loc="lower left")
    for handle in legend.legend_handles:
        handle.set_sizes([40])
    figure.savefig(path)


def main(path="svm_sensitivity.png"):
    """Print the classifier and the most influential points, and draw them."""
    sol = train()
    jacobian = sensitivities(sol)
    both = jacobian.sum(axis=2)  # both coordinates move together
    norm = np.linalg.norm(jacobian, axis=(0, 2))
    print(f"w = {sol.x[:2].round(8)}, c = {sol.x[2]:.8f}, objective {sol.obj:.8f}")
    print(f"{int((norm == 0).sum())} of {N} points have no influence")
    for i in (19, 28):
        print(f"moving point {i}: d(w, c) = {both[:, i].round(8)}")
    draw(sol, jacobian, path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
