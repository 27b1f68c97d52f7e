"""`Settings(smoothing=μ)`: the optimum with the derivatives of the central point at μ, against central points that are
found another way (central_reference.py)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from central_reference import central_point
from compare import assert_close, assert_same_bits
from problems import ED, WELL_POSED, E, N, Q, S, Z, hard, planted, row_scales, scaled, stack, varied_qps, well_posed
from test_derivatives import INPUTS, OUTPUTS, assert_adjoint, cotangents, tangents

import gpudiff as gd

# Each kind of cone by itself, then all of them: n, cones, rank of P, active rows.
CONES: dict[str, tuple] = {
    "nonnegative": (4, [(N, 7)], 2, 3),
    "lp": (3, [(N, 8)], None, 3),
    "equalities": (5, [(Z, 2), (N, 5)], 3, 2),
    "second-order": (4, [(Q, 4), (Q, 1), (Q, 3)], 2, 0, ("surface", "tip", "inside")),
    "psd": (4, [(S, 6), (S, 3)], 2, 0, ("rank 1", "rank 1")),
    "exponential": (3, [(E, 3), (E, 3)], 3, 0),
    "dual exponential": (3, [(ED, 3), (ED, 3)], 3, 0),
    "power": (3, [("power 0.3", 3), ("power 0.85", 3)], 3, 0),
    "dual power": (3, [("dual power 0.3", 3), ("dual power 0.85", 3)], 3, 0),
    "every cone": (9, [(E, 3), (Q, 3), ("power 0.3", 3), (N, 3), (S, 6), (Z, 2), (ED, 3), ("dual power 0.7", 3)], 9, 1),
}


def batch_of(name: str, rng: np.random.Generator, count: int):
    n, cones, rank, active, *states = CONES[name]
    return stack([planted(rng, n, list(cones), rank, active, *states) for _ in range(count)])


def moved(problem, direction: dict, h: float):
    return replace(problem, **{name: getattr(problem, name) + h * dot for name, dot in direction.items()})


def differences(problem, mu: float, direction: dict, h: float = 1e-4) -> dict:
    """The derivative of the central point along a direction by central differences of the fourth order: the points are
    exact to 1e-13, so that this is to 1e-8."""
    start = central_point(problem, mu)
    points = [central_point(moved(problem, direction, k * h), mu, start) for k in (-2, -1, 1, 2)]
    outputs = [[getattr(point, name) for point in points] for name in OUTPUTS]
    return {name: (a - 8 * b + 8 * c - d) / (12 * h) for name, (a, b, c, d) in zip(OUTPUTS, outputs, strict=True)}


@pytest.mark.parametrize("mu", [1.0, 0.03])
@pytest.mark.parametrize("name", CONES)
def test_jvp_against_differences_of_central_points(name, mu, rng):
    """By input and by output."""
    problem = batch_of(name, rng, 2)
    sol = gd.solve(*problem.args, gd.Settings(smoothing=mu))
    for key, value in tangents(rng, problem).items():
        dot = sol.jvp(**{key: value})
        for i, item in enumerate(problem.items()):
            expected = differences(item, mu, {key: value[i]})
            for output in OUTPUTS:
                assert_close(getattr(dot, output)[i], expected[output], 1e-6, f"{output} by {key}")


@pytest.mark.parametrize("name", CONES)
def test_vjp_against_differences_of_central_points(name, rng):
    """By output and by input: along random directions, of which one is enough to see a wrong factor."""
    problem = batch_of(name, rng, 2)
    sol = gd.solve(*problem.args, gd.Settings(smoothing=0.1))
    seed, directions = cotangents(rng, sol), tangents(rng, problem)
    for i, item in enumerate(problem.items()):
        expected = {key: differences(item, 0.1, {key: value[i]}) for key, value in directions.items()}
        for output, weight in seed.items():
            bar = sol.vjp(**{output: weight})
            for key, value in directions.items():
                along = np.sum(getattr(bar, key)[i] * value[i])
                assert_close(along, np.sum(weight[i] * expected[key][output]), 1e-6, f"{key} from {output}")


@pytest.mark.parametrize("mu", [1e2, 1e-1, 1e-4])
@pytest.mark.parametrize("name", WELL_POSED)
def test_adjoint_identity(name, mu, rng):
    problem = well_posed(name, 5)
    sol = gd.solve(*problem.args, gd.Settings(smoothing=mu))
    assert_adjoint(sol, tangents(rng, problem), cotangents(rng, sol), 1e-12)


@pytest.mark.parametrize("name", CONES)
def test_the_solution_is_the_optimum(name, rng):
    problem = batch_of(name, rng, 3)
    plain, smoothed = gd.solve(*problem.args), gd.solve(*problem.args, gd.Settings(smoothing=0.1))
    for output in (*OUTPUTS, "status", "margin"):
        assert_same_bits(getattr(smoothed, output), getattr(plain, output), output)


@pytest.mark.parametrize(
    "name", ["qp", "lp with equalities", "mixed", "sdp", "exponential", "dual power", "every cone"]
)
def test_the_limit_is_the_exact_derivative(name, rng):
    """With a strictly complementary solution the central point differs from it by a multiple of μ."""
    problem = well_posed(name, 4)
    direction = tangents(rng, problem)
    exact = gd.solve(*problem.args).jvp(**direction)
    error = []
    for mu in (1e-5, 1e-7):
        dot = gd.solve(*problem.args, gd.Settings(smoothing=mu)).jvp(**direction)
        error.append(max(np.max(np.abs(getattr(dot, k) - getattr(exact, k))) for k in OUTPUTS))
        size = max(np.max(np.abs(getattr(exact, k))) for k in OUTPUTS)
    assert error[1] < 0.03 * error[0]
    assert error[1] < 1e-3 * size


def test_an_lp_whose_exact_gradient_is_zero(rng):
    """x as a function of q jumps from vertex to vertex; smoothed, ∂x/∂q = −(AᵀHA)⁻¹ with H = diag(y/s)."""
    problem = well_posed("lp", 4)
    mu, x_bar = 0.05, rng.standard_normal(problem.q.shape)
    assert_close(gd.solve(*problem.args).vjp(x=x_bar).q, np.zeros_like(x_bar), 1e-12)
    sol = gd.solve(*problem.args, gd.Settings(smoothing=mu))
    bar = sol.vjp(x=x_bar)
    for i, item in enumerate(problem.items()):
        point = central_point(item, mu)
        K = item.A.T @ np.diag(point.y / point.s) @ item.A
        assert_close(bar.q[i], -np.linalg.solve(K, x_bar[i]), 1e-8)


def test_one_variable_in_closed_form():
    """min x subject to x ≥ 0 has x = μ/q on its central path, and y = q."""
    mu, q = 0.3, 2.0
    sol = gd.solve(None, [q], [[-1.0]], [0.0], [gd.Nonnegative(1)], gd.Settings(smoothing=mu))
    assert abs(sol.x[0]) < 1e-12
    dot = sol.jvp(q=[1.0])
    assert_close(dot.x, [-mu / q**2], 1e-12)
    assert_close(dot.y, [1.0], 1e-12)
    assert_close(dot.obj, 0.0, 1e-12)  # q x = μ whatever q is


def test_units_are_those_of_the_problem(rng):
    """A cost of 1e3 times as much has its central point at 1e3 times the μ; rows and columns have any units at all."""
    for name in ("lp", "mixed", "every cone"):
        problem = well_posed(name, 3)
        rows, columns = row_scales(rng, problem.cones, 2), 10 ** rng.uniform(-2, 2, len(problem.q[0]))
        other = stack([scaled(item, rows, columns, 1e3) for item in problem.items()])
        x_bar = rng.standard_normal(problem.q.shape)
        plain = gd.solve(*problem.args, gd.Settings(smoothing=0.1)).vjp(x=x_bar)
        # The data of `other`: rows A columns, rows b, and 1e3 times those of the objective, in the variable x/columns.
        bar = gd.solve(*other.args, gd.Settings(smoothing=100.0)).vjp(x=x_bar * columns)
        assert_close(bar.q * columns * 1e3, plain.q, 1e-7, name)
        assert_close(bar.b * rows, plain.b, 1e-7, name)


@pytest.mark.parametrize("name", ["lp", "mixed", "every cone"])
def test_any_batch_gives_the_same_bits(name, rng):
    """With neighbours that need other numbers of steps, or have no central path at all."""
    problem = well_posed(name, 21)
    spoiled = replace(problem, q=problem.q * 10 ** rng.uniform(-2, 2, (21, 1)))
    settings = gd.Settings(smoothing=0.2)
    whole, x_bar = gd.solve(*spoiled.args, settings), rng.standard_normal(problem.q.shape)
    bar, direction = whole.vjp(x=x_bar, obj=np.ones(21)), tangents(rng, spoiled)
    dot = whole.jvp(**direction)
    for pick in (slice(0, 1), slice(3, 12), rng.permutation(21)):
        data = [None if a is None else a[pick] for a in spoiled.data]
        part = gd.solve(*data, spoiled.gd_cones, settings)
        part_bar = part.vjp(x=x_bar[pick], obj=np.ones(len(x_bar[pick])))
        part_dot = part.jvp(**{key: value[pick] for key, value in direction.items()})
        for key in direction:
            assert_same_bits(getattr(part_bar, key), getattr(bar, key)[pick], key)
        for output in OUTPUTS:
            assert_same_bits(getattr(part_dot, output), getattr(dot, output)[pick], output)


@pytest.mark.parametrize("shared", ["A", "Pq", "PAb"])
def test_shared_arguments(shared, rng):
    compact, full = varied_qps(rng, 9, tuple(shared))
    settings = gd.Settings(smoothing=0.1)
    sol, spread = gd.solve(*compact.args, settings), gd.solve(*full.args, settings)
    seed = cotangents(rng, spread)
    bar, each = sol.vjp(**seed), spread.vjp(**seed)
    for key in INPUTS:
        expected = getattr(each, key).sum(axis=0) if key in shared else getattr(each, key)
        assert_close(getattr(bar, key), expected, 1e-10, key)


@pytest.mark.parametrize("name", ["lp", "qp with equalities", "every cone"])
def test_several_directions_at_once_have_the_bits_of_each_alone(name, rng):
    """Three, of which two are solved for side by side; also in a problem that has no central path, where all are 0."""
    problem = well_posed(name, 9)
    A, b = problem.A.copy(), problem.b.copy()
    if name == "lp":
        A[2, 1], b[2, 1] = -A[2, 0], -b[2, 0]  # aᵀx = β: no interior
    problem = replace(problem, A=A, b=b)
    sol = gd.solve(*problem.args, gd.Settings(smoothing=0.1))
    for call, draw, names in ((sol.jvp, tangents, OUTPUTS), (sol.vjp, cotangents, INPUTS)):
        alone = [draw(rng, problem if call == sol.jvp else sol) for _ in range(3)]
        together = call(**{key: np.stack([each[key] for each in alone]) for key in alone[0]})
        for k, each in enumerate(alone):
            expected = call(**each)
            for key in names:
                if getattr(expected, key) is not None:
                    assert_same_bits(getattr(together, key)[k], getattr(expected, key), f"{key} of direction {k}")
        assert np.any(getattr(together, "x" if call == sol.jvp else "q")[:, 2]) != (name == "lp")


@pytest.mark.parametrize("method", ["ipm", "active_set"])
def test_either_method(method, rng):
    """The active set's own factors know nothing of rows that are not active."""
    problem = well_posed("qp with equalities", 6)
    sol = gd.solve(*problem.args, gd.Settings(smoothing=0.1, method=method))
    assert sol.method == method
    direction = tangents(rng, problem)
    dot = sol.jvp(**direction)
    for i in (0, 5):
        expected = differences(problem.item(i), 0.1, {key: value[i] for key, value in direction.items()})
        for output in OUTPUTS:
            assert_close(getattr(dot, output)[i], expected[output], 1e-6, output)


