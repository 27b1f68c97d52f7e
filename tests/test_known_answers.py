"""Small published problems with answers on paper: solutions, multipliers, tangents and gradients.

Values are closed forms, or digits printed by the sources; digits are checked to the last one given.
"""

from __future__ import annotations

import numpy as np
import pytest
from compare import assert_close

import gpudiff as gd

I3 = np.eye(3)


def array(*rows) -> np.ndarray:
    return np.array(rows, dtype=float)


# ---- linear programs -------------------------------------------------------------------------------------------------


def two_parameter_lp(p=4.0, q=2.0):
    """Min 2x − y, q·x + y ≥ 3p, y ≤ 5, as data of `solve`."""
    return None, array(2, -1), array([-q, -1], [0, 1]), array(-3 * p, 5), [gd.Nonnegative(2)]


def test_two_parameter_lp_solution():
    sol = gd.solve(*two_parameter_lp())
    assert sol.ok
    assert_close(sol.x, array(3.5, 5), 1e-10)
    assert_close(sol.obj, 2.0, 1e-10)


@pytest.mark.parametrize(
    ("p_dot", "q_dot", "x_dot", "obj_dot"),
    [(1, 0, (1.5, 0), 3), (0, 1, (-1.75, 0), -3.5), (1, 1, (-0.25, 0), -0.5)],
)
def test_two_parameter_lp_tangents(p_dot, q_dot, x_dot, obj_dot):
    sol = gd.solve(*two_parameter_lp())
    dot = sol.jvp(A=array([-q_dot, 0], [0, 0]), b=array(-3 * p_dot, 0))
    assert_close(dot.x, array(*x_dot), 1e-10)
    assert_close(dot.obj, float(obj_dot), 1e-10)


def test_two_parameter_lp_gradient():
    _, q, G, h, _ = two_parameter_lp()
    sol = gd.solve_qp(np.zeros((2, 2)), q, G=G, h=h)
    bar = sol.vjp(x=array(1, 0))
    assert_close(bar.G, array([1.75, 2.5], [1.75, 2.5]), 1e-10, "dG")
    assert_close(bar.h, array(-0.5, -0.5), 1e-10, "dh")
    assert_close(bar.q, array(0, 0), 1e-10, "dq")
    # y = h₁ adds 1 to the second entry
    both = sol.vjp(x=array(1, 1))
    assert_close(both.h, array(-0.5, 0.5), 1e-10, "dh of x + y")


def test_one_variable_lp():
    """Min 2x, x ≥ 3p."""
    sol = gd.solve(None, array(2), array([-1]), array(-12), [gd.Nonnegative(1)])
    assert_close(sol.x, array(12), 1e-10)
    assert_close(sol.jvp(b=array(-3)).x, array(3), 1e-10)
    sol = gd.solve_qp(None, array(2), G=array([-1]), h=array(-3))
    bar = sol.vjp(x=array(1))
    assert_close(sol.x, array(3), 1e-10)
    assert_close(bar.G, array([3]), 1e-10)
    assert_close(bar.h, array(-1), 1e-10)


def test_production_lp():
    A = array([2, 1], [1, 3], [-1, 0], [0, -1])
    sol = gd.solve(None, array(-3, -5), A, array(100, 90, 0, 0), [gd.Nonnegative(4)])
    assert_close(sol.x, array(42, 16), 1e-10)
    assert_close(sol.y, array(0.8, 1.4, 0, 0), 1e-10)
    assert_close(sol.s, array(0, 0, 42, 16), 1e-10)
    assert_close(sol.obj, -206.0, 1e-10)
    for row, x_dot, profit in [(0, (0.6, -0.2), 0.8), (1, (-0.2, 0.4), 1.4)]:
        dot = sol.jvp(b=np.eye(4)[row])
        assert_close(dot.x, array(*x_dot), 1e-10)
        assert_close(dot.obj, -profit, 1e-10)
    bar = sol.vjp(x=array(1, -0.5))
    assert_close(bar.b, array(0.7, -0.4, 0, 0), 1e-10)
    assert_close(bar.q, array(0, 0), 1e-10)
    assert_close(bar.A, array([-29.4, -11.2], [16.8, 6.4], [0, 0], [0, 0]), 1e-10)


