"""torch.compile without graph breaks, the operators that it sees, and the text that goes through them."""

from __future__ import annotations

import pytest
import torch
from torch_problems import solve, tensors

import gpudiff as gd
from gpudiff._cones import as_product
from gpudiff.torch.text import cones_text, parsed_cones, parsed_settings, settings_text

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

EVERY = [
    *(gd.Zero(3), gd.Nonnegative(0), gd.SecondOrder(4), gd.PSD(3), gd.Exponential(2), gd.DualExponential(1)),
    *(gd.Power(1e-5), gd.DualPower(1 / 3), gd.Power(0.5), gd.Zero(1)),
]


def compiled(function, backend="aot_eager", **options):
    return torch.compile(function, fullgraph=True, backend=backend, **options)


@pytest.fixture
def mixed():
    data, cones = tensors("mixed")
    torch.compiler.reset()
    return data, cones


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_values_and_gradients_are_those_of_eager_mode(mixed, backend):
    data, cones = mixed
    inputs = [t.requires_grad_() for t in data]

    def loss(L, q, A, b):
        sol = gd.solve(L @ L.mT, q, A, b, cones, gd.Settings(on_failure="zero"))
        return sol.x.square().sum() + sol.obj.sum() + torch.where(sol.ok, sol.y.sum(-1), 0).sum()

    value = compiled(loss, backend)(*inputs)
    assert torch.equal(value, loss(*inputs))
    for ours, expected in zip(
        torch.autograd.grad(value, inputs), torch.autograd.grad(loss(*inputs), inputs), strict=True
    ):
        assert torch.equal(ours, expected)


def test_a_whole_solution_leaves_the_graph(mixed):
    data, cones = mixed
    sol = compiled(lambda *arrays: solve(*arrays, cones))(*data)
    plain = solve(*data, cones)
    for name in ("x", "y", "s", "obj", "status", "iterations", "margin"):
        assert torch.equal(getattr(sol, name), getattr(plain, name)), name
    with pytest.raises(NotImplementedError, match=r"jvp: expected a solution made outside of torch\.compile"):
        sol.jvp(q=data[1])


def test_other_batches_without_another_graph(mixed):
    (L, q, A, b), cones = mixed

    def x(q):
        return gd.solve(L[0] @ L[0].mT, q, A[0], b[0], cones).x

    ours = compiled(x, dynamic=True)
    for batch in (2, 5, 9):
        queries = q[0] + 0.01 * torch.arange(batch, dtype=q.dtype)[:, None]
        assert torch.equal(ours(queries), x(queries))


def test_a_warm_start_is_refused(mixed):
    data, cones = mixed
    start = solve(*data, cones)
    torch._dynamo.config.suppress_errors = False
    with pytest.raises(Exception, match=r"warm_start: expected None under torch\.compile"):
        compiled(lambda *arrays: solve(*arrays, cones, warm_start=start).x)(*data)


def test_qps(rng):
    torch.compiler.reset()
    q, G, ub = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((3, 4), (2, 4), (4,)))
    ub = (ub.abs() + 0.1).index_fill(0, torch.tensor([1]), torch.inf).requires_grad_()
    P, h = torch.eye(4, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    inputs = [q.requires_grad_(), G.requires_grad_(), ub]

    def loss(q, G, ub):
        sol = gd.solve_qp(P, q, G, h, lb=-1.0, ub=ub)
        return sol.x.square().sum() + sol.z.sum() + sol.z_box.square().sum() + sol.obj.sum()

    value = compiled(loss)(*inputs)
    expected = loss(*inputs)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    ours, theirs = (torch.autograd.grad(v, inputs) for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_layers(mixed):
    (L, q, A, b), cones = mixed
    layer = gd.torch.ConeLayer(cones, 4, L=torch.nn.Parameter(L[0]), A=A[0], b=b[0], warm_start=True)
    box = gd.torch.QPLayer(4, P=torch.eye(4, dtype=q.dtype), lb=0.0)

    def loss(q):
        return layer(q=q).x.square().sum() + box(q=q).obj.sum()

    value = compiled(loss)(q)
    torch.testing.assert_close(value, loss(q))
    (ours,), (expected,) = (torch.autograd.grad(v, [layer.L]) for v in (value, loss(q)))
    torch.testing.assert_close(ours, expected)


def test_operators_pass_the_checks_of_torch(mixed):
    (L, q, A, b), cones = mixed
    P, text = L @ L.mT, (cones_text(cones), settings_text(None), "auto")
    out = torch.ops.gpudiff.solve(P, q, A, b, *text)
    for shared in (False, True):
        data = [t[0] if shared and i != 1 else t for i, t in enumerate((P, q[:1] if shared else q, A, b))]
        torch.library.opcheck(torch.ops.gpudiff.solve, (*(t.clone().requires_grad_() for t in data), *text))
    torch.library.opcheck(torch.ops.gpudiff.solve, (P[0], q[0], None, None, "", "", "auto"))
    bars = (out[0], None, out[2], None)
    wanted = [True, False, True, True]
    torch.library.opcheck(torch.ops.gpudiff.vjp, (P, q, A, b, *out[:3], out[4], *bars, wanted, *text))


def test_the_operator_is_mapped(mixed):
    (L, q, A, b), cones = mixed
    P, text = L @ L.mT, (cones_text(cones), settings_text(None), "auto")
    queries = torch.stack([q, 1.01 * q], 1)
    mapped = torch.func.vmap(lambda q: torch.ops.gpudiff.solve(P, q, A, b, *text)[0], in_dims=1)(queries)
    assert torch.equal(mapped[1], torch.ops.gpudiff.solve(P, 1.01 * q, A, b, *text)[0])


def test_text_and_back():
    assert cones_text(EVERY) == "z3 l0 q4 s3 ep2 ed1 p1e-05 p-0.3333333333333333 p0.5 z1"
    for cones in (EVERY, as_product(EVERY), {"z": 1, "q": [3, 2]}, []):
        assert parsed_cones(cones_text(cones)) is as_product(cones)
    with pytest.raises(gd.ConeError, match=r"cones\[1\]: expected one of"):
        cones_text([gd.Zero(1), 3])
    for settings in (gd.Settings(), gd.Settings(max_iter=7, tol_feas=1e-7, on_failure="zero", threads=3, rescue=True)):
        assert parsed_settings(settings_text(settings)) == settings
    assert parsed_settings(settings_text(None)) == gd.Settings()