def test_float32(rng):
    """Data of 6e-8, and the point of the solve is where Newton's method starts, not what is differentiated."""
    problem = well_posed("mixed", 5)
    narrow = problem.astype(np.float32)
    seed = rng.standard_normal(problem.q.shape)
    settings = gd.Settings(smoothing=0.1)
    bar = gd.solve(*narrow.args, settings).vjp(x=seed.astype(np.float32))
    wide = gd.solve(*problem.args, settings).vjp(x=seed)
    for key in ("q", "A", "b"):
        assert getattr(bar, key).dtype == np.float32
        assert_close(getattr(bar, key), getattr(wide, key), 1e-4, key)


def test_absent_rows_take_no_part(rng):
    problem = well_posed("qp", 3)
    b = problem.b.copy()
    b[:, 3] = np.inf
    settings = gd.Settings(smoothing=0.1)
    kept = np.delete(np.arange(b.shape[1]), 3)
    seed = rng.standard_normal(problem.q.shape)
    with_row = gd.solve(problem.P, problem.q, problem.A, b, problem.gd_cones, settings)
    without = gd.solve(problem.P, problem.q, problem.A[:, kept], b[:, kept], [gd.Nonnegative(15)], settings)
    bar, expected = with_row.vjp(x=seed, obj=np.ones(3)), without.vjp(x=seed, obj=np.ones(3))
    assert_close(bar.A[:, kept], expected.A, 1e-10)
    assert not bar.A[:, 3].any()
    assert not bar.b[:, 3].any()
    dot = with_row.jvp(b=np.ones(b.shape), A=np.ones(problem.A.shape))
    assert not dot.y[:, 3].any()
    assert not dot.s[:, 3].any()


