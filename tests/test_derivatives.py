"""jvp and vjp: each other's adjoint, equal to exact implicit derivatives and to finite differences, zero on failure."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from compare import assert_close, assert_same_bits
from problems import WELL_POSED, Problem, generator, row_scales, scaled, varied_qps, well_posed

import gpudiff as gd

INPUTS = ("P", "q", "A", "b")
OUTPUTS = ("x", "y", "s", "obj")


def symmetric(M: np.ndarray) -> np.ndarray:
    return M + M.swapaxes(-1, -2)


def tangents(rng: np.random.Generator, problem: Problem) -> dict[str, np.ndarray]:
    """A random direction for each array of data, symmetric for P, of the problem's dtype."""
    arrays = {name: getattr(problem, name) for name in INPUTS if getattr(problem, name) is not None}
    random = {name: rng.standard_normal(a.shape).astype(a.dtype) for name, a in arrays.items()}
    if "P" in random:
        random["P"] = symmetric(random["P"])
    return random


def cotangents(rng: np.random.Generator, sol) -> dict[str, np.ndarray]:
    return {name: rng.standard_normal(getattr(sol, name).shape) for name in OUTPUTS}


def per_problem(a, b) -> np.ndarray:
    """Inner products along all but the batch axis."""
    return np.sum(np.reshape(a * b, (len(a), -1)), axis=1)


def length(a) -> np.ndarray:
    return np.sqrt(per_problem(a, a))


def assert_adjoint(sol, direction: dict, seed: dict, tolerance: float) -> None:
    """⟨ȳ, J ẋ⟩ = ⟨Jᵀ ȳ, ẋ⟩, relative to the product of the norms."""
    dot, bar = sol.jvp(**direction), sol.vjp(**seed)
    forward = sum(per_problem(seed[k], getattr(dot, k)) for k in seed)
    reverse = sum(per_problem(getattr(bar, k), direction[k]) for k in direction)
    size = 1 + sum(length(seed[k]) * length(getattr(dot, k)) for k in seed)
    size = size + sum(length(direction[k]) * length(getattr(bar, k)) for k in direction)
    worst = np.max(np.abs(forward - reverse) / size)
    assert worst <= tolerance, f"adjoint identity off by {worst:.1e}"


@pytest.mark.parametrize("name", WELL_POSED)
def test_adjoint_identity(name, rng):
    """For all inputs and outputs together, then for each pair of one input and one output."""
    problem = well_posed(name, 8)
    sol = gd.solve(*problem.args)
    assert np.all(sol.ok)
    direction, seed = tangents(rng, problem), cotangents(rng, sol)
    assert_adjoint(sol, direction, seed, 1e-10)
    for key, value in direction.items():
        for output, weight in seed.items():
            assert_adjoint(sol, {key: value}, {output: weight}, 1e-10)


@pytest.mark.parametrize("name", WELL_POSED)
def test_against_exact_implicit_derivatives(name, rng):
    problem = well_posed(name, 4, seed=1)
    sol = gd.solve(*problem.args)
    direction, seed = tangents(rng, problem), cotangents(rng, sol)
    dot, bar = sol.jvp(**direction), sol.vjp(**seed)
    for i, item in enumerate(problem.items()):
        point = reference.exact(item, start=item)
        expected = reference.jvp(item, point, **{k: v[i] for k, v in direction.items()})
        for output in OUTPUTS:
            assert_close(getattr(dot, output)[i], getattr(expected, output), 1e-7, f"tangent of {output}")
        gradient = reference.vjp(item, point, **{k: v[i] for k, v in seed.items()})
        for key in direction:
            assert_close(getattr(bar, key)[i], getattr(gradient, key), 1e-7, f"cotangent of {key}")


