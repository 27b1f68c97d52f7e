"""torch tensors: kinds, autograd in both modes, sharing, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad

import gpudiff as gd

# Entering forward mode for the first time makes torch script its own decompositions, which it warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

CONES = [gd.SecondOrder(3), gd.Zero(1), gd.Nonnegative(3)]
NAMES = ("L", "q", "A", "b")
n, m = 3, 7


@pytest.fixture
def data(rng):
    """Strictly feasible problems; P = L Lᵀ + I, since P itself moves among symmetric matrices only."""
    B = 3
    A = rng.standard_normal((B, m, n))
    b = np.einsum("bij,bj->bi", A, rng.standard_normal((B, n))) + np.array([2, 0.1, 0.1, 0, 0.3, 0.3, 0.3])
    arrays = (rng.standard_normal((B, n, n)), 2 * rng.standard_normal((B, n)), A, b)
    return [torch.from_numpy(a).requires_grad_() for a in arrays]


def solve(L, q, A, b, **options):
    P = L @ L.mT + torch.eye(n, dtype=L.dtype)
    return gd.solve(P, q, A, b, CONES, **options)


def outputs(*arrays):
    sol = solve(*arrays)
    return sol.x, sol.y, sol.s, sol.obj


def test_tensors_in_tensors_out(data):
    sol = solve(*data)
    for name in ("x", "y", "s", "obj"):
        assert getattr(sol, name).requires_grad
    for name in ("status", "iterations", "primal_residual", "dual_residual", "gap", "margin", "ok", "differentiable"):
        value = getattr(sol, name)
        assert isinstance(value, torch.Tensor)
        assert value.shape == (3,)
        assert not value.requires_grad
    assert sol.ok.dtype == torch.bool
    assert sol.ok.all()
    assert sol.status.dtype == torch.int8
    arrays = [a.detach().numpy() for a in data]
    P = arrays[0] @ np.swapaxes(arrays[0], 1, 2) + np.eye(n)
    plain = gd.solve((P + np.swapaxes(P, 1, 2)) / 2, *arrays[1:], CONES)
    np.testing.assert_allclose(sol.x.detach(), plain.x, rtol=1e-10, atol=1e-12)
    assert "Solution(B=3, n=3, m=7, float64, backend 'cpu')" in repr(sol)


@pytest.mark.parametrize("which", ["x", "y", "s", "obj"])
def test_gradcheck_of_each_output(data, which):
    assert torch.autograd.gradcheck(lambda *a: getattr(solve(*a), which), data)


def test_gradcheck_of_all_outputs_and_forward_mode(data):
    assert torch.autograd.gradcheck(outputs, data, check_forward_ad=True)


@pytest.mark.parametrize("which", range(4))
def test_gradcheck_with_respect_to_one_argument(data, which):
    rest = [a.detach() for a in data]

    def function(argument):
        return outputs(*rest[:which], argument, *rest[which + 1 :])

    assert torch.autograd.gradcheck(function, (data[which],))


@pytest.mark.parametrize("axis", [False, True], ids=["no axis", "extent 1"])
def test_gradcheck_of_shared_arguments(data, axis):
    index = slice(0, 1) if axis else 0
    L, q, A, b = (a.detach() for a in data)
    inputs = [L[index].clone().requires_grad_(), q.requires_grad_(), A[index].clone().requires_grad_()]
    room = b + torch.tensor([9.0, 0, 0, 0, 9, 9, 9])
    assert torch.autograd.gradcheck(lambda L, q, A: outputs(L, q, A, room), inputs, check_forward_ad=True)


def test_gradcheck_without_batch_axis(data):
    alone = [a.detach()[0].clone().requires_grad_() for a in data]
    sol = solve(*alone)
    assert sol.obj.shape == sol.status.shape == ()
    assert torch.autograd.gradcheck(outputs, alone, check_forward_ad=True)


def test_linear_objectives_and_no_rows():
    q = torch.tensor([-3.0, -5.0], dtype=torch.float64, requires_grad=True)
    A = torch.tensor([[2.0, 1], [1, 3], [-1, 0], [0, -1]], dtype=torch.float64)
    b = torch.tensor([100.0, 90, 0, 0], dtype=torch.float64, requires_grad=True)
    sol = gd.solve(None, q, A, b, [gd.Nonnegative(4)])
    sol.obj.backward()
    np.testing.assert_allclose(q.grad, [42, 16])
    np.testing.assert_allclose(b.grad, [-0.8, -1.4, 0, 0], atol=1e-12)
    free = torch.ones(2, dtype=torch.float64, requires_grad=True)
    gd.solve(torch.eye(2, dtype=torch.float64), free).x.sum().backward()
    np.testing.assert_allclose(free.grad, [-1, -1])


def test_float32(data):
    inputs = [a.detach().float().requires_grad_() for a in data]
    sol = solve(*inputs)
    assert sol.x.dtype == sol.obj.dtype == torch.float32
    sol.x.square().sum().backward()
    exact = solve(*data)
    exact.x.square().sum().backward()
    for single, double in zip(inputs, data, strict=True):
        assert single.grad.dtype == torch.float32
        np.testing.assert_allclose(single.grad, double.grad, rtol=2e-3, atol=2e-3)


def test_mixed_precision_and_constants_of_other_kinds(data):
    L, q, A, b = data
    single = q.detach().float().requires_grad_()
    sol = solve(L, single, A.detach().numpy(), b.detach().numpy().tolist())
    assert sol.x.dtype == torch.float64
    sol.x.sum().backward()
    assert single.grad.dtype == torch.float32
    exact = solve(*data)
    expected = torch.autograd.grad(exact.x.sum(), q)[0]
    np.testing.assert_allclose(single.grad, expected, rtol=1e-3, atol=1e-4)


def test_a_call_under_no_grad_keeps_nothing(data):
    with torch.no_grad():
        sol = solve(*data)
    assert not sol.x.requires_grad
    assert sol.x.grad_fn is None
    constant = solve(*[a.detach() for a in data])
    assert not constant.x.requires_grad
    assert torch.equal(constant.x, sol.x)


def test_only_the_needed_gradients_are_computed(data, monkeypatch):
    from gpudiff.backends.cpu import CpuBackend

    asked = []
    vjp = CpuBackend.vjp

    def spy(self, problem, settings, result, cotangents, wrt, directions):
        asked.append((tuple(wrt), [c is not None for c in cotangents]))
        return vjp(self, problem, settings, result, cotangents, wrt, directions)

    monkeypatch.setattr(CpuBackend, "vjp", spy)
    L, q, A, b = data
    solve(L.detach(), q, A.detach(), b).y.sum().backward()
    assert asked == [(("q", "b"), [False, True, False, False])]


def test_the_graph_can_be_used_twice_if_kept(data):
    sol = solve(*data)
    first = torch.autograd.grad(sol.x.sum(), data, retain_graph=True)
    again = torch.autograd.grad(sol.x.sum(), data)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)


def test_overwriting_what_the_gradient_needs_is_noticed(data):
    leaf = data[1].detach().clone().requires_grad_()
    for spoil in (lambda sol, q: q.add_(1), lambda sol, q: sol.x.detach().zero_()):
        q = leaf * 1.0
        sol = solve(data[0], q, *data[2:])
        loss = sol.y.sum()
        with torch.no_grad():
            spoil(sol, q)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_forward_mode_by_hand(data):
    L, q, A, b = (a.detach() for a in data)
    direction = torch.ones_like(b)
    with forward_ad.dual_level():
        sol = solve(L, q, A, forward_ad.make_dual(b, direction))
        tangent = forward_ad.unpack_dual(sol.x).tangent
    expected = solve(L, q, A, b).jvp(b=direction)
    assert torch.equal(tangent, expected.x)


def test_explicit_jvp_and_vjp(data):
    sol = solve(*data)
    dot = sol.jvp(q=torch.ones(3, n, dtype=torch.float64), b=np.ones(m))
    for name in ("x", "y", "s", "obj"):
        assert isinstance(getattr(dot, name), torch.Tensor)
        assert getattr(dot, name).shape == getattr(sol, name).shape
    bar = sol.vjp(x=torch.ones(n), obj=torch.ones(3), wrt=("q", "P"))
    (expected,) = torch.autograd.grad(sol.x.sum() + sol.obj.sum(), data[1])
    assert torch.equal(bar.q, expected)
    assert bar.A is None
    with pytest.raises(gd.ShapeError, match="x: expected shape"):
        sol.vjp(x=torch.ones(n + 1))


def test_failed_items_have_zero_gradients_and_a_batch_still_trains(data):
    L, q, A, b = (a.detach().clone() for a in data)
    b[1, 0] = float("nan")
    inputs = [a.requires_grad_() for a in (L, q, A, b)]
    sol = solve(*inputs, settings=gd.Settings(on_failure="zero"))
    assert sol.ok.tolist() == [True, False, True]
    loss = sol.x.square().sum() + sol.obj.sum()
    assert torch.isfinite(loss)
    loss.backward()
    for tensor in inputs:
        assert torch.isfinite(tensor.grad).all()
        assert not tensor.grad[1].any()
        assert tensor.grad[0].any()
    with pytest.raises(gd.SolveError, match="1 of 3"):
        sol.raise_for_status()


def test_expanded_and_strided_cotangents_and_data(data):
    L, q, A, b = (a.detach() for a in data)
    q_column = q.mT.contiguous().mT.requires_grad_()
    A_wide = A[0].expand(3, m, n).requires_grad_()
    b_room = b + torch.tensor([9.0, 0, 0, 0, 9, 9, 9])
    sol = solve(L, q_column, A_wide, b_room)
    sol.x.sum().backward()  # an expanded cotangent
    assert A_wide.grad.shape == (3, m, n)
    plain = [q.clone().requires_grad_(), A_wide.detach().contiguous().requires_grad_()]
    solve(L, plain[0], plain[1], b_room).x.sum().backward()
    np.testing.assert_allclose(q_column.grad, plain[0].grad, atol=1e-9)
    np.testing.assert_allclose(A_wide.grad, plain[1].grad, atol=1e-9)


def test_memory_is_shared_with_the_tensors(data):
    _L, q, A, b = (a.detach() for a in data)
    sol = gd.solve(torch.eye(n, dtype=torch.float64), q, A, b, CONES)
    problem = sol.linearization.result, sol.linearization.inner.problem
    assert problem[1].q.ctypes.data == q.data_ptr()
    assert problem[1].A.ctypes.data == A.data_ptr()
    assert problem[0].x.ctypes.data == sol.x.data_ptr()


def test_parameters_and_subclasses(data):
    q = torch.nn.Parameter(data[1].detach())
    sol = solve(data[0].detach(), q, data[2].detach(), data[3].detach())
    sol.x.sum().backward()
    assert q.grad.shape == q.shape


def test_solver_and_warm_start(data):
    _L, q, A, b = data
    P = torch.eye(n, dtype=torch.float64)
    solver = gd.Solver(CONES, n)
    first = solver.solve(P, q, A, b)
    moved = solver.solve(P, q * 1.001, A, b, warm_start=first)
    cold = solver.solve(P, q * 1.001, A, b)
    np.testing.assert_allclose(moved.x.detach(), cold.x.detach(), atol=1e-9)
    assert moved.iterations.sum() < cold.iterations.sum()
    with pytest.raises(gd.ShapeError, match="q: expected shape"):
        solver.solve(P, q[:, :2], A, b)


def test_solve_qp(rng):
    B, k = 3, 4
    L = torch.from_numpy(rng.standard_normal((n, n))).requires_grad_()
    q = torch.from_numpy(2 * rng.standard_normal((B, n))).requires_grad_()
    G = torch.from_numpy(rng.standard_normal((B, k, n))).requires_grad_()
    h = torch.from_numpy(rng.uniform(0.2, 1, (B, k))).requires_grad_()
    A = torch.from_numpy(rng.standard_normal((1, n))).requires_grad_()
    b = torch.zeros(B, 1, dtype=torch.float64, requires_grad=True)
    lb = torch.full((n,), -0.5, dtype=torch.float64, requires_grad=True)
    ub = torch.tensor([0.5, torch.inf, 0.6], dtype=torch.float64)

    def function(L, q, G, h, A, b, lb):
        sol = gd.solve_qp(L @ L.mT + torch.eye(n, dtype=L.dtype), q, G, h, A, b, lb, ub)
        assert sol.ok.all()
        return sol.x, sol.y, sol.z, sol.z_box, sol.obj

    assert torch.autograd.gradcheck(function, (L, q, G, h, A, b, lb), check_forward_ad=True)
    sol = gd.solve_qp(torch.eye(n, dtype=q.dtype), q, lb=lb)
    assert isinstance(sol, gd.QPSolution)
    assert isinstance(sol.vjp(x=torch.ones(n)).lb, torch.Tensor)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.to(torch.complex128), gd.DtypeError, ["complex128"]),
        (lambda t: t.half(), gd.DtypeError, ["float16", "autocast"]),
        (lambda t: t.bfloat16(), gd.DtypeError, ["bfloat16"]),
        (lambda t: t.to_sparse(), gd.DtypeError, ["dense", "q.to_dense()"]),
        (lambda t: t.to("meta"), gd.DeviceError, ["CPU", "meta"]),
        (lambda t: t[:, :2], gd.ShapeError, ["P: expected shape (2, 2)"]),
        (lambda t: t[:2], gd.ShapeError, ["extent", "got 2"]),
    ],
)
def test_refused_tensors(data, change, error, words):
    L, q, A, b = (a.detach() for a in data)
    with pytest.raises(error) as caught:
        solve(L, change(q), A, b) if error is not gd.ShapeError else gd.solve(L @ L.mT, change(q), A, b, CONES)
    for word in words:
        assert word in str(caught.value)


def test_half_precision_is_accepted_under_autocast(data):
    q = data[1].detach().half().requires_grad_()
    L, A, b = (data[i].detach().float() for i in (0, 2, 3))
    P = L @ L.mT + torch.eye(n)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sol = gd.solve(P, q, A, b, CONES)
    assert sol.x.dtype == torch.float32
    sol.x.sum().backward()
    assert q.grad.dtype == torch.float16
    assert q.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_is_half_throughout_comes_back_as_half(dtype):
    """A small QP with numbers that both types hold exactly: x = (−½, ½) in a box of ±½, computed in float32."""
    P, q, A = (
        torch.tensor(v, dtype=dtype) for v in ([[2.0, 0], [0, 2]], [4.0, -4], [[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    )
    q.requires_grad_()
    b = torch.full((4,), 0.5, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", dtype=dtype):
        sol = gd.solve(P, q, A, b, [gd.Nonnegative(4)])
        quadratic = gd.solve_qp(P, q, lb=-0.5, ub=b[:2])
    assert sol.primal_residual.dtype == torch.float32
    for solution in (sol, quadratic):
        assert {getattr(solution, name).dtype for name in solution.POINT} == {dtype}
        assert solution.x.tolist() == [-0.5, 0.5]
    sol.x.sum().backward()
    assert b.grad.dtype == dtype
    assert b.grad.tolist() == [0, 1, -1, 0]


def test_derivatives_are_not_rounded_by_autocast(data):
    L, q, A, b = (a.detach().float() for a in data)
    P = L @ L.mT + torch.eye(n)

    def total(q):
        return gd.solve(P, q, A, b, CONES).x.square().sum()

    expected = torch.func.hessian(total)(q)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(torch.func.hessian(total)(q), expected)


def test_a_number_for_a_bound_takes_the_type_of_the_arrays(data):
    q = data[1].detach().float().requires_grad_()
    assert gd.solve_qp(torch.eye(n), q, lb=-0.5).x.dtype == torch.float32
    assert gd.solve_qp(torch.eye(n), q.detach(), lb=-0.5).x.dtype == torch.float32


def test_integers_become_float64():
    sol = gd.solve(torch.eye(2, dtype=torch.int64), torch.tensor([1, 2]))
    assert sol.x.dtype == torch.float64
    np.testing.assert_allclose(sol.x, [-1, -2])


def test_an_asymmetric_P_is_an_error():
    with pytest.raises(gd.DataError, match="P: expected symmetric"):
        gd.solve(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.ones(2))