@pytest.mark.parametrize("family", ["degenerate lp", "weakly active", "weakly active, soc", "optimal face"])
def test_smooth_where_the_exact_derivative_is_not(family, rng):
    """All of x, y and s, though the optimal y, or x, is not unique; without an interior there is nothing to compare."""
    problem = hard(family, 6)
    settings = gd.Settings(smoothing=0.1)
    sol = gd.solve(*problem.args, settings)
    assert sol.differentiable.all()
    direction = tangents(rng, problem)
    dot = sol.jvp(**direction)
    compared = 0
    for i, item in enumerate(problem.items()):
        if not dot.x[i].any():
            continue
        expected = differences(item, 0.1, {key: value[i] for key, value in direction.items()}, 1e-5)
        for output in OUTPUTS:
            assert_close(getattr(dot, output)[i], expected[output], 1e-5, output)
        compared += 1
    assert compared >= 3


@pytest.mark.parametrize("family", ["no strict interior", "single point, box", "single point, ball"])
@pytest.mark.parametrize("mu", [1e-6, 1e-2, 10.0])
def test_no_central_path_no_derivative(family, mu, rng):
    """Zeros, also beside a neighbour that has one, which does not notice."""
    problem = hard(family, 4)
    sol = gd.solve(*problem.args, gd.Settings(smoothing=mu))
    assert sol.ok.any()
    bar, dot = sol.vjp(**cotangents(rng, sol)), sol.jvp(q=np.ones(problem.q.shape))
    for gradient in (bar.P, bar.q, bar.A, bar.b, dot.x, dot.y, dot.s, dot.obj):
        assert not np.any(gradient)


