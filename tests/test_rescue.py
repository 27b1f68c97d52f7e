"""Settings(rescue=True): what was given up is solved again on the host, and what was not is left as it is."""

from __future__ import annotations

import numpy as np
import pytest
from compare import RESULT_FIELDS, assert_close, assert_same_bits
from problems import MIXED, feasible_qps, infeasible, unbounded, varied_qps, well_posed

import gpudiff as gd
from gpudiff import _rescue
from gpudiff.backends.cpu import CpuBackend

HASTY = {"max_iter": 2, "polish": False}  # gives up on everything


class Helpless(CpuBackend):
    """A CPU backend that cannot solve without being told where to start."""

    def solve(self, problem, settings, start):
        if start is None:
            result = CpuBackend().solve(problem, gd.Settings(max_iter=1, polish=False), None)
            result.status[...] = gd.Status.NUMERICAL_ERROR
            return result
        return CpuBackend().solve(problem, settings, start)


class Hopeless(Helpless):
    """One that cannot even then."""

    def solve(self, problem, settings, start):
        return super().solve(problem, settings, None)


@pytest.fixture(params=[CpuBackend, Helpless, Hopeless], ids=lambda kind: kind.__name__)
def helper(request, monkeypatch):
    """Who is there to help: the CPU backend, Clarabel with polish, Clarabel alone; and how exact that is."""
    monkeypatch.setattr(_rescue, "CpuBackend", request.param)
    return 3e-5 if request.param is Hopeless else 1e-9


def test_nothing_failed_nothing_changes(rng):
    problem = varied_qps(rng, 5)[1]
    sol, plain = gd.solve(*problem.args, gd.Settings(rescue=True)), gd.solve(*problem.args)
    assert sol.rescued == plain.rescued == 0
    for name in RESULT_FIELDS:
        assert_same_bits(getattr(sol, name), getattr(plain, name), name)


@pytest.mark.parametrize("shared", [(), ("A",), ("P", "A", "b")], ids=["nothing shared", "A", "PAb"])
def test_what_was_given_up_is_solved(rng, helper, shared):
    problem, _ = varied_qps(rng, 5, shared)
    given_up, exact = gd.solve(*problem.args, gd.Settings(**HASTY)), gd.solve(*problem.args)
    assert not given_up.ok.any()
    sol = gd.solve(*problem.args, gd.Settings(**HASTY, rescue=True))
    assert sol.rescued == 5
    assert sol.ok.all()
    for name in ("x", "y", "s", "obj"):
        assert_close(getattr(sol, name), getattr(exact, name), helper, name)
    assert (sol.iterations > given_up.iterations).all()
    for name in ("primal_residual", "dual_residual", "gap"):
        assert getattr(sol, name).max() < 1e-7
    x_bar = rng.standard_normal(5)
    assert_close(sol.vjp(x=x_bar).A, exact.vjp(x=x_bar).A, 1e3 * helper)
    assert sol.differentiable.all() == (helper == 1e-9), "a point of unknown margin is not trusted"


@pytest.mark.parametrize(
    "family", ["sdp", "small psd cones", "exponential", "dual exponential", "power", "dual power", "every cone"]
)
def test_every_cone_is_rescued(helper, family):
    problem = well_posed(family, batch=3)
    sol = gd.solve(*problem.args, gd.Settings(**HASTY, rescue=True))
    assert sol.rescued == 3
    for name in ("x", "y", "s"):
        assert_close(getattr(sol, name), getattr(problem, name), 30 * helper, name)


@pytest.mark.parametrize("on_failure", ["nan", "zero"])
def test_certificates_and_faults_of_the_data(rng, helper, on_failure):
    fine = feasible_qps(rng, 1, 6, MIXED)
    parts = [(fine.P, fine.q[0], fine.A, fine.b), infeasible(rng, MIXED).data, unbounded(rng, MIXED, 3).data]
    parts.append((fine.P, np.full(6, np.nan), fine.A, fine.b))
    data = [np.stack(arrays) for arrays in zip(*parts, strict=True)]
    sol = gd.solve(*data, fine.gd_cones, gd.Settings(**HASTY, on_failure=on_failure, rescue=True))
    assert [gd.Status(code).name for code in sol.status] == [
        "SOLVED",
        "PRIMAL_INFEASIBLE",
        "DUAL_INFEASIBLE",
        "INVALID_DATA",
    ]
    assert sol.rescued == 3
    exact = gd.solve(*data, fine.gd_cones, gd.Settings(on_failure=on_failure))
    np.testing.assert_array_equal(np.isnan(sol.x), np.isnan(exact.x))
    np.testing.assert_array_equal(np.isnan(sol.y), np.isnan(exact.y))
    if on_failure == "zero":
        assert not sol.x[1:].any()
        return
    _, q, A, b = data
    assert_close(A[1].T @ sol.y[1], np.zeros(6), 1e-6)
    assert sol.y[1] @ b[1] == pytest.approx(-1)
    assert sol.x[2] @ q[2] == pytest.approx(-1)
    assert_close(A[2] @ sol.x[2] + sol.s[2], np.zeros(13), 1e-6)
    assert sol.obj[1:3].tolist() == [np.inf, -np.inf]


def test_a_problem_without_a_batch_axis(rng, helper):
    problem = varied_qps(rng, 1)[1].item(0)
    sol = gd.solve(*problem.args, gd.Settings(**HASTY, rescue=True))
    assert sol.rescued == 1
    assert sol.x.shape == (5,)
    assert_close(sol.x, gd.solve(*problem.args).x, helper)


def test_absent_rows(helper):
    A, b = np.array([[1.0], [-1.0], [1.0]]), np.array([np.inf, -2.0, 9.0])
    sol = gd.solve([[1.0]], [0.0], A, b, [gd.Nonnegative(3)], gd.Settings(max_iter=1, polish=False, rescue=True))
    assert sol.rescued == 1
    assert sol.x == pytest.approx(2)
    np.testing.assert_allclose(sol.y, [0, 2, 0], atol=1e-6)
    assert sol.s[0] == np.inf


def test_float32_and_linear_objectives(helper):
    A = np.array([[2, 1], [1, 3], [-1, 0], [0, -1]], np.float32)
    b = np.array([100, 90, 0, 0], np.float32)
    settings = gd.Settings(**HASTY, rescue=True)
    sol = gd.solve(None, np.array([-3, -5], np.float32), A, b, [gd.Nonnegative(4)], settings)
    assert sol.x.dtype == np.float32
    np.testing.assert_allclose(sol.x, [42, 16], rtol=1e-5)


def test_through_torch_and_solve_qp():
    torch = pytest.importorskip("torch")
    q = torch.tensor([-3.0, -5.0], dtype=torch.float64, requires_grad=True)
    sol = gd.solve_qp(
        torch.eye(2, dtype=torch.float64), q, ub=torch.ones(2), settings=gd.Settings(**HASTY, rescue=True)
    )
    assert sol.rescued == 1
    np.testing.assert_allclose(sol.x.detach(), [1, 1])
    sol.z_box.sum().backward()
    np.testing.assert_allclose(q.grad, [-1, -1])
