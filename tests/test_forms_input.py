"""solve_forms: what is refused, float32, torch, and arrays on a device."""

from __future__ import annotations

import numpy as np
import pytest
import test_cuda_arrays
import test_gpu
import torch
from compare import assert_close
from device_arrays import StandInDriver
from device_parity import Gpu, host
from form_problems import (
    LISTS,
    arguments,
    batch,
    changed,
    mapped,
    n,
    outputs,
    random_like,
    seeds,
)

import gpudiff as gd
from gpudiff.forms import AtMost, Between, Bounds, Conic, Equal, Free, Norm, Quadratic, Rotated, Values
from gpudiff.torch import arrays as torch_arrays

cupy, driver, posing, package = (  # fixtures
    test_cuda_arrays.cupy, test_cuda_arrays.driver, test_cuda_arrays.posing, test_gpu.package
)  # fmt: skip

# Entering forward mode for the first time makes torch script its own decompositions, which it warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "start"),
    [
        (Between(np.ones((3, 7)), 0.0, 1.0), "forms[1].G: expected shape (3, 6)"),
        (Between(np.ones(6), 0.0, 1.0), "forms[1].G: expected shape (rows, 6)"),
        (Between(np.ones((3, 6)), np.ones(4)), "forms[1].G: expected shape (4, 6) or (B, 4, 6) (4 rows from forms[1]"),
        (Between(None, np.ones(4)), "forms[1].G: expected an array, got None"),
        (Equal(np.ones((2, 6))), "forms[1].b: expected an array, for forms[1].A is given"),
        (AtMost(np.ones((2, 6)), 1.0), "forms[1].h: expected shape (rows,) or (B, rows), got ()"),
        (Bounds(np.ones(5)), "forms[1].lower: expected shape (6,) or (B, 6) (n=6 from q), got (5,)"),
        (Norm(np.ones((2, 6)), r=np.ones((2, 2))), "forms[1].r: expected shape () or (B,) (a number), got (2, 2)"),
        (Norm(np.ones((2, 6))), "forms[1].r: expected a number, for forms[1].c is None, got None"),
        (Quadratic(np.ones((2, 6))), "forms[1].r: expected an array, for forms[1].F is given, got None"),
        (Quadratic(np.ones((2, 6)), np.ones(2), 1), "forms[1].c: expected shape (6,)"),
        (Quadratic(np.ones((2, 6)), None, 1, scale=0), "forms[1].scale: expected a positive number, got 0"),
        (Rotated(np.ones((1, 6))), "forms[1].F: expected at least 2 rows, u and v, got 1"),
        (Rotated(np.ones((3, 6)), np.ones((7, 3))), "forms[1].g: expected a batch axis of extent 4 (that of P)"),
        (Conic(np.ones((2, 6)), np.ones(2), [gd.Zero(3)]), "forms[1].b: expected shape (3,) or (B, 3) (3 rows of"),
        (Conic(np.ones((2, 6)), np.ones(2), [3]), "forms[1].cones[0]: expected one of Zero"),
        (Free(np.ones((2, 6), complex)), "forms[1].G: expected float64"),
        (np.ones((2, 6)), "forms[1]: expected a form of gpudiff.forms, got ndarray"),
    ],
)  # fmt: skip
def test_bad_forms(rng, form, start):
    P, q, listed = batch(rng, [Norm])
    with pytest.raises(gd.ArgumentError) as error:
        gd.solve_forms(P, q, [*listed, form])
    assert str(error.value).startswith(start)


