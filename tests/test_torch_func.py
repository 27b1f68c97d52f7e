"""torch: the transforms of torch.func, over and under each other, against loops, each other and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch_problems import point, solve, tensors

import gpudiff as gd

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

ALL = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def mixed():
    return tensors("mixed", batch=3)


def assert_close(actual, expected, tolerance=1e-9):
    for a, b in zip(torch.utils._pytree.tree_leaves(actual), torch.utils._pytree.tree_leaves(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def total(*arguments):
    return point(*arguments).sin().sum()


def with_cones(function, cones):
    return lambda *arrays: function(*arrays, cones)


def test_vmap_of_solve(mixed):
    data, cones = mixed
    function = with_cones(point, cones)
    whole = function(*data)
    assert torch.equal(vmap(function)(*data), whole)
    moved = vmap(function, in_dims=(None, -1, None, None), out_dims=1)
    q = torch.stack([data[1], 1.01 * data[1]])
    expected = torch.stack([function(data[0], v, *data[2:]) for v in q], 1)
    assert torch.equal(moved(data[0], q.movedim(0, -1), *data[2:]), expected)
    one = [data[0][0], data[1][0] + 0.01 * data[1], data[2][0], data[3][0]]  # nothing but q has a batch axis, or two
    alone = torch.stack([function(one[0], v, *one[2:]) for v in one[1]])
    assert torch.equal(vmap(function, (None, 0, None, None))(*one), alone)
    twice = vmap(vmap(function, (None, 0, None, None)), (None, 0, None, None))(
        one[0], one[1].reshape(3, 1, -1), *one[2:]
    )
    assert torch.equal(twice, alone[:, None])


def test_every_field_of_a_mapped_solution(mixed):
    data, cones = mixed
    names = ("status", "iterations", "primal_residual", "dual_residual", "gap", "margin", "ok", "differentiable")
    plain = solve(*data, cones)

    def fields(*arrays):
        sol = solve(*arrays, cones)
        assert sol.backend == "cpu"
        return {name: getattr(sol, name) for name in names}

    for name, value in vmap(fields)(*data).items():
        assert torch.equal(value, getattr(plain, name)), name


def test_explicit_derivatives_inside_of_a_transform(mixed):
    data, cones = mixed
    ones = torch.ones(4, dtype=torch.float64)

    def both(*arrays):
        sol = solve(*arrays, cones)
        return sol.jvp(q=ones, b=arrays[3]).y, sol.vjp(x=ones, obj=1.0, wrt="A").A

    plain = solve(*data, cones)
    assert_close(vmap(both)(*data), (plain.jvp(q=ones, b=data[3]).y, plain.vjp(x=ones, obj=1.0).A))
    with pytest.raises(gd.ShapeError, match="x: expected shape"):
        vmap(lambda *arrays: solve(*arrays, cones).vjp(x=ones[1:]).q)(*data)


def test_vmap_of_grad(mixed):
    data, cones = mixed
    inputs = [t.clone().requires_grad_() for t in data]
    expected = torch.autograd.grad(total(*inputs, cones), inputs)
    assert_close(vmap(grad(with_cones(total, cones), ALL))(*data), expected)


@pytest.mark.parametrize("batched", [False, True])
def test_jacrev_is_jacfwd(mixed, batched):
    data, cones = mixed
    arguments = data if batched else [t[0] for t in data]
    function = with_cones(point, cones)
    assert_close(jacrev(function, ALL)(*arguments), jacfwd(function, ALL)(*arguments))


def test_jvp_and_vjp_are_adjoint(mixed):
    data, cones = mixed
    function = with_cones(point, cones)
    dots = tuple(
        torch.randn(t.shape, dtype=t.dtype, generator=torch.Generator().manual_seed(i)) for i, t in enumerate(data)
    )
    out, out_dot = jvp(function, tuple(data), dots)
    bar = torch.cos(torch.arange(out.numel(), dtype=out.dtype)).reshape(out.shape)
    bars = vjp(function, *data)[1](bar)
    forward, backward = (out_dot * bar).sum(), sum((a * b).sum() for a, b in zip(dots, bars, strict=True))
    torch.testing.assert_close(forward, backward, rtol=1e-10, atol=1e-10)


def test_hessians_in_all_modes(mixed):
    data, cones = mixed
    one = [t[0] for t in data]
    function = with_cones(total, cones)
    expected = jacrev(jacrev(function, ALL), ALL)(*one)
    assert_close(hessian(function, ALL)(*one), expected)
    assert_close(jacfwd(jacfwd(function, 1), 1)(*one), expected[1][1])
    assert_close(jacrev(jacfwd(function, 1), 1)(*one), expected[1][1])
    assert_close(vmap(hessian(function, 1))(*data)[0], expected[1][1])
    step = 1e-5
    for i, unit in enumerate(torch.eye(4, dtype=torch.float64)):
        ends = [grad(function, 2)(one[0], one[1] + sign * step * unit, *one[2:]) for sign in (1, -1)]
        difference = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close(expected[2][1][..., i], difference, rtol=1e-6, atol=1e-6)


def test_third_derivatives(mixed):
    data, cones = mixed
    one = [t[0] for t in data]
    function = with_cones(total, cones)
    third = jacfwd(hessian(function, 1), 1)(*one)
    assert_close(third, jacrev(jacrev(jacrev(function, 1), 1), 1)(*one))
    step = 1e-5
    for i, unit in enumerate(torch.eye(4, dtype=torch.float64)):
        ends = [hessian(function, 1)(one[0], one[1] + sign * step * unit, *one[2:]) for sign in (1, -1)]
        torch.testing.assert_close(third[..., i], (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-5)


def test_hessian_of_the_optimal_value_in_closed_form():
    """x = −P⁻¹q where nothing is active, so that the optimal value is −½ qᵀP⁻¹q; a bound takes its variable out."""
    P = torch.tensor([[2.0, 0.5, 0], [0.5, 1, 0.2], [0, 0.2, 3]], dtype=torch.float64)
    q = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    A, b = torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)

    def value(q, b):
        return gd.solve(P, q, A, b, [gd.Nonnegative(3)]).obj

    torch.testing.assert_close(hessian(value)(q, b), -torch.linalg.inv(P), rtol=1e-12, atol=1e-14)
    bound = b.clone()
    bound[1] = 0.1  # below what x₁ would be
    free = torch.tensor([0, 2])
    expected = torch.zeros_like(P)
    expected[free[:, None], free] = -torch.linalg.inv(P[free[:, None], free])
    torch.testing.assert_close(hessian(value)(q, bound), expected, rtol=1e-12, atol=1e-14)


def test_qps_and_forms(rng):
    P = torch.eye(3, dtype=torch.float64)
    q, lb = torch.from_numpy(2 * rng.standard_normal((4, 3))), torch.full((3,), -0.5, dtype=torch.float64)
    ub = torch.tensor([0.5, torch.inf, 0.6], dtype=torch.float64)

    def fields(q, lb, ub):
        sol = gd.solve_qp(P, q, lb=lb, ub=ub)
        return sol.x, sol.z_box, sol.obj, sol.status

    assert_close(vmap(fields, (0, None, None))(q, lb, ub), fields(q, lb, ub))
    assert_close(vmap(fields)(q, lb.expand(4, 3), ub.expand(4, 3)), fields(q, lb, ub))
    form = gd.forms.Quadratic(P, r=0.1)

    def slack(q, r):
        return gd.solve_forms(P, q, [gd.forms.Quadratic(P, r=r), gd.forms.Bounds(lb, ub)]).forms[0].y

    r = torch.tensor(0.1, dtype=torch.float64)
    assert_close(jacrev(slack, (0, 1))(q[0], r), jacfwd(slack, (0, 1))(q[0], r))
    assert_close(hessian(slack, 1)(q[0], r), jacrev(jacrev(slack, 1), 1)(q[0], r))
    with pytest.raises(NotImplementedError, match=r"vjp .* outside of the transforms"):
        vmap(lambda q: gd.solve_forms(P, q, [form]).vjp(x=torch.ones(3)).q)(q)


def test_a_module_without_its_parameters():
    layer = gd.torch.QPLayer(2, L=torch.nn.Parameter(torch.eye(2, dtype=torch.float64)), lb=-1.0)
    q = torch.tensor([0.5, 3.0], dtype=torch.float64)

    def value(L):
        return functional_call(layer, {"L": L}, (), {"q": q}).obj

    L = torch.stack([torch.eye(2, dtype=torch.float64) * k for k in (1.0, 2.0)])
    values = vmap(value)(L)
    assert_close(values, torch.stack([value(part) for part in L]))
    assert vmap(grad(value))(L).shape == L.shape


def test_a_mapped_failure_stays_in_its_place(mixed):
    data, cones = mixed
    q = torch.stack([data[1], data[1]])
    q[0, 1] = torch.nan

    def value(q):
        sol = solve(data[0], q, *data[2:], cones, settings=gd.Settings(on_failure="zero"))
        return sol.x.square().sum()

    bars = vmap(grad(value))(q)
    assert torch.isfinite(bars).all()
    assert not bars[0, 1].any()
    assert torch.equal(bars[0, ::2], bars[1, ::2])
    seconds = vmap(hessian(value))(q)
    assert torch.isfinite(seconds).all()
    assert not seconds[0, 1].any()


def test_backward_three_times(mixed):
    """Without torch.func, where other code makes the derivatives."""
    data, cones = mixed
    one = [t[0].clone().requires_grad_() for t in data]
    (first,) = torch.autograd.grad(total(*one, cones), one[1], create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), one[1], create_graph=True)
    third = torch.autograd.grad(second.square().sum(), one)

    def squared_gradient(q):
        return grad(with_cones(total, cones), 1)(one[0].detach(), q, *[t.detach() for t in one[2:]]).square().sum()

    expected = grad(lambda q: grad(squared_gradient)(q).square().sum())(one[1].detach())
    assert_close(third[1], expected)
    assert all(torch.isfinite(bar).all() for bar in third)


def test_batched_cotangents_of_autograd(mixed):
    """`is_grads_batched`, behind which there is another vmap than that of torch.func."""
    (L, q, A, b), cones = mixed
    inputs = [q.clone().requires_grad_(), A.clone().requires_grad_()]
    sol = solve(L, inputs[0], inputs[1], b, cones)
    out = sol.x + sol.obj[:, None]
    units = torch.eye(out.numel(), dtype=out.dtype).reshape(-1, *out.shape)
    together = torch.autograd.grad(out, inputs, units, is_grads_batched=True, retain_graph=True)
    alone = [torch.autograd.grad(out, inputs, unit, retain_graph=True) for unit in units]
    assert_close(together, [torch.stack(bars) for bars in zip(*alone, strict=True)])
    assert torch.autograd.gradcheck(
        lambda q: solve(L, q, A, b, cones).x, inputs[0], check_batched_grad=True, fast_mode=True
    )