@pytest.mark.parametrize("name", WELL_POSED)
def test_each_output_alone_against_exact_derivatives(name, rng):
    """One cotangent at a time: absent ones must count as zero, not as stale memory."""
    problem = well_posed(name, 2, seed=2)
    sol = gd.solve(*problem.args)
    for output, weight in cotangents(rng, sol).items():
        bar = sol.vjp(**{output: weight})
        for i, item in enumerate(problem.items()):
            expected = reference.vjp(item, reference.exact(item, start=item), **{output: weight[i]})
            for key in INPUTS:
                if getattr(problem, key) is not None:
                    assert_close(getattr(bar, key)[i], getattr(expected, key), 1e-7, f"{output} → {key}")


@pytest.mark.parametrize("name", [name for name in WELL_POSED if name not in {"tall", "wide"}])
def test_against_finite_differences(name, rng):
    """No formula in common with the solver: two solutions of perturbed problems in extended precision."""
    problem = well_posed(name, 2, seed=3)
    sol = gd.solve(*problem.args)
    for key, value in tangents(rng, problem).items():
        dot = sol.jvp(**{key: value})
        for i, item in enumerate(problem.items()):
            expected = reference.finite_difference(item, item, **{key: value[i]})
            for output in OUTPUTS:
                assert_close(getattr(dot, output)[i], getattr(expected, output), 1e-7, f"{key} → {output}")


@pytest.mark.parametrize("name", WELL_POSED)
def test_envelope_identities(name):
    """Gradients of the optimal value: ∂P = ½xxᵀ, ∂q = x, ∂A = yxᵀ, ∂b = −y."""
    problem = well_posed(name, 8)
    sol = gd.solve(*problem.args)
    bar = sol.vjp(obj=np.ones(8))
    x, y = problem.x, problem.y
    if problem.P is not None:
        assert_close(bar.P, x[:, :, None] * x[:, None] / 2, 1e-8, "∂P")
    assert_close(bar.q, x, 1e-8, "∂q")
    assert_close(bar.A, y[:, :, None] * x[:, None], 1e-8, "∂A")
    assert_close(bar.b, -y, 1e-8, "∂b")


@pytest.mark.parametrize("name", ["qp with equalities", "lp", "socp", "mixed"])
def test_linearity(name, rng):
    problem = well_posed(name, 8)
    sol = gd.solve(*problem.args)
    one, two = tangents(rng, problem), tangents(rng, problem)
    mixed = sol.jvp(**{k: 2 * one[k] - 0.5 * two[k] for k in one})
    first, second = sol.jvp(**one), sol.jvp(**two)
    for output in OUTPUTS:
        expected = 2 * getattr(first, output) - 0.5 * getattr(second, output)
        assert_close(getattr(mixed, output), expected, 1e-11, output)
    seed, other = cotangents(rng, sol), cotangents(rng, sol)
    mixed = sol.vjp(**{k: 2 * seed[k] - 0.5 * other[k] for k in seed})
    first, second = sol.vjp(**seed), sol.vjp(**other)
    for key in one:
        assert_close(getattr(mixed, key), 2 * getattr(first, key) - 0.5 * getattr(second, key), 1e-11, key)


def test_primal_feasibility_is_differentiated(rng):
    """The tangent of A x + s = b holds to rounding: Ȧx + Aẋ + ṡ = ḃ."""
    problem = well_posed("mixed", 8)
    sol = gd.solve(*problem.args)
    direction = tangents(rng, problem)
    dot = sol.jvp(**direction)
    left = np.einsum("bij,bj->bi", direction["A"], sol.x) + np.einsum("bij,bj->bi", problem.A, dot.x) + dot.s
    assert_close(left, direction["b"], 1e-9)


@pytest.mark.parametrize("name", [name for name, family in WELL_POSED.items() if family[2] is not None])
def test_gradient_of_P_is_bitwise_symmetric(name, rng):
    problem = well_posed(name, 8)
    sol = gd.solve(*problem.args)
    shared = gd.solve(problem.P[0], problem.q, problem.A, problem.b, problem.gd_cones)
    for P_bar in (sol.vjp(**cotangents(rng, sol)).P, shared.vjp(obj=np.ones(8)).P):
        assert_same_bits(P_bar, P_bar.swapaxes(-1, -2))
        assert np.any(P_bar != 0)