def test_bad_directions(rng):
    P, q, listed = batch(rng, [Norm, Bounds])
    sol = gd.solve_forms(P, q, listed)
    ones = np.ones(3)
    for words, call in {
        "forms[0]: expected a Norm or None, got Bounds": lambda: sol.jvp(forms=[Bounds(), None]),
        "forms: expected 2 entries, one for each form, got 1": lambda: sol.jvp(forms=[Norm()]),
        "forms: expected 2 entries, one for each form, got Norm": lambda: sol.jvp(forms=Norm()),
        "forms: expected positions from 0 to 1, got 2": lambda: sol.jvp(forms={2: Norm()}),
        "forms[1].lower: expected shape (6,) or (4, 6), got (3,)": lambda: sol.jvp(forms={1: Bounds(ones)}),
        "forms[1].s: expected shape (2, 6) or (4, 2, 6), got (3,)": lambda: sol.vjp(forms={1: Values(s=ones)}),
        "forms[1]: expected a Values or None, got Bounds": lambda: sol.vjp(forms={1: Bounds()}),
        "wrt: expected names among 'P', 'q', 'forms[0].F'": lambda: sol.vjp(wrt="forms[2]"),
        "forms: expected a list of forms, got Bounds": lambda: gd.solve_forms(P, q, Bounds()),
        "forms: expected a list of forms, got NoneType": lambda: gd.solve_forms(P, q, None),
    }.items():
        with pytest.raises(gd.ArgumentError) as error:
            call()
        assert str(error.value).startswith(words)
    lean = gd.solve_forms(None, q, [Bounds(-1.0, 1)])
    with pytest.raises(gd.ShapeError, match="P: expected no tangent"):
        lean.jvp(P=P)
    assert lean.vjp(x=q).P is None


# ---- other arrays ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LISTS)
def test_float32(rng, name):
    P, q, listed = batch(rng, LISTS[name])
    single = [mapped(form, lambda value: value.astype(np.float32)) for form in listed]
    sol, exact = gd.solve_forms(P.astype(np.float32), q.astype(np.float32), single), gd.solve_forms(P, q, listed)
    assert_close(sol.x, exact.x, 1e-3)
    bars = seeds(rng, sol)
    bar, expected = sol.vjp(**bars), exact.vjp(**bars)
    for ours, theirs in zip(bar.forms, expected.forms, strict=True):
        for key, value in arguments(theirs).items():
            assert getattr(ours, key).dtype == np.float32
            assert_close(getattr(ours, key), value, 3e-2, key)


# ---- torch -----------------------------------------------------------------------------------------------------------


def torch_problem(rng, kinds, B=2):
    """Tensors that require gradients: a factor of P, q, and the arguments of the forms by position and name."""
    P, q, listed = batch(rng, kinds, B)
    flat = {(i, k): torch.from_numpy(v) for i, form in enumerate(listed) for k, v in arguments(form).items()}
    for tensor in flat.values():
        tensor.requires_grad_(bool(torch.isfinite(tensor).all()))  # gradcheck cannot move what is infinite
    data = [torch.from_numpy(value).requires_grad_() for value in (np.linalg.cholesky(P), q)]

    def solve(L, q, *values, **options):
        given = dict(zip(flat, values, strict=True))
        rebuilt = [changed(form, **{k: given[i, k] for k in arguments(form)}) for i, form in enumerate(listed)]
        return gd.solve_forms(L @ L.mT, q, rebuilt, **options)

    return [*data, *flat.values()], solve


def finite_outputs(sol):
    values = outputs(sol).values()
    return tuple(torch.where(torch.isfinite(value.detach()), value, torch.zeros_like(value)) for value in values)


@pytest.mark.parametrize("name", LISTS)
def test_gradcheck(rng, name):
    data, solve = torch_problem(rng, LISTS[name])
    sol = solve(*data)
    assert sol.differentiable.all()
    assert isinstance(sol, gd.FormsSolution)
    for value in outputs(sol).values():
        assert isinstance(value, torch.Tensor)
        assert value.requires_grad
    together = "all" in name  # one random direction in place of each entry

    def function(*values):
        return finite_outputs(solve(*values))

    assert torch.autograd.gradcheck(function, data, check_forward_ad=True, fast_mode=together)


