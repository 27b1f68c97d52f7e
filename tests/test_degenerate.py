"""The degenerate zoo: small problems where a solution, its multipliers or its derivative are not unique or not there.

Each with its answer written down. "Of least norm" is the answer of least norm of the linearised optimality conditions
(examples/derivatives.md); rows and columns here are scaled alike, so that equilibration does not change the norm.
"""

from __future__ import annotations

import numpy as np
import pytest
from compare import assert_close

import gpudiff as gd

INTERIOR = gd.Settings(method="ipm")
ACTIVE_SET = gd.Settings(method="active_set")
# Of what the norm alone decides: rounding errors of 1e-16 in those directions come back times 1/δ, 1e7 to 1e8.
SPLIT = 1e-7
METHODS = {"ipm": INTERIOR, "active_set": ACTIVE_SET}


def twice(cone, q=(-1.0, -2.0)):
    """min ½‖x‖² + qᵀx with the row x₁ ≤ 0 or x₁ = 0 twice: x = (0, −q₂), and y₁ + y₂ = −q₁."""
    return np.eye(2), np.array(q), np.array([[1.0, 0.0], [1.0, 0.0]]), np.zeros(2), [cone]


def three_rows():
    """min ½‖x‖² − x₁ − x₂ with x₁ ≤ 0, x₂ ≤ 0, x₁ + x₂ ≤ 0: x = 0, three rows meet in two variables."""
    A = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    return np.eye(2), np.array([-1.0, -1.0]), A, np.zeros(3), [gd.Nonnegative(3)]


def given(problem, x):
    """The same through `differentiate`, with multipliers of least norm."""
    return gd.differentiate(*problem, x)


# ---- dependent rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cone", [gd.Nonnegative(2), gd.Zero(2)], ids=lambda cone: type(cone).__name__)
@pytest.mark.parametrize("how", ["solve", "differentiate"])
def test_duplicated_rows_share_their_derivatives(cone, how):
    """Both rows move by one: dx = (1, 0), dy₁ + dy₂ = −1, of least norm −½ each; and so does what goes back.

    The transposed row of duplicates in Aᵀy = … leaves y₁ − y₂ open; of least norm is y₁ = y₂.
    """
    problem = twice(cone)
    sol = gd.solve(*problem, INTERIOR) if how == "solve" else given(problem, [0.0, 2.0])
    assert sol.ok
    assert_close(sol.x, np.array([0.0, 2.0]), 1e-12)
    assert_close(sol.y.sum(), 1.0, 1e-12)
    dot = sol.jvp(b=[1.0, 1.0])
    assert_close(dot.x, np.array([1.0, 0.0]), 1e-12)
    assert_close(dot.y, np.array([-0.5, -0.5]), SPLIT)
    assert_close(sol.jvp(q=[1.0, 1.0]).y, np.array([-0.5, -0.5]), SPLIT)
    assert_close(sol.jvp(q=[1.0, 1.0]).x, np.array([0.0, -1.0]), 1e-12)
    assert_close(sol.vjp(x=[1.0, 1.0]).b, np.array([0.5, 0.5]), SPLIT)
    assert_close(sol.vjp(y=[1.0, 1.0]).q, np.array([-1.0, 0.0]), 1e-12)
    assert_close(sol.vjp(y=[1.0, 1.0]).b, np.array([-0.5, -0.5]), SPLIT)
    assert_close(sol.vjp(obj=1.0).b, -sol.y, 1e-12)


@pytest.mark.parametrize("copies", [3, 5])
def test_more_duplicates_share_alike(copies):
    A = np.tile([[1.0, 0.0]], (copies, 1))
    sol = gd.solve(np.eye(2), np.array([-1.0, -2.0]), A, np.zeros(copies), [gd.Nonnegative(copies)], INTERIOR)
    assert_close(sol.y, np.full(copies, 1 / copies), 1e-9)  # the interior point ends in the middle
    assert_close(sol.jvp(b=np.ones(copies)).y, np.full(copies, -1 / copies), SPLIT)
    assert_close(sol.vjp(x=[1.0, 0.0]).b, np.full(copies, 1 / copies), SPLIT)


