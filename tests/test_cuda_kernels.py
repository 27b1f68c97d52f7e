"""The kernels behind the CUDA backend, run by the emulation of CUDA: the CPU's answers through the whole Python path.

All tests but the slow one solve problems of one shape, so that g++ compiles five kernels and no more.
"""

from __future__ import annotations

import numpy as np
import pytest
from compare import RESULT_FIELDS, assert_close, assert_same_bits
from device_parity import LAYOUTS, NAMES, POINT, Gpu, assert_parity, host
from emulated_driver import EmulatedDriver, available
from problems import varied_qps, well_posed

import gpudiff as gd
from gpudiff._cones import as_product
from gpudiff.backends import Structure
from gpudiff.backends.cuda import CudaBackend

pytestmark = pytest.mark.skipif(available() is not None, reason=f"the emulation of CUDA {available()}")


@pytest.fixture(scope="module")
def emulation():
    driver = EmulatedDriver()
    if available() is None:  # compile side by side what the tests would compile one after the other
        problem = varied_qps(np.random.default_rng(0), 1)[0]
        structure = Structure(as_product(problem.gd_cones), 5, True, np.dtype(np.float64))
        CudaBackend(driver).compile(structure, gd.Settings(), 0)
    return driver


@pytest.fixture
def device(monkeypatch, emulation):
    """A device on which the kernels themselves run."""
    return Gpu(monkeypatch, emulation)


@pytest.mark.parametrize("shared", ["", "PA", "q", "PqAb"], ids=lambda names: f"shared {names}")
def test_kernels_with_shared_arguments(device, rng, shared):
    problem, _ = varied_qps(rng, 11, tuple(shared))
    assert_parity(device, rng, problem.data, problem.gd_cones)


def test_kernels_in_any_batch_give_the_same_bits(device, rng):
    problem = varied_qps(rng, 33)[1]
    whole = gd.solve(*device.put(*problem.data), problem.gd_cones)
    x_bar = rng.standard_normal((33, 5))
    bar = whole.vjp(x=device.put(x_bar))
    for pick in (slice(0, 1), slice(4, 12), slice(32, 33), rng.permutation(33)):
        part = gd.solve(*(device.put(np.array(a[pick])) for a in problem.data), problem.gd_cones)
        for name in RESULT_FIELDS:
            assert_same_bits(host(getattr(part, name)), host(getattr(whole, name))[pick], name)
        part_bar = part.vjp(x=device.put(x_bar[pick]))
        for name in NAMES:
            assert_same_bits(host(getattr(part_bar, name)), host(getattr(bar, name))[pick], name)


@pytest.mark.parametrize("shared", ["", "PAb", "A"], ids=lambda names: f"shared {names}")
@pytest.mark.parametrize("smoothing", [None, 0.2])
def test_kernels_give_each_of_several_directions_its_own_bits(device, rng, shared, smoothing):
    """With a problem among them that was not solved, whose derivatives are zeros."""
    problem, _ = varied_qps(rng, 7, tuple(shared))
    if not shared:
        problem.q[3] = np.nan
    sol = gd.solve(*device.put(*problem.data), problem.gd_cones, gd.Settings(smoothing=smoothing))
    bars = {name: rng.standard_normal((3, *host(getattr(sol, name)).shape)) for name in POINT}
    dots = {}
    for name, a in zip(NAMES, problem.data, strict=True):
        dots[name] = rng.standard_normal((3, *((1,) if name in shared else ()), *a.shape))
    for call, given, names in ((sol.vjp, bars, NAMES), (sol.jvp, dots, POINT)):
        together = call(**{name: device.put(value) for name, value in given.items()})
        for k in range(3):
            alone = call(**{name: device.put(value[k]) for name, value in given.items()})
            for name in names:
                assert_same_bits(host(getattr(together, name))[k], host(getattr(alone, name)), f"{name} of {k}")
    seeds = {"x": bars["x"][:, :1], "y": bars["y"][0], "obj": np.ones(())}
    bar = sol.vjp(**{name: device.put(value) for name, value in seeds.items()})
    for k in range(3):
        alone = sol.vjp(**{name: device.put(value[k] if name == "x" else value) for name, value in seeds.items()})
        assert_same_bits(host(bar.P)[k], host(alone.P), "what has no axis is common to all directions")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kernels_with_any_strides(device, rng, layout):
    problem = varied_qps(rng, 6)[1]
    sol = gd.solve(*(device.put(LAYOUTS[layout](a)) for a in problem.data), problem.gd_cones)
    plain = gd.solve(*device.put(*problem.data), problem.gd_cones)
    for name in RESULT_FIELDS:
        assert_same_bits(host(getattr(sol, name)), host(getattr(plain, name)), name)
    x_bar = device.put(LAYOUTS[layout](rng.standard_normal((6, 5))))
    assert_same_bits(host(sol.vjp(x=x_bar).A), host(plain.vjp(x=device.put(x_bar.native.copy())).A))


def test_kernels_without_a_batch_axis(device, rng):
    problem = varied_qps(rng, 1)[1].item(0)
    assert_parity(device, rng, problem.data, problem.gd_cones)