def test_failures_beside_good_neighbours(rng):
    problem = well_posed("qp", 9)
    A, b = problem.A.copy(), problem.b.copy()
    A[2, 1], b[2, 1] = -A[2, 0], -b[2, 0]  # aᵀx = β: no interior
    A[5, 1], b[5, :2] = -A[5, 0], -1  # infeasible
    q = problem.q.copy()
    q[7] = np.nan
    settings = gd.Settings(smoothing=0.1)
    sol, plain = gd.solve(problem.P, q, A, b, problem.gd_cones, settings), gd.solve(*problem.args, settings)
    seed = rng.standard_normal(q.shape)
    bar, expected = sol.vjp(x=seed), plain.vjp(x=seed)
    assert sol.differentiable.tolist() == [i not in (5, 7) for i in range(9)]
    for i in range(9):
        for key in INPUTS:
            if i in (2, 5, 7):
                assert not getattr(bar, key)[i].any()
            else:
                assert_same_bits(getattr(bar, key)[i], getattr(expected, key)[i])


def test_forms_and_the_short_way(rng):
    """`solve_qp`, a batch of one and a problem without a batch axis, many times over."""
    problem = well_posed("qp", 1).item(0)
    settings = gd.Settings(smoothing=0.1)
    seed = rng.standard_normal(problem.q.shape)
    first = gd.solve(*problem.args, settings).vjp(x=seed)
    for _ in range(4):
        again = gd.solve(*problem.args, settings)
        assert again.differentiable
        assert_same_bits(again.vjp(x=seed).q, first.q)
    qp = gd.solve_qp(problem.P, problem.q, problem.A, problem.b, settings=settings)
    assert qp.differentiable
    assert_close(qp.vjp(x=seed).q, first.q, 1e-10)


def test_torch_gradients(rng):
    """Through autograd what `vjp` gives."""
    torch = pytest.importorskip("torch")
    problem = well_posed("lp", 3)
    settings = gd.Settings(smoothing=0.1)
    _, q, A, b = (None if a is None else torch.tensor(a, requires_grad=True) for a in problem.data)
    weight = rng.standard_normal(problem.q.shape)
    sol = gd.solve(None, q, A, b, problem.gd_cones, settings)
    assert bool(sol.differentiable.all())
    (torch.tensor(weight) * sol.x).sum().backward()
    expected = gd.solve(*problem.args, settings).vjp(x=weight)
    for tensor, gradient in ((q, expected.q), (A, expected.A), (b, expected.b)):
        assert_close(tensor.grad.numpy(), gradient, 1e-12)