def test_the_active_set_takes_one_of_the_duplicates():
    """It holds one row, the other has y = s = 0: a kink, which is said (margin 0), and a one-sided derivative.

    If b₂ alone rises, nothing moves; if it falls, x₁ follows: x₁ = min(b₁, b₂) has no derivative there. What moves both
    moves x by the right amount all the same.
    """
    sol = gd.solve(*twice(gd.Nonnegative(2)), ACTIVE_SET)
    assert_close(np.sort(sol.y), np.array([0.0, 1.0]), 1e-14)
    assert sol.margin == 0
    assert not sol.differentiable
    assert_close(sol.jvp(b=[1.0, 1.0]).x, np.array([1.0, 0.0]), 1e-14)
    assert_close(sol.vjp(x=[1.0, 0.0]).b, sol.y, 1e-14)
    assert_close(sol.jvp(q=[1.0, 1.0]).x, np.array([0.0, -1.0]), 1e-14)


@pytest.mark.parametrize("how", ["solve", "differentiate"])
def test_more_active_rows_than_variables(how):
    """Rows move as x = (1, 1) does: dx = (1, 1), and Aᵀdy = −(1, 1) has the least-norm answer −A(AᵀA)⁻¹(1, 1).

    Back: Aᵀ b̄ = x̄ has A(AᵀA)⁻¹(1, 2) = (0, 1, 1), and Q̄ = 0 since x is held from all sides.
    """
    problem = three_rows()
    sol = gd.solve(*problem, INTERIOR) if how == "solve" else given(problem, [0.0, 0.0])
    assert sol.ok
    assert_close(sol.x, np.zeros(2), 1e-12)
    assert_close(problem[2].T @ sol.y, np.ones(2), 1e-12)
    dot = sol.jvp(b=[1.0, 1.0, 2.0])
    assert_close(dot.x, np.ones(2), 1e-12)
    assert_close(dot.y, -np.array([1.0, 1.0, 2.0]) / 3, SPLIT)
    assert_close(dot.s, np.zeros(3), 1e-12)
    bar = sol.vjp(x=[1.0, 2.0])
    assert_close(bar.b, np.array([0.0, 1.0, 1.0]), SPLIT)
    assert_close(bar.q, np.zeros(2), 1e-12)


def test_rows_in_other_units_share_by_their_size():
    """x₁ ≤ 0 and 2x₁ ≤ 0: y₁ + 2y₂ = 1 has the least-norm answer (1, 2)/5, and so do the derivatives."""
    A = np.array([[1.0, 0.0], [2.0, 0.0]])
    sol = gd.differentiate(np.eye(2), [-1.0, -2.0], A, np.zeros(2), [gd.Nonnegative(2)], [0.0, 2.0])
    assert_close(sol.y, np.array([0.2, 0.4]), 1e-14)
    assert_close(sol.jvp(b=[1.0, 2.0]).x, np.array([1.0, 0.0]), 1e-12)
    assert_close(sol.jvp(b=[1.0, 2.0]).y, np.array([-0.2, -0.4]), SPLIT)
    assert_close(sol.vjp(x=[1.0, 0.0]).b, np.array([0.2, 0.4]), SPLIT)


# Along directions that the linearised conditions cannot follow, the answer is that of least squares and least norm:
# what regularisation turns into a multiple of a null vector, 10⁹ times as large, is taken out again.


@pytest.mark.parametrize("cone", [gd.Nonnegative(2), gd.Zero(2)], ids=lambda cone: type(cone).__name__)
def test_rows_that_are_pulled_apart(cone):
    """b₁ moves and its duplicate b₂ does not: dx₁ = ½ misses both by ½, and dy of least norm is −¼ each."""
    sol = gd.solve(*twice(cone), INTERIOR)
    assert not sol.differentiable
    dot = sol.jvp(b=[1.0, 0.0])
    assert_close(dot.x, np.array([0.5, 0.0]), 1e-10)
    assert_close(dot.y, np.array([-0.25, -0.25]), 1e-7)