def test_without_P_there_is_no_gradient_of_it(rng):
    problem = well_posed("lp", 3)
    sol = gd.solve(*problem.args)
    assert sol.vjp(x=rng.standard_normal(sol.x.shape)).P is None
    with pytest.raises(gd.GpudiffError, match="P"):
        sol.jvp(P=np.zeros((3, 5, 5)))


# ---- shared arguments ------------------------------------------------------------------------------------------------

SHARED = [("P",), ("A",), ("b",), ("q",), ("P", "A"), ("P", "A", "b"), ("q", "A", "b")]


@pytest.mark.parametrize("shared", SHARED, ids="".join)
def test_gradient_of_a_shared_argument_is_the_sum(shared, rng):
    compact, full = varied_qps(rng, 37, shared)
    sol, expanded = gd.solve(*compact.args), gd.solve(*full.args)
    assert np.all(sol.ok)
    for output in OUTPUTS:
        assert_close(getattr(sol, output), getattr(expanded, output), 1e-10, output)
    seed = cotangents(rng, sol)
    bar, each = sol.vjp(**seed), expanded.vjp(**seed)
    for key in INPUTS:
        expected = getattr(each, key).sum(axis=0) if key in shared else getattr(each, key)
        assert getattr(bar, key).shape == getattr(compact, key).shape
        assert_close(getattr(bar, key), expected, 1e-9, key)


def test_extent_one_is_shared_and_keeps_its_axis(rng):
    compact, _ = varied_qps(rng, 37, ("P", "A"))
    with_axis = gd.solve(compact.P[None], compact.q, compact.A[None], compact.b, compact.gd_cones)
    without = gd.solve(*compact.args)
    seed = cotangents(rng, without)
    bar, expected = with_axis.vjp(**seed), without.vjp(**seed)
    assert_same_bits(with_axis.x, without.x, "x")
    for key in ("P", "A"):
        assert_same_bits(getattr(bar, key), getattr(expected, key)[None], key)


@pytest.mark.parametrize("shared", [("P", "A"), ("P", "A", "b")], ids="".join)
def test_tangent_of_a_shared_argument_moves_every_problem(shared, rng):
    compact, full = varied_qps(rng, 37, shared)
    direction = tangents(rng, compact)
    wide = {k: np.broadcast_to(v, getattr(full, k).shape) for k, v in direction.items()}
    dot, expected = gd.solve(*compact.args).jvp(**direction), gd.solve(*full.args).jvp(**wide)
    for output in OUTPUTS:
        assert_close(getattr(dot, output), getattr(expected, output), 1e-9, output)


@pytest.mark.parametrize("batch", [37, 1000])
def test_sums_are_deterministic(batch, rng):
    """The same bits on every run and with any number of threads."""
    compact, _ = varied_qps(rng, batch, ("P", "A", "b"))
    results = []
    for threads in (1, 1, 2, 3, 4):
        sol = gd.solve(*compact.args, settings=gd.Settings(threads=threads))
        results.append(sol.vjp(x=np.cos(np.arange(sol.x.size)).reshape(sol.x.shape), obj=np.ones(batch)))
    for bar in results[1:]:
        for key in INPUTS:
            assert_same_bits(getattr(bar, key), getattr(results[0], key), key)


# ---- failures --------------------------------------------------------------------------------------------------------