def test_simplex_lp():
    A = np.vstack([np.ones(3), -I3])
    sol = gd.solve(None, array(1, 2, 3), A, array(1, 0, 0, 0), [gd.Zero(1), gd.Nonnegative(3)])
    assert_close(sol.x, array(1, 0, 0), 1e-10)
    assert_close(sol.y, array(-1, 0, 1, 2), 1e-10)
    assert_close(sol.s, array(0, 1, 0, 0), 1e-10)
    dot = sol.jvp(q=array(1e-3, 0, 0))
    assert_close(dot.x, array(0, 0, 0), 1e-13)
    assert_close(dot.y, array(-1e-3, 0, -1e-3, -1e-3), 1e-13)
    dot = sol.jvp(b=array(1, 0, 0, 0))
    assert_close(dot.x, array(1, 0, 0), 1e-10)
    assert_close(dot.y, array(0, 0, 0, 0), 1e-10)


# ---- quadratic programs ----------------------------------------------------------------------------------------------


def test_envelope_identities_of_a_qp():
    """L = ½zᵀPz + qᵀz: ∂P = ½zzᵀ, ∂q = z, ∂C = μzᵀ, ∂d = −μ."""
    C, d = array([-1, -1], [-1, 0], [0, -1]), array(-1, 0, 0)
    sol = gd.solve(2 * np.eye(2), np.zeros(2), C, d, [gd.Nonnegative(3)])
    z, mu = array(0.5, 0.5), array(1, 0, 0)
    assert_close(sol.x, z, 1e-10)
    assert_close(sol.y, mu, 1e-10)
    for bar in (sol.vjp(obj=np.asarray(1.0)), sol.vjp(x=2 * np.eye(2) @ z)):
        assert_close(bar.b, -mu, 1e-10, "∂d")
        assert_close(bar.A, np.outer(mu, z), 1e-10, "∂C")
    bar = sol.vjp(obj=np.asarray(1.0))
    assert_close(bar.P, np.outer(z, z) / 2, 1e-10, "∂P")
    assert_close(bar.q, z, 1e-10, "∂q")


def test_bounded_parabola():
    """Min (x − 2p)², x ≥ 0: x = 2p for p > 0."""
    p = 3.0
    sol = gd.solve(array([2]), array(-4 * p), array([-1]), array(0), [gd.Nonnegative(1)])
    assert_close(sol.x, array(6), 1e-10)
    assert_close(-4 * sol.vjp(x=array(1)).q, array(2), 1e-10)
    assert_close(sol.jvp(q=array(-4 * 1e-3)).x, array(2e-3), 1e-13)


DEMANDS = [(5, (5, 0, 0, 0), 0), (15, (10, 5, 0, 0), 1), (45, (10, 20, 15, 0), 2), (70, (10, 20, 30, 10), 3)]


@pytest.mark.parametrize(("demand", "generation", "marginal"), DEMANDS)
def test_economic_dispatch_lp(demand, generation, marginal):
    """Generators fill in the order of their cost; the marginal one follows demand, at its own price."""
    cost, upper = array(1, 3, 5, 10), array(10, 20, 30, np.inf)
    sol = gd.solve_qp(None, cost, A=np.ones((1, 4)), b=array(demand), lb=np.zeros(4), ub=upper)
    assert_close(sol.x, array(*generation), 1e-10)
    assert_close(sol.jvp(b=array(1)).x, np.eye(4)[marginal], 1e-10)
    assert_close(sol.y, array(-cost[marginal]), 1e-10, "price")
    assert_close(sol.vjp(obj=np.asarray(1.0)).b, array(cost[marginal]), 1e-10, "marginal cost")


@pytest.mark.parametrize(
    ("demand", "generation", "price", "slope"),
    [
        (50, (100 / 3, 50 / 3, 0), 100 / 3, (1 / 3, 2 / 3, 0)),
        (100, (50, 50, 0), 40, (1 / 3, 2 / 3, 0)),
        (200, (120, 80, 0), 68, (1, 0, 0)),
        (251, (150, 80, 21), 1e4, (0, 0, 1)),
    ],
)
def test_economic_dispatch_qp(demand, generation, price, slope):
    """Cost (20, 30)·g + (.2, .1)·g², capacities (150, 80), and load shed at 1e4."""
    P, q = np.diag([0.4, 0.2, 0]), array(20, 30, 1e4)
    sol = gd.solve_qp(P, q, A=np.ones((1, 3)), b=array(demand), lb=np.zeros(3), ub=array(150, 80, np.inf))
    assert_close(sol.x, array(*generation), 1e-10)
    assert_close(sol.y, array(-price), 1e-10)
    assert_close(sol.jvp(b=array(1)).x, array(*slope), 1e-10)