@pytest.mark.parametrize("cone", [gd.Nonnegative(2), gd.Zero(2)], ids=lambda cone: type(cone).__name__)
def test_a_cotangent_of_what_is_not_unique(cone):
    """ȳ = (1, −1) asks for y₁ − y₂, which nothing determines: of least norm it is 0 and moves with nothing."""
    bar = gd.solve(*twice(cone), INTERIOR).vjp(y=[1.0, -1.0])
    assert_close(bar.q, np.zeros(2), 1e-10)
    assert_close(bar.b, np.zeros(2), 1e-10)


def test_derivatives_on_a_face():
    """min x₁ + x₂ s.t. x₁ + x₂ ≥ 1, x ≥ 0: what x is on the face nothing determines.

    When the bound rises by one, some way back to it comes (the shortest would be (½, ½)). A cotangent along the face,
    (1, −1), moves with nothing, and of (1, 0) only its part across the face, (½, ½), does.
    """
    sol = gd.solve(*face())
    assert not sol.differentiable
    assert_close(sol.jvp(b=[-1.0, 0.0, 0.0]).x.sum(), 1.0, 1e-8)
    along, across = sol.vjp(x=[1.0, -1.0]), sol.vjp(x=[1.0, 0.0])
    assert_close(along.q, np.zeros(2), 1e-8)
    assert_close(along.b, np.zeros(3), 1e-8)
    assert_close(across.b, np.array([-0.5, 0.0, 0.0]), 1e-8)


# ---- weakly active rows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_weakly_active_bound(method):
    """min ½x² − cx s.t. x ≤ 0 at c = 0: x = min(c, 0) has slopes 1 and 0; one of them comes, the same both ways."""
    problem = np.eye(1), np.zeros(1), np.ones((1, 1)), np.zeros(1), [gd.Nonnegative(1)]
    sol = gd.solve(*problem, METHODS[method])
    assert sol.ok
    assert_close(sol.x, np.zeros(1), 1e-9)
    assert sol.margin < 1e-6
    assert not sol.differentiable
    slope = sol.jvp(q=[-1.0]).x
    assert min(abs(slope - 1), abs(slope)) < 1e-6
    assert_close(sol.vjp(x=[1.0]).q, -slope, 1e-12)
    assert_close(sol.vjp(obj=1.0).q, sol.x, 1e-12)  # the optimal value is differentiable all the same


def test_the_slopes_beside_a_kink():
    """The same a little to either side: the margin is the distance, and the slope is that of its side."""
    problem = np.eye(1), np.array([[1e-3], [-1e-3]]), np.ones((1, 1)), np.zeros(1), [gd.Nonnegative(1)]
    sol = gd.solve(*problem)
    assert_close(sol.x, np.array([[-1e-3], [0.0]]), 1e-12)
    assert sol.differentiable.all()
    assert_close(sol.jvp(q=[-1.0]).x, np.array([[1.0], [0.0]]), 1e-12)


# ---- LPs -------------------------------------------------------------------------------------------------------------


def face():
    """min x₁ + x₂ s.t. x₁ + x₂ ≥ 1, x ≥ 0: every x between (1, 0) and (0, 1)."""
    A = np.array([[-1.0, -1.0], [-1.0, 0.0], [0.0, -1.0]])
    return None, np.array([1.0, 1.0]), A, np.array([-1.0, 0.0, 0.0]), [gd.Nonnegative(3)]


def test_a_vertex_does_not_move_with_the_cost():
    """min −x₁ − x₂ in the unit box: x = (1, 1) whatever the cost nearby; x follows b, y follows q."""
    A, b = np.vstack([np.eye(2), -np.eye(2)]), np.array([1.0, 1.0, 0.0, 0.0])
    sol = gd.solve(None, np.array([-1.0, -1.0]), A, b, [gd.Nonnegative(4)])
    assert sol.differentiable
    assert_close(sol.jvp(q=[0.3, -0.7]).x, np.zeros(2), 1e-14)
    assert_close(sol.jvp(q=[0.3, -0.7]).y, np.array([-0.3, 0.7, 0, 0]), 1e-12)
    assert_close(sol.jvp(b=[2.0, 3.0, 5.0, 7.0]).x, np.array([2.0, 3.0]), 1e-12)
    assert_close(sol.vjp(x=[1.0, 2.0]).q, np.zeros(2), 1e-14)