@pytest.mark.parametrize("on_failure", ["nan", "zero"])
def test_kernels_on_problems_that_fail(device, rng, on_failure):
    """NaN, contradictions, unbounded and asymmetric problems in one batch, neighbours untouched."""
    problem = varied_qps(rng, 6)[1]
    P, q, A, b = (a.copy() for a in problem.data)
    q[1] = np.nan
    A[2, 2], b[2, 1:3] = -A[2, 1], -1  # aᵀx ≤ −1 and −aᵀx ≤ −1
    P[3], A[3, 1:] = 0, 0
    b[3, 1:7] = 1
    lopsided = P.copy()
    lopsided[4, 0, 1] += 1
    settings = gd.Settings(on_failure=on_failure)
    # A certificate is as exact as its tolerance, not more.
    assert_parity(device, rng, [P, q, A, b], problem.gd_cones, tolerance=1e-6, settings=settings)
    sol = gd.solve(*device.put(lopsided, q, A, b), problem.gd_cones, settings)
    codes = [gd.Status(code).name for code in host(sol.status)]
    assert codes == ["SOLVED", "INVALID_DATA", "PRIMAL_INFEASIBLE", "DUAL_INFEASIBLE", "INVALID_DATA", "SOLVED"]
    plain = gd.solve(*device.put(P, q, A, b), problem.gd_cones, settings)
    for i in (0, 5):
        assert_same_bits(host(sol.x)[i], host(plain.x)[i])
    assert np.isnan(host(sol.x)[4]).all() if on_failure == "nan" else not host(sol.x)[4].any()


@pytest.mark.parametrize("shared", ["", "PA"], ids=lambda names: f"shared {names}")
def test_kernels_of_central_points(device, rng, shared):
    """Also beside problems that have none, or no solution; two more kernels of the same shape."""
    problem, full = varied_qps(rng, 9, tuple(shared))
    settings = gd.Settings(smoothing=0.2)
    assert_parity(device, rng, problem.data, problem.gd_cones, settings=settings)
    P, q, A, b = (a.copy() for a in full.data)
    q[1] = np.nan
    A[2, 2], b[2, 2] = -A[2, 1], -b[2, 1]  # aᵀx = β: no interior
    plain = gd.solve(*device.put(*full.data), full.gd_cones, settings)
    sol = gd.solve(*device.put(P, q, A, b), full.gd_cones, settings)
    assert [code == gd.Status.SOLVED for code in host(sol.status)] == [i != 1 for i in range(9)]
    x_bar, q_dot = device.put(rng.standard_normal(q.shape)), device.put(rng.standard_normal(q.shape))
    pairs = [(sol.vjp(x=x_bar), plain.vjp(x=x_bar), NAMES), (sol.jvp(q=q_dot), plain.jvp(q=q_dot), POINT)]
    for derivative, expected, names in pairs:
        for name in names:
            mine, theirs = host(getattr(derivative, name)), host(getattr(expected, name))
            assert not mine[1:3].any()
            for i in (0, *range(3, 9)):
                assert_same_bits(mine[i], theirs[i], name)


def test_an_asymmetric_P_on_the_host_is_an_exception(device, rng):
    P, q, A, b = (a.copy() for a in varied_qps(rng, 6)[1].data)
    cones = varied_qps(rng, 1)[1].gd_cones
    q[1] = np.nan
    assert gd.solve(P, q, A, b, cones, backend="cuda").ok.tolist() == [True, False, True, True, True, True]
    P[4, 0, 1] += 1
    with pytest.raises(gd.DataError, match=r"P: expected symmetric matrices .* got P\[4, 0, 1\]"):
        gd.solve(P, q, A, b, cones, backend="cuda")


def test_kernels_from_a_warm_start(device, rng):
    problem = varied_qps(rng, 6)[1]
    data = device.put(*problem.data)
    spoiled = problem.q.copy()
    spoiled[2] = np.nan
    first = gd.solve(data[0], device.put(spoiled), *data[2:], problem.gd_cones, gd.Settings(on_failure="zero"))
    cold, warm = gd.solve(*data, problem.gd_cones), gd.solve(*data, problem.gd_cones, warm_start=first)
    assert host(warm.status).tolist() == [1] * 6
    assert host(warm.iterations)[2] == host(cold.iterations)[2]
    assert host(warm.iterations).sum() < host(cold.iterations).sum()
    np.testing.assert_allclose(host(warm.x), host(cold.x), atol=1e-9)


def test_kernels_count_their_work(device, rng):
    problem = varied_qps(rng, 9)[1]
    work = gd.solve(*device.put(*problem.data), problem.gd_cones).work
    assert work[:3] == gd.solve(*problem.args).work[:3]
    hasty = gd.solve(*device.put(*problem.data), problem.gd_cones, gd.Settings(max_iter=2, polish=False, rescue=True))
    assert hasty.rescued == 9
    assert_close(host(hasty.x), gd.solve(*problem.args).x, 1e-9)


CASES = [("lp", np.float64), ("socp", np.float64), ("unconstrained", np.float64), ("mixed, no P", np.float32)]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "dtype"), CASES, ids=[f"{family}, {dtype.__name__}" for family, dtype in CASES])
@pytest.mark.parametrize("smoothing", [None, 0.1])
def test_kernels_of_each_family(device, rng, family, dtype, smoothing):
    problem = well_posed(family, 9)
    data = [None if a is None else a.astype(dtype) for a in problem.data]
    tolerance = 1e-9 if dtype is np.float64 else 1e-4
    assert_parity(device, rng, data, problem.gd_cones, tolerance, settings=gd.Settings(smoothing=smoothing))