def test_relu_layer(rng):
    """Min ‖x − y‖², x ≥ 0 is max(y, 0), with gradient 1[y > 0]."""
    y = rng.standard_normal((20, 6))
    seed = rng.standard_normal((20, 6))
    sol = gd.solve(2 * np.eye(6), -2 * y, -np.eye(6), np.zeros(6), [gd.Nonnegative(6)])
    assert_close(sol.x, np.maximum(y, 0), 1e-12)
    assert_close(-2 * sol.vjp(x=seed).q, seed * (y > 0), 1e-12)


def test_polytope_layer(rng):
    """Min ‖x − y‖² over one half-space wᵀx ≥ b: x = y + max(b − wᵀy, 0) w / ‖w‖², differentiated by hand."""
    y, w = rng.standard_normal(4), rng.standard_normal(4)
    b = w @ y + 0.7
    sol = gd.solve(2 * np.eye(4), -2 * y, -w[None], array(-b), [gd.Nonnegative(1)])
    short, square = b - w @ y, w @ w
    assert_close(sol.x, y + short * w / square, 1e-12)
    seed = rng.standard_normal(4)
    bar = sol.vjp(x=seed)
    along = seed @ w / square
    assert_close(-2 * bar.q, seed - along * w, 1e-11, "∂y")
    assert_close(-bar.b, array(along), 1e-11, "∂b")
    assert_close(-bar.A[0], short / square * seed - along * (y + 2 * short / square * w), 1e-11, "∂w")


# ---- sensitivity studies ---------------------------------------------------------------------------------------------


def test_support_vector_machine():
    """Which points move the separating line, and how far."""
    state = np.random.RandomState(62)
    X = np.vstack([state.randn(50, 2), state.randn(50, 2) + 2])
    label = np.repeat([1.0, -1.0], 50)
    N = 100
    P = np.zeros((3 + N, 3 + N))
    P[0, 0] = P[1, 1] = 2 * 0.05
    q = np.concatenate([np.zeros(3), np.ones(N)])
    margin = np.hstack([-label[:, None] * X, -label[:, None], -np.eye(N)])
    A = np.vstack([margin, np.hstack([np.zeros((N, 3)), -np.eye(N)])])
    sol = gd.solve(P, q, A, np.concatenate([-np.ones(N), np.zeros(N)]), [gd.Nonnegative(2 * N)])
    assert_close(sol.x[:3], array(-3.01053971, -3.39946666, 6.45704409), 1e-8)
    assert_close(sol.obj, 8.96901385, 1e-8)

    def moved(row: int) -> np.ndarray:
        A_dot = np.zeros_like(A)
        A_dot[row, :2] = -label[row]
        return sol.jvp(A=A_dot).x[:3]

    # the source's digits come from a solver's own tolerance: they are right to seven figures
    assert_close(moved(19), array(-1.9612094, 11.33050022, -4.68480908), 2e-7)
    assert_close(moved(28), array(11.32000515, -0.76265615, -5.86937239), 2e-7)
    away = np.flatnonzero(label * (X @ sol.x[:2] + sol.x[2]) > 1.5)
    assert away.size > 10
    assert all(np.all(moved(row) == 0) for row in away[:10]), "a point beyond the margin has no influence at all"


def test_ridge_regression():
    """Residuals as variables, so that every observation sits in an equality of its own."""
    state = np.random.RandomState(42)
    N, alpha = 150, 0.8
    slope, intercept = 2 * np.abs(state.randn(1)), state.rand(1)
    X = state.randn(N)
    Y = slope * X + intercept + 0.8 * state.randn(N)
    P = np.diag(np.concatenate([[2 * alpha, 2 * alpha], np.full(N, 2 / N)]))
    A = np.hstack([X[:, None], np.ones((N, 1)), np.eye(N)])
    sol = gd.solve(P, np.zeros(N + 2), A, Y, [gd.Zero(N)])
    assert_close(sol.x[:2], array(0.57244494, 0.48331765), 1e-8)
    bar = sol.vjp(x=np.eye(N + 2)[0])
    assert_close(bar.b[:3], array(-0.00050017, -0.00414739, 0.00121241), 1e-8)
    assert_close(bar.A[:3, 0], array(0.00456826, 0.00544634, -0.00185827), 1e-8)