def test_gradcheck_of_shared_arguments_and_of_a_factor_made_on_the_way(rng):
    _, q, (quadratic,) = batch(rng, [Quadratic], 3)
    root, c = (torch.from_numpy(value).requires_grad_() for value in (rng.standard_normal((n, n)), quadratic.c[:1]))
    r = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    eye, q = torch.eye(n, dtype=torch.float64), torch.from_numpy(q)

    def solve(root, c, r):
        F = torch.linalg.cholesky(root @ root.mT + eye).mT
        sol = gd.solve_forms(eye, q, [Quadratic(F, c, r), Bounds(-1.0, 1)])
        return sol.x, sol.forms[0].y, sol.forms[0].s

    assert torch.autograd.gradcheck(solve, (root, c, r), check_forward_ad=True, fast_mode=True)


def test_tensors_in_tensors_out(rng):
    data, solve = torch_problem(rng, [Norm, Bounds], 3)
    sol = solve(*data)
    sol.forms[0].y.sum().backward()
    bar = sol.vjp(forms=[Values(y=torch.ones(4)), None])
    assert isinstance(bar.forms[0], Norm)
    for name, tensor in zip(("F", "g", "c", "r"), data[2:6], strict=True):
        assert torch.equal(getattr(bar.forms[0], name), tensor.grad)
    dot = sol.jvp(forms={0: Norm(r=torch.ones(3)), 1: Bounds(upper=np.ones(n))})
    assert isinstance(dot.forms[1].s, torch.Tensor)
    with torch.no_grad():
        quiet = solve(*data, warm_start=sol)
    assert not quiet.x.requires_grad
    np.testing.assert_allclose(quiet.x, sol.x.detach(), atol=1e-9)
    assert "forms[1].s [3, 2, 6]" in repr(quiet)
    single = gd.solve_forms(None, torch.ones(2), [Bounds(-1.0, 1), Norm(torch.eye(2), r=1)])
    assert single.x.dtype == single.forms[0].y.dtype == torch.float32
    np.testing.assert_allclose(single.x, -np.sqrt([0.5, 0.5]), atol=1e-5)
    with pytest.raises(gd.SolveError) as error:
        gd.solve_forms(None, torch.ones(2), [Bounds(1.0, -1)], gd.Settings(on_failure="raise"))
    assert isinstance(error.value.solution.forms[0].y, torch.Tensor)


# ---- arrays on a device ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LISTS)
def test_on_a_device_without_waiting(rng, monkeypatch, name):
    P, q, listed = batch(rng, LISTS[name])
    if "all" not in name:  # something shared, and numbers for bounds
        form = listed[0]
        shared = changed(form, **{k: v[0] - (k == "lower") for k, v in list(arguments(form).items())[:1]})
        listed = [shared, Between(np.ones((1, n)), -9.0, 9)]
    q = q.copy()
    q[1, 0] = np.nan
    expected = gd.solve_forms(P, q, listed, gd.Settings(method="ipm"))
    gpu = Gpu(monkeypatch, StandInDriver())
    put = [mapped(form, lambda value: value if isinstance(value, float | int) else gpu.put(value)) for form in listed]
    before = gpu.waits
    sol = gd.solve_forms(gpu.put(P), gpu.put(q), put)
    values = outputs(sol)
    bars, dots = seeds(rng, expected), random_like(rng, P, q, listed)
    bar = sol.vjp(gpu.put(bars["x"]), [Values(gpu.put(v.y), gpu.put(v.s)) for v in bars["forms"]], gpu.put(bars["obj"]))
    dot = sol.jvp(*gpu.put(*dots[:2]), [mapped(form, gpu.put) for form in dots[2]])
    assert gpu.waits == before, "something waited for the device"
    dot_expected, bar_expected = expected.jvp(*dots), expected.vjp(**bars)
    for ours, theirs, tolerance in (
        (values, outputs(expected), 1e-9),
        (outputs(dot), outputs(dot_expected), 1e-7),
    ):
        for key, value in theirs.items():
            np.testing.assert_allclose(host(ours[key]), value, rtol=tolerance, atol=tolerance, err_msg=key)
    assert_close(host(bar.q), bar_expected.q, 1e-7)
    for ours, theirs in zip(bar.forms, bar_expected.forms, strict=True):
        for key, value in arguments(theirs).items():
            assert_close(host(getattr(ours, key)), value, 1e-7, key)