def test_a_vertex_where_too_many_rows_meet():
    """min −x₁ − x₂ s.t. x ≤ 0, x₁ + x₂ ≤ 0: y is not unique; x follows what all three rows allow."""
    _, q, A, b, cones = three_rows()
    sol = gd.solve(None, q, A, b, cones)
    assert sol.ok
    assert_close(A.T @ sol.y, np.ones(2), 1e-9)
    assert_close(sol.jvp(b=A @ [1.0, -2.0]).x, np.array([1.0, -2.0]), 1e-9)
    assert_close(sol.vjp(obj=1.0).b, -sol.y, 1e-12)


def test_a_face_of_solutions():
    """The optimal value is differentiable, x is not unique: its tangent is one that keeps the constraints."""
    problem = face()
    sol = gd.solve(*problem)
    assert sol.ok
    assert_close(sol.obj, 1.0, 1e-9)
    assert_close(sol.x.sum(), 1.0, 1e-9)
    dot = sol.jvp(b=[-1.0, 0.0, 0.0])
    assert_close(dot.x.sum(), 1.0, 1e-8)
    assert_close(dot.obj, 1.0, 1e-9)
    assert_close(sol.vjp(obj=1.0).q, sol.x, 1e-12)
    assert_close(sol.vjp(obj=1.0).b, np.array([-1.0, 0.0, 0.0]), 1e-9)


# ---- eigenvalues that come more than once ----------------------------------------------------------------------------


def test_repeated_eigenvalues_of_a_projection(rng):
    """The nearest PSD matrix to U diag(2, 2, −1, −1) Uᵀ: differentiable, for no eigenvalue is zero.

    In the basis U its derivative keeps the block of the 2s, drops that of the −1s, and multiplies the blocks between by
    2/(2 + 1); which eigenvectors are chosen among equals does not matter (Malick and Sendov 2006).
    """
    U = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    C = U @ np.diag([2.0, 2.0, -1.0, -1.0]) @ U.T
    H = rng.standard_normal((4, 4))
    H = H + H.T
    weight = np.block([[np.ones((2, 2)), np.full((2, 2), 2 / 3)], [np.full((2, 2), 2 / 3), np.zeros((2, 2))]])
    sol = gd.solve(np.eye(10), -gd.svec(C), -np.eye(10), np.zeros(10), [gd.PSD(4)])
    assert sol.differentiable
    assert_close(gd.smat(sol.x), U[:, :2] @ U[:, :2].T * 2, 1e-11)
    assert_close(gd.smat(sol.jvp(q=-gd.svec(H)).x), U @ (weight * (U.T @ H @ U)) @ U.T, 1e-10)


def test_a_smallest_eigenvalue_that_is_double():
    """min ⟨C, X⟩, tr X = 1, C = diag(1, 1, 3): X is any density matrix on the first two axes, the value is 1.

    λ_min has no gradient there, and what comes is one of its supergradients, X itself.
    """
    C = np.diag([1.0, 1.0, 3.0])
    A = np.vstack([gd.svec(np.eye(3)), -np.eye(6)])
    sol = gd.solve(None, gd.svec(C), A, np.concatenate([[1.0], np.zeros(6)]), [gd.Zero(1), gd.PSD(3)])
    assert sol.ok
    X = gd.smat(sol.x)
    assert_close(sol.obj, 1.0, 1e-8)
    assert_close(np.trace(X), 1.0, 1e-8)
    assert_close(X[2], np.zeros(3), 1e-6)
    assert_close(sol.vjp(obj=1.0).q, sol.x, 1e-10)
    assert_close(sol.y[0], -1.0, 1e-8)


# ---- apexes ----------------------------------------------------------------------------------------------------------