def test_hyperparameter_descent():
    """Gradient descent of the held-out loss on the regulariser of a ridge regression."""
    state = np.random.RandomState(42)
    N, D = 100, 20
    w = 10 * state.randn(D)
    X = 10 * state.randn(N, D)
    y = X @ w + 5 * state.randn(N)
    X, X_test, y, y_test = X[:50], X[50:], y[:50], y[50:]
    n = len(y)
    fixed, q = X.T @ X / (n * D), -X.T @ y / (n * D)
    fixed = (fixed + fixed.T) / 2
    solver = gd.Solver([], D)

    def loss_and_slope(alpha: float) -> tuple[float, float]:
        sol = solver.solve(fixed + alpha / D * np.eye(D), q, np.zeros((0, D)), np.zeros(0))
        error = X_test @ sol.x - y_test
        bar = sol.vjp(x=X_test.T @ error / (n * D))
        return error @ error / (2 * n * D), np.trace(bar.P) / D

    alpha = 0.1
    loss, slope = loss_and_slope(alpha)
    assert_close(loss, 0.8133283822, 1e-10)
    assert_close(slope, -0.9498922584, 1e-9)
    H = fixed + alpha / D * np.eye(D)
    w = np.linalg.solve(H, -q)
    exact = -np.linalg.solve(H, X_test.T @ (X_test @ w - y_test) / (n * D)) @ w / D
    assert_close(slope, exact, 1e-11)
    steps = 0
    while steps == 0 or (abs(slope) > 1e-3 and steps < 1000):
        slope = loss_and_slope(alpha)[1]
        alpha -= 0.01 * slope
        steps += 1
    assert steps == 268
    assert_close(alpha, 0.4653073593, 1e-9)


# ---- second-order cones ----------------------------------------------------------------------------------------------


def test_second_order_cone_program():
    """The largest equal coordinates in a ball whose radius an equality fixes."""
    A = np.zeros((5, 4))
    for row, column, value in [(1, 0, -1), (0, 1, 1), (2, 1, -1), (0, 2, 1), (3, 2, -1), (0, 3, 1), (4, 3, -1)]:
        A[row, column] = value
    r = 1 / np.sqrt(3)
    sol = gd.solve(None, array(1, 0, 0, 0), A, array(1, 0, 0, 0, 0), [gd.Zero(1), gd.SecondOrder(4)])
    assert_close(sol.x, array(r, 1 / 3, 1 / 3, 1 / 3), 1e-10)
    assert_close(sol.y, array(-r, 1, -r, -r, -r), 1e-10)
    dot = sol.jvp(b=array(1, 0, 0, 0, 0))
    assert_close(dot.x, sol.x, 1e-10)
    assert_close(dot.y, np.zeros(5), 1e-10)
    bar = sol.vjp(x=array(1, 0, 0, 0))
    assert_close(bar.b, array(r, -1, r, r, r), 1e-10)
    assert_close(bar.q, np.zeros(4), 1e-10)
    A_bar = np.where(A != 0, bar.A, 0)
    third = r / 3
    expected = array([0, -third, -third, -third], [r, 0, 0, 0], [0, -third, 0, 0], [0, 0, -third, 0], [0, 0, 0, -third])
    assert_close(A_bar, expected, 1e-10)


def risk_problem(sigma: float, expected_return: np.ndarray):
    """Max μᵀx, 1ᵀx ≤ 1, x ≥ 0, ‖Lᵀx‖ ≤ σ."""
    covariance = array([0.002, 0.0005, 0.001], [0.0005, 0.003, 0.0002], [0.001, 0.0002, 0.0025])
    L = np.linalg.cholesky(covariance)
    A = np.vstack([np.ones(3), -I3, np.zeros(3), -L.T])
    b = array(1, 0, 0, 0, sigma, 0, 0, 0)
    return None, -expected_return, A, b, [gd.Nonnegative(4), gd.SecondOrder(4)]


