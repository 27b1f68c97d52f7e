"""torch: derivatives of derivatives, of each output on each cone, and what is left of them where a problem failed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from form_problems import KINDS, arguments, batch, changed, outputs
from torch.autograd import gradcheck, gradgradcheck
from torch_problems import CASES, point, solve, tensors

import gpudiff as gd

# Entering forward mode for the first time makes torch script its own decompositions, which it warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


@pytest.mark.parametrize("name", CASES)
def test_gradgradcheck_of_each_output(name):
    data, cones = tensors(name)
    inputs = [t.requires_grad_() for t in data]
    for which in ("x", "y", "s", "obj"):

        def function(*arrays, which=which):
            return getattr(solve(*arrays, cones), which)

        # Fast mode looks at random combinations of inputs and outputs.
        assert gradgradcheck(function, inputs, check_fwd_over_rev=True, fast_mode=True), which


def test_gradgradcheck_in_full():
    data, cones = tensors("mixed", batch=1)
    inputs = [t[0].clone().requires_grad_() for t in data]
    assert gradcheck(lambda *a: point(*a, cones), inputs, check_forward_ad=True, fast_mode=True)
    assert gradgradcheck(lambda *a: point(*a, cones)[..., :4], inputs, check_fwd_over_rev=True)


@pytest.mark.parametrize("axis", [False, True], ids=["no axis", "extent 1"])
def test_gradgradcheck_of_shared_arguments(axis):
    """Each argument is shared in turn; b leaves room enough for both problems."""
    data, cones = tensors("mixed")
    one = slice(0, 1) if axis else 0
    for shared in range(4):
        mixed = [
            t[one] if i == shared else t[:1] + 0.01 * i * torch.arange(2).reshape(2, *[1] * (t.ndim - 1)) * t[:1]
            for i, t in enumerate(data)
        ]
        inputs = [t.clone().requires_grad_() for t in mixed]
        assert gradgradcheck(lambda *a: point(*a, cones), inputs, check_fwd_over_rev=True, fast_mode=True), shared


def test_the_same_tensor_in_two_places():
    """P and A, or q and b, out of one leaf."""
    leaf = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64, requires_grad=True)
    vector = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)

    def function(leaf, vector):
        matrix = (leaf + leaf.mT) / 2
        return gd.solve(matrix, vector, matrix, vector + 2, [gd.SecondOrder(2)]).x

    assert gradcheck(function, (leaf, vector), check_forward_ad=True)
    assert gradgradcheck(function, (leaf, vector), check_fwd_over_rev=True)


def test_graph_can_be_kept_and_cotangents_of_one_argument():
    data, cones = tensors("mixed")
    q = data[1].requires_grad_()
    x = solve(data[0], q, *data[2:], cones).x
    (plain,) = torch.autograd.grad(x.sum(), q, retain_graph=True)
    (first,) = torch.autograd.grad(x.sum(), q, create_graph=True)
    np.testing.assert_allclose(first.detach(), plain, rtol=1e-12, atol=1e-14)
    once = torch.autograd.grad(first.square().sum(), q, retain_graph=True)[0]
    again = torch.autograd.grad(first.square().sum(), q)[0]
    assert torch.equal(once, again)


@pytest.mark.parametrize("name", ["linear", "mixed"])
def test_failed_problems_have_zero_derivatives_of_both_orders(name):
    """NaN in the data of one problem: zeros there, and in its neighbours the very derivatives of good company."""
    data, cones = tensors(name, batch=3)
    results = []
    for spoilt in (False, True):
        inputs = [t.clone() for t in data]
        if spoilt:
            for t in inputs[1:]:
                t[1] = torch.nan
        inputs = [t.requires_grad_() for t in inputs]
        sol = solve(*inputs, cones, settings=gd.Settings(on_failure="zero"))
        assert sol.ok.tolist() == [True, not spoilt, True]
        loss = sum((part**2).sum() for part in (sol.x, sol.y, sol.s, sol.obj))
        first = torch.autograd.grad(loss, inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        results.append([*first, *second])
    for good, spoilt in zip(*results, strict=True):
        assert torch.isfinite(spoilt).all()
        assert not spoilt[1].any()
        assert good[1].any()
        np.testing.assert_allclose(spoilt.detach()[::2], good.detach()[::2], rtol=1e-12, atol=1e-12)


def test_absent_rows_have_no_derivatives():
    """+inf in b leaves a row out, at each order."""
    P = torch.eye(2, dtype=torch.float64)
    q = torch.tensor([1.0, -1], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([torch.inf, 0.5], dtype=torch.float64, requires_grad=True)

    def gradient(q, b):
        x = gd.solve(P, q, P, b, [gd.Nonnegative(2)]).x
        return torch.autograd.grad(x.pow(3).sum(), (q, b), create_graph=True)

    q_bar, b_bar = gradient(q, b)
    assert q_bar.tolist() == [-3, 0]  # x = (−q₀, b₁)
    assert b_bar.tolist() == [0, 0.75]
    q_second, b_second = torch.autograd.grad(q_bar.sum() + b_bar.sum(), (q, b))
    assert q_second.tolist() == [-6, 0]
    assert b_second.tolist() == [0, 3]


def test_qps_in_all_arrays(rng):
    n, B = 3, 2
    arrays = {
        "q": 2 * rng.standard_normal((B, n)),
        "G": rng.standard_normal((4, n)),
        "h": rng.uniform(0.2, 1, (B, 4)),
        "A": rng.standard_normal((1, n)),
        "b": np.zeros(1),
        "lb": np.full(n, -0.5),
    }
    inputs = [torch.from_numpy(a).requires_grad_() for a in (rng.standard_normal((n, n)), *arrays.values())]
    ub = torch.tensor([0.5, torch.inf, 0.6], dtype=torch.float64)

    def function(L, *rest):
        sol = gd.solve_qp(L @ L.mT + torch.eye(n, dtype=L.dtype), *rest, ub)
        return sol.x, sol.y, sol.z, sol.z_box, sol.obj

    assert gradgradcheck(function, inputs, check_fwd_over_rev=True, fast_mode=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_form(rng, kind):
    """Free has no derivative, and that is zero at the second order too; infinite bounds have none either."""
    P, q, (form,) = batch(rng, [kind], B=2)
    tensors = {own: torch.from_numpy(np.array(value)) for own, value in arguments(form).items() if np.ndim(value)}
    P, q = torch.from_numpy(P), torch.from_numpy(q).requires_grad_()
    inputs = {own: t.requires_grad_() for own, t in tensors.items() if torch.isfinite(t).all()}

    def function(q, *arrays):
        given = {**tensors, **dict(zip(inputs, arrays, strict=True))}
        sol = gd.solve_forms(P, q, [changed(form, **given)])
        assert sol.ok.all()
        parts = (part for part in outputs(sol).values())
        return tuple(torch.where(torch.isfinite(part), part, 0.0) for part in parts)

    assert gradgradcheck(function, (q, *inputs.values()), check_fwd_over_rev=True, fast_mode=True)


def test_a_smoothed_derivative_is_differentiated_once():
    """The composed path knows the optimum alone: an error rather than a derivative of something else."""
    q = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    A, b = torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    sol = gd.solve(None, q, A, b, [gd.Nonnegative(2)], gd.Settings(smoothing=0.1))
    (grad,) = torch.autograd.grad(sol.x.sum(), q, create_graph=True)
    torch.testing.assert_close(grad, torch.tensor([-0.1, -0.1 / 4], dtype=torch.float64))
    with pytest.raises(NotImplementedError, match="smoothing"):
        grad.sum().backward()