APEX = {
    "second-order": (gd.SecondOrder(3), [2.0, 1.0, -0.5]),
    "psd": (gd.PSD(2), [1.0, 0.2, 2.0]),
    "exponential": (gd.Exponential(), [-1.0, 0.5, 2.0]),  # −u exp(v/u) = exp(−½) < e·2
    "dual exponential": (gd.DualExponential(), [0.5, 1.0, 3.0]),  # y exp(x/y) = exp(½) < 3
    "power": (gd.Power(0.3), [0.6, 0.7, 0.5]),  # (2)^0.3 · 1^0.7 > ½
    "dual power": (gd.DualPower(0.3), [1.0, 1.0, -0.5]),
}

INSIDE = {
    "second-order": [2.0, 1.0, -0.5],
    "psd": [1.0, 0.2, 2.0],
    "exponential": [0.5, 1.0, 3.0],
    "dual exponential": [-1.0, 0.5, 2.0],
    "power": [1.0, 1.0, -0.5],
    "dual power": [0.6, 0.7, 0.5],
}


def at_apex(name, y):
    """The projection of −y onto K, min ½‖x + y‖² s.t. x ∈ K, with y in K*: x = 0, and y is its multiplier."""
    k = len(y)
    return np.eye(k), np.asarray(y), -np.eye(k), np.zeros(k), [APEX[name][0]]


@pytest.mark.parametrize("how", ["solve", "differentiate"])
@pytest.mark.parametrize("name", APEX)
def test_a_slack_at_the_apex(name, how):
    """y inside K*: x stays at the apex whatever q does, dy = q̇; b moves the apex, dx = −ḃ and dy with it."""
    problem = at_apex(name, APEX[name][1])
    sol = gd.solve(*problem) if how == "solve" else given(problem, np.zeros(3))
    assert sol.ok
    assert sol.differentiable
    assert_close(sol.x, np.zeros(3), 1e-12)
    assert_close(sol.y, problem[1], 1e-11)
    step = np.array([0.3, -1.0, 0.7])
    assert_close(sol.jvp(q=step).x, np.zeros(3), 1e-10)
    assert_close(sol.jvp(q=step).y, step, 1e-10)
    assert_close(sol.jvp(b=step).x, -step, 1e-10)
    assert_close(sol.jvp(b=step).y, -step, 1e-10)
    assert_close(sol.vjp(x=step).b, -step, 1e-10)


@pytest.mark.parametrize("name", APEX)
def test_a_multiplier_at_the_apex(name):
    """s inside K, y = 0: x moves as if there were no cone."""
    cone, inside = APEX[name][0], np.array(INSIDE[name])
    problem = np.eye(3), -inside, -np.eye(3), np.zeros(3), [cone]
    sol = gd.solve(*problem)
    assert sol.ok
    assert_close(sol.x, inside, 1e-11)
    step = np.array([0.3, -1.0, 0.7])
    assert_close(sol.jvp(q=step).x, -step, 1e-10)
    assert_close(sol.jvp(b=step).x, np.zeros(3), 1e-10)


@pytest.mark.parametrize("name", APEX)
def test_both_at_the_apex(name):
    """x = y = 0: every direction begins a different piece, no derivative; finite numbers come, and the flag says so."""
    problem = at_apex(name, np.zeros(3))
    sol = gd.solve(*problem)
    assert sol.ok
    assert_close(sol.x, np.zeros(3), 1e-6)
    assert not sol.differentiable
    dot = sol.jvp(q=[0.3, -1.0, 0.7])
    assert np.isfinite(dot.x).all()
    assert np.linalg.norm(dot.x) <= np.linalg.norm([0.3, -1.0, 0.7]) + 1e-6  # D lies between 0 and 1


def test_a_solution_that_is_no_solution_moves_nothing():
    sol = gd.solve(np.eye(1), [0.0], [[1.0], [-1.0]], [-1.0, -1.0], [gd.Nonnegative(2)])  # x ≤ −1 and x ≥ 1
    assert sol.status == gd.Status.PRIMAL_INFEASIBLE
    assert not sol.differentiable
    assert sol.jvp(b=[1.0, 1.0]).x == 0
    assert_close(sol.vjp(x=[1.0]).b, np.zeros(2), 0)
