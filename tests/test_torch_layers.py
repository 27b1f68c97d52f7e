"""`gpudiff.torch.ConeLayer` and `QPLayer`: what is learnt, copies, warm starts, what is refused."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

import gpudiff as gd
from gpudiff.torch import ConeLayer, QPLayer

n, B = 4, 6
DOUBLE = {"dtype": torch.float64}


@pytest.fixture
def q(rng):
    return torch.from_numpy(rng.standard_normal((B, n)))


def ball(**options):
    """A ball ‖x‖ ≤ 1 with a learnable P and a fixed A; b is given at the call unless it is in the options."""
    A = torch.cat([torch.zeros(1, n, **DOUBLE), -torch.eye(n, **DOUBLE)])
    return ConeLayer([gd.SecondOrder(n + 1)], n, L=torch.nn.Parameter(torch.eye(n, **DOUBLE)), A=A, **options)


def radius(r):
    return torch.cat([torch.tensor([float(r)], **DOUBLE), torch.zeros(n, **DOUBLE)])


def box(**options):
    """A QP in a box with a learnable P and a learnable equality."""
    L = torch.nn.Parameter(torch.eye(n, **DOUBLE))
    A = torch.nn.Parameter(torch.ones(1, n, **DOUBLE))
    return QPLayer(n, L=L, A=A, b=torch.zeros(1, **DOUBLE), lb=-1.0, ub=torch.full((n,), 0.5, **DOUBLE), **options)


def test_a_layer_is_the_function(q):
    layer = ball()
    P = (1 + layer.epsilon) * torch.eye(n, **DOUBLE)
    out, plain = layer(q=q, b=radius(1)), gd.solve(P, q, layer.A, radius(1), layer.cones)
    for name in out._fields:
        torch.testing.assert_close(getattr(out, name), getattr(plain, name), rtol=1e-10, atol=1e-12)
    layer = box()
    out, plain = layer(q=q), gd.solve_qp(P, q, A=layer.A, b=layer.b, lb=-1.0, ub=layer.ub)
    for name in out._fields:
        torch.testing.assert_close(getattr(out, name), getattr(plain, name), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("warm_start", [False, True])
def test_training_lowers_the_loss(q, warm_start):
    """P is learnt from solutions for another P; the same from warm starts, which change no answer beyond rounding."""
    target = gd.solve_qp(torch.diag(torch.tensor([1.0, 2, 3, 4], **DOUBLE)), q, lb=-1.0, ub=0.5).x
    layer = QPLayer(n, L=torch.nn.Parameter(torch.eye(n, **DOUBLE)), lb=-1.0, ub=0.5, warm_start=warm_start)
    optimiser = torch.optim.Adam(layer.parameters(), 0.1)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = (layer(q=q).x - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    fresh = copy.deepcopy(layer)
    torch.testing.assert_close(layer(q=q).x, fresh(q=q).x, rtol=1e-9, atol=1e-10)


def test_a_warm_start_saves_iterations_and_can_be_forgotten(q):
    """Counted where a layer's last point is handed to a solve; other batches, and other types, just start anew."""
    layer = ball(b=radius(1), warm_start=True)
    assert layer._start() is None
    first = layer(q=q)
    P = layer.L.detach() @ layer.L.detach().mT
    data = (P, 1.001 * q, layer.A, layer.b, layer.cones)
    warm, cold = gd.solve(*data, warm_start=layer._start()), gd.solve(*data)
    assert warm.iterations.sum() < cold.iterations.sum()
    assert layer(q=q[:2]).x.shape == (2, n)
    assert layer.float()(q=q.float()).x.dtype == torch.float32
    layer.forget()
    assert layer._start() is None
    assert not layer._last
    torch.testing.assert_close(layer.double()(q=q).x, first.x, rtol=1e-6, atol=1e-6)


def test_what_is_stored_and_copied(q):
    layer = box(warm_start=True)
    with torch.no_grad():
        layer.L += 0.3
    expected = layer(q=q).x
    assert [name for name, _ in layer.named_parameters()] == ["A", "L"]
    assert set(layer.state_dict()) == {"A", "L", "b", "ub"}
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = box()
    other.load_state_dict(torch.load(file, weights_only=True))
    for copied in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert copied._last is None
        torch.testing.assert_close(copied(q=q).x, expected, rtol=1e-9, atol=1e-10)
        assert copied.L is not layer.L
    assert layer._last is not None


def test_what_a_layer_says_of_itself():
    words = "n=4, given at the call: q G h, fixed: b lb ub, learnable: A L, warm_start=True"
    assert repr(box(warm_start=True)) == f"QPLayer({words})"
    assert repr(ball()) == "ConeLayer([SecondOrder(rows=5)], n=4, given at the call: q b, fixed: A, learnable: L)"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda q: QPLayer(n, P=torch.nn.Parameter(torch.eye(n))), gd.ArgumentError, "P: .*factor, L="),
        (lambda q: QPLayer(n, P=torch.eye(n), L=torch.eye(n)), gd.ArgumentError, "L: expected None, for P is given"),
        (lambda q: QPLayer(n, G=torch.eye(3)), gd.ShapeError, r"G: expected shape \(3, 4\)"),
        (lambda q: QPLayer(n, G=torch.ones(2, n), h=torch.ones(3)), gd.ShapeError, r"h: expected shape \(2,\)"),
        (lambda q: ConeLayer([gd.Zero(2)], n, b=torch.ones(3)), gd.ShapeError, r"b: expected shape \(2,\)"),
        (lambda q: QPLayer("n"), gd.ArgumentError, "n: expected an integer"),
        (lambda q: QPLayer(n, epsilon=-1.0), gd.ArgumentError, "epsilon: expected a number of at least 0"),
        (lambda q: QPLayer(n, warm_start=1), gd.ArgumentError, "warm_start: expected True or False"),
        (lambda q: QPLayer(n, settings="fast"), gd.SettingsError, "settings"),
        (lambda q: box()(q=q, lb=0.0), gd.ArgumentError, "lb: expected None, for the layer has its own"),
        (lambda q: ball()(q=q, P=torch.eye(n)), gd.ArgumentError, "P: expected None, for the layer has its own"),
        (lambda q: box()(), gd.ArgumentError, "q: expected a tensor, for the layer has none of its own"),
        (lambda q: ball()(q=q), gd.ShapeError, "b: expected an array"),
    ],
)
def test_what_is_refused(q, make, error, words):
    with pytest.raises(error, match=words):
        make(q)


def test_distributed_training_in_one_process(q, tmp_path):
    if not torch.distributed.is_available():
        pytest.skip("torch was built without torch.distributed")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        layer = box()
        wrapped = torch.nn.parallel.DistributedDataParallel(layer)
        wrapped(q=q).x.square().sum().backward()
        plain = box()
        plain(q=q).x.square().sum().backward()
        for ours, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)
    finally:
        torch.distributed.destroy_process_group()