def test_tensors_on_a_device(rng, driver, posing):
    """torch's CPU posing as a GPU: the same answers and gradients, also with numbers among the arguments."""
    data, solve = torch_problem(rng, [Quadratic, Between])
    sol = solve(*data)
    assert sol.backend == "cuda"
    seed = [torch.from_numpy(rng.standard_normal(tuple(value.shape))) for value in outputs(sol).values()]
    gradients = torch.autograd.grad(finite_outputs(sol), data[:5], seed, retain_graph=True)
    assert posing.waits == driver.waits == 0
    listed = [Bounds(-1.0, 1), Free(data[2][0])]
    numbers = gd.solve_forms(None, data[1], listed)
    np.testing.assert_allclose(numbers.x.detach(), -data[1].detach().sign(), atol=1e-9)
    assert numbers.vjp(x=data[1].detach(), wrt="forms[0]").forms[0].upper.shape == ()
    assert posing.waits == driver.waits == 0
    arrays = [value.detach().numpy() for value in data]
    on_host = [torch.from_numpy(value).requires_grad_() for value in arrays]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_arrays, "lies_on_host", lambda tensor: True)
        expected = torch.autograd.grad(finite_outputs(solve(*on_host, backend="cpu")), on_host[:5], seed)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_cupy_arrays(rng, cupy, driver):
    P, q, listed = batch(rng, [Rotated, Bounds])
    expected = gd.solve_forms(P, q, listed, gd.Settings(method="ipm"))
    put = cupy.asarray
    sol = gd.solve_forms(put(P), put(q), [mapped(form, put) for form in listed])
    bar = sol.vjp(x=put(q), forms={0: Values(y=put(np.ones(4)))})
    dot = sol.jvp(forms=[Rotated(g=put(np.ones(4))), None])
    assert cupy.waits == driver.waits == 0
    kind = cupy.ndarray
    for key, value in outputs(expected).items():
        assert type(outputs(sol)[key]) is kind, key
        np.testing.assert_allclose(outputs(sol)[key], value, rtol=1e-8, atol=1e-8, err_msg=key)
    theirs = expected.vjp(x=q, forms={0: Values(y=np.ones(4))})
    assert type(bar.forms[0].F) is type(dot.forms[0].s) is type(bar.q) is kind
    assert_close(bar.forms[0].F, theirs.forms[0].F, 1e-7)
    assert_close(bar.forms[1].upper, theirs.forms[1].upper, 1e-7)
    assert_close(dot.x, expected.jvp(forms={0: Rotated(g=np.ones(4))}).x, 1e-7)
    warm = gd.solve_forms(put(P), put(q), [mapped(form, put) for form in listed], warm_start=sol)
    assert_close(warm.x, expected.x, 1e-8)


@pytest.mark.gpu
@pytest.mark.skipif(test_gpu.WHY_NOT is not None, reason=f"no GPU: {test_gpu.WHY_NOT}")
@pytest.mark.parametrize("name", LISTS)
def test_on_a_gpu(rng, package, name):
    P, q, listed = batch(rng, LISTS[name], 65)
    expected = gd.solve_forms(P, q, listed)
    sol = gd.solve_forms(package.put(P), package.put(q), [mapped(form, package.put) for form in listed])
    bars = seeds(rng, expected)
    put = [Values(package.put(v.y), package.put(v.s)) for v in bars["forms"]]
    bar, bar_expected = sol.vjp(package.put(bars["x"]), put, package.put(bars["obj"])), expected.vjp(**bars)
    for key, value in outputs(expected).items():
        np.testing.assert_allclose(package.get(outputs(sol)[key]), value, rtol=1e-7, atol=1e-7, err_msg=key)
    for ours, theirs in zip(bar.forms, bar_expected.forms, strict=True):
        for key, value in arguments(theirs).items():
            assert_close(package.get(getattr(ours, key)), value, 1e-6, key)