def test_portfolio_with_a_risk_cone():
    sigma, mu = 0.04, array(0.05, 0.08, 0.12)
    sol = gd.solve(*risk_problem(sigma, mu))
    assert_close(sol.x, array(0, 0.28692941, 0.71307059), 1e-8)
    # with x₀ = 0 and the budget spent, xᵀΣx = σ² is a quadratic in the weight w of the last asset
    quadratic = np.array([0.003 - 2 * 0.0002 + 0.0025, 2 * (0.0002 - 0.003), 0.003 - sigma**2])
    w = np.max(np.roots(quadratic))
    assert_close(sol.x, array(0, 1 - w, w), 1e-10)
    slope = 2 * sigma / np.polyval(np.polyder(quadratic), w)
    dot = sol.jvp(b=np.eye(8)[4])
    assert_close(dot.x, array(0, -slope, slope), 1e-8)
    assert_close(dot.obj, -(mu[2] - mu[1]) * slope, 1e-8)
    assert_close(sol.vjp(obj=np.asarray(1.0)).b[4], -(mu[2] - mu[1]) * slope, 1e-8)


# ---- the other cones -------------------------------------------------------------------------------------------------


def test_smallest_eigenvalue():
    """Min ⟨C, X⟩, trace X = 1, X ⪰ 0: the projector on an eigenvector, and how it turns."""
    k = 5
    identity = np.eye(k * (k + 1) // 2)
    A = np.vstack([gd.svec(np.eye(k))[None], -identity])
    b = np.concatenate([[1.0], np.zeros(len(identity))])
    sol = gd.solve(None, gd.svec(np.diag([1.0, 0, 0, 0, -1])), A, b, [gd.Zero(1), gd.PSD(k)])
    expected = np.zeros((k, k))
    expected[4, 4] = 1
    assert_close(gd.smat(sol.x), expected, 1e-12)
    assert_close(sol.obj, -1.0, 1e-12)
    assert_close(sol.y[0], 1.0, 1e-12)  # minus the eigenvalue
    move = np.zeros((k, k))
    move[0, 4] = move[4, 0] = 1
    turned = np.zeros((k, k))
    turned[0, 4] = turned[4, 0] = -0.5
    assert_close(gd.smat(sol.jvp(q=gd.svec(move)).x), turned, 1e-11)
    by_dict = gd.solve(None, gd.svec(np.diag([1.0, 0, 0, 0, -1])), A, b, {"z": 1, "s": [k]})
    np.testing.assert_array_equal(by_dict.x, sol.x)


def test_nearest_correlation_matrix():
    """Min ‖X − C‖² over correlation matrices, C tridiagonal of ones (Higham 2002)."""
    target = gd.svec(np.eye(3) + np.eye(3, k=1) + np.eye(3, k=-1))
    diagonal = np.zeros((3, 6))
    diagonal[[0, 1, 2], [0, 3, 5]] = 1
    A, b = np.vstack([diagonal, -np.eye(6)]), np.concatenate([np.ones(3), np.zeros(6)])
    sol = gd.solve(2 * np.eye(6), -2 * target, A, b, [gd.Zero(3), gd.PSD(3)])
    X = gd.smat(sol.x)
    assert_close(np.diag(X), np.ones(3), 1e-12)
    assert_close(array(X[0, 1], X[0, 2], X[1, 2]), array(0.76068986, 0.15729811, 0.76068986), 1e-8)
    assert abs(np.linalg.eigvalsh(X)[0]) <= 1e-12


def choice_problem(p, alpha: float):
    """Max pᵀx + α Σ −xᵢ log xᵢ on the simplex: tᵢ ≥ xᵢ log xᵢ is (−tᵢ, xᵢ, 1) ∈ K_exp."""
    k = len(p)
    A = np.zeros((1 + 3 * k, 2 * k))
    A[0, :k] = 1
    for i in range(k):
        A[1 + 3 * i, k + i] = 1
        A[2 + 3 * i, i] = -1
    b = np.concatenate([[1.0], np.tile([0.0, 0, 1], k)])
    return None, np.concatenate([-p, np.full(k, alpha)]), A, b, [gd.Zero(1), gd.Exponential(k)]


@pytest.mark.parametrize(
    ("p", "alpha"), [((0.6, 0.58), 0.01), ((0.6, 0.58, 0.57, 0.5), 0.02), ((1.0, 0.6), 0.02), ((3.0, 1, 2), 1.0)]
)
def test_entropy_regularised_choice(p, alpha):
    """The softmax of p/α, whose Jacobian is (diag x − x xᵀ)/α."""
    p = np.array(p)
    sol = gd.solve(*choice_problem(p, alpha))
    x = np.exp((p - p.max()) / alpha)
    x /= x.sum()
    k = len(p)
    assert_close(sol.x[:k], x, 1e-11)
    if p[0] == 0.6 and k == 2:
        assert_close(sol.x[:2], array(0.880797, 0.119203), 1e-6)
    for i in range(k):
        seed = np.concatenate([np.eye(k)[i], np.zeros(k)])
        assert_close(-sol.vjp(x=seed).q[:k], (np.diag(x) - np.outer(x, x))[i] / alpha, 1e-7)
        assert_close(sol.jvp(q=-seed).x[:k], (np.diag(x) - np.outer(x, x))[i] / alpha, 1e-7)


@pytest.mark.parametrize("alpha", [0.01, 0.2, 0.5, 0.7, 0.99])
def test_power_means(alpha):
    """Max xᵅ y¹⁻ᵅ, x + y = 1 at x = α, with value αᵅ(1−α)¹⁻ᵅ; and the dual cone's (x/α)ᵅ(y/(1−α))¹⁻ᵅ with value 1."""
    A = np.vstack([[1.0, 1, 0], -np.eye(3)])
    b = array(1, 0, 0, 0)
    weights = array(alpha, 1 - alpha)
    best = np.prod(weights**weights)
    for cone, value in ((gd.Power(alpha), best), (gd.DualPower(alpha), 1.0)):
        sol = gd.solve(None, array(0, 0, -1.0), A, b, [gd.Zero(1), cone])
        assert_close(sol.x, array(alpha, 1 - alpha, value), 1e-11)
        # twice the budget, twice the value
        assert_close(sol.jvp(b=array(1, 0, 0, 0)).x, sol.x, 1e-9)
    both = gd.solve(None, array(0, 0, -1.0), A, b, {"z": 1, "p": [-alpha]})
    assert_close(both.x[2], 1.0, 1e-11)


def test_logistic_regression():
    """Min Σ log(1 + exp(−yᵢ wᵀxᵢ)) + λ/2 ‖w‖² against Newton's method on the smooth problem."""
    rng = np.random.default_rng(5)
    N, D, penalty = 12, 3, 0.3
    X, label = rng.standard_normal((N, D)), np.where(rng.random(N) < 0.5, -1.0, 1.0)
    Z = -label[:, None] * X
    w = np.zeros(D)
    for _ in range(30):
        p = 1 / (1 + np.exp(-Z @ w))
        H = Z.T @ (Z * (p * (1 - p))[:, None]) + penalty * np.eye(D)
        w = w - np.linalg.solve(H, Z.T @ p + penalty * w)
    # x = (w, t, u, v): exp(z − t) ≤ u, exp(−t) ≤ v, u + v ≤ 1 for each point
    n = D + 3 * N
    P = np.zeros((n, n))
    P[:D, :D] = penalty * np.eye(D)
    q = np.concatenate([np.zeros(D), np.ones(N), np.zeros(2 * N)])
    rows, right = [], []
    for i in range(N):
        sums = np.zeros(n)
        sums[D + N + i] = sums[D + 2 * N + i] = 1
        rows.append(sums)
        right.append(1.0)
    for i in range(N):
        for side, place in ((1, D + N + i), (0, D + 2 * N + i)):
            block = np.zeros((3, n))
            block[0, :D], block[0, D + i], block[2, place] = -side * Z[i], 1, -1
            rows += list(block)
            right += [0, 1, 0]
    cones = [gd.Nonnegative(N), gd.Exponential(2 * N)]
    sol = gd.solve(P, q, np.array(rows), np.array(right), cones)
    assert sol.ok
    assert_close(sol.x[:D], w, 1e-10)
    assert_close(sol.obj, np.sum(np.logaddexp(0, Z @ w)) + penalty / 2 * w @ w, 1e-10)
    # dw/dλ = −H⁻¹w
    P_dot = np.zeros((n, n))
    P_dot[:D, :D] = np.eye(D)
    assert_close(sol.jvp(P=P_dot).x[:D], -np.linalg.solve(H, w), 1e-8)