def with_failures(rng: np.random.Generator) -> tuple[Problem, np.ndarray]:
    """Nine problems of which number 2 is infeasible and number 5 holds a NaN."""
    problem, _ = varied_qps(rng, 9)
    A, b, q = problem.A.copy(), problem.b.copy(), problem.q.copy()
    y = np.concatenate([[0.3], rng.uniform(0.5, 2, 6), [2, 0.5, 0.5]])  # will certify: Aᵀy = 0, bᵀy = −1
    A[2] -= np.outer(y, y @ A[2]) / (y @ y)
    b[2] -= y * (b[2] @ y + 1) / (y @ y)
    q[5, 1] = np.nan
    return Problem(problem.P, q, A, b, problem.cones), np.array([2, 5])


def test_failed_problems_have_zero_derivatives(rng):
    problem, failed = with_failures(rng)
    sol = gd.solve(*problem.args)
    assert_same_bits(np.flatnonzero(~sol.ok), failed, "failed problems")
    dot = sol.jvp(**tangents(rng, problem))
    bar = sol.vjp(**{k: rng.standard_normal(getattr(sol, k).shape) for k in OUTPUTS})
    for result, names in ((dot, OUTPUTS), (bar, INPUTS)):
        for name in names:
            value = getattr(result, name)
            assert np.all(value[failed] == 0), name
            assert np.all(np.isfinite(value)), name
            assert np.all(np.any(np.reshape(np.delete(value, failed, axis=0), (7, -1)) != 0, axis=1)), name


def test_a_failed_problem_adds_nothing_to_a_sum(rng):
    """Even when its own cotangent is NaN, as that of a loss on its NaN solution is."""
    problem, failed = with_failures(rng)
    P = problem.P[0]
    sol = gd.solve(P, *problem.data[1:], problem.gd_cones)
    seed = rng.standard_normal(sol.x.shape)
    seed[failed] = np.nan
    keep = np.delete(np.arange(9), failed)
    rest = gd.solve(P, *(a[keep] for a in problem.data[1:]), problem.gd_cones)
    bar, expected = sol.vjp(x=seed), rest.vjp(x=seed[keep])
    assert np.all(np.isfinite(bar.P))
    assert_close(bar.P, expected.P, 1e-13, "sum over the solved problems")
    assert np.all(bar.q[failed] == 0)
    assert_same_bits(bar.q[keep], expected.q, "q")


def test_differentiable_flag():
    """An ordinary problem is differentiable; one at a kink of the projection is not, and says so."""
    sol = gd.solve(*well_posed("mixed", 6).args)
    assert np.all(sol.differentiable)
    assert np.all(sol.margin > 1e-6)
    # min ½‖x − t‖², x ≥ 0 has a kink where a coordinate of t is 0
    t = np.array([[-1.0, 2.0], [0.0, 2.0], [1.0, 2.0]])
    kink = gd.solve(np.eye(2), -t, -np.eye(2), np.zeros(2), [gd.Nonnegative(2)])
    assert list(kink.differentiable) == [True, False, True]
    slope = kink.jvp(q=-np.ones((3, 2))).x
    assert_close(slope[[0, 2]], np.array([[0.0, 1.0], [1.0, 1.0]]), 1e-12)
    assert 0 <= slope[1, 0] <= 1, "at the kink, any slope between those of its two sides"


def test_derivatives_of_a_badly_scaled_problem():
    """Units of rows and variables do not spoil derivatives; compared in the units of the well-scaled problem."""
    rng = generator("badly scaled derivatives")
    problem = well_posed("mixed", 1).item(0)
    rows, columns = row_scales(rng, problem.cones, 3), 10 ** rng.uniform(-3, 3, problem.q.size)
    other = scaled(problem, rows, columns)
    q_dot, b_dot = rng.standard_normal(problem.q.size), rng.standard_normal(problem.b.size)
    dot = gd.solve(*other.args).jvp(q=columns * q_dot, b=rows * b_dot)
    expected = reference.jvp(problem, reference.exact(problem, start=problem), q=q_dot, b=b_dot)
    assert_close(dot.x * columns, expected.x, 1e-7, "x")
    assert_close(dot.y * rows, expected.y, 1e-7, "y")
    assert_close(dot.s / rows, expected.s, 1e-7, "s")
