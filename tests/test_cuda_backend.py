"""The CUDA backend without a GPU: what it launches gives the CPU backend's answers, and nothing waits for the device.

Every test runs with a stand-in driver, behind which the CPU library solves whatever the kernels are launched with. What
the kernels themselves answer is asked in test_cuda_kernels.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from compare import assert_close
from device_arrays import StandInDriver
from device_parity import FAMILIES, LAYOUTS, NAMES, POINT, Gpu, assert_equal_up_to, assert_parity, host
from problems import MIXED, feasible_qps, infeasible, unbounded, varied_qps, well_posed

import gpudiff as gd
from gpudiff._cones import as_product
from gpudiff.backends import Structure
from gpudiff.backends._cuda_launch import _segments


@pytest.fixture
def gpu(monkeypatch):
    return Gpu(monkeypatch, StandInDriver())


# ---- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answers_are_those_of_the_cpu(gpu, rng, family):
    problem = well_posed(family, 9)
    assert_parity(gpu, rng, problem.data, problem.gd_cones)


def test_smoothed_derivatives_have_kernels_of_their_own(gpu, rng):
    compact, _ = varied_qps(rng, 7, ("A",))
    settings = gd.Settings(smoothing=0.1)
    assert_parity(gpu, rng, compact.data, compact.gd_cones, settings=settings)
    assert_parity(gpu, rng, compact.data, compact.gd_cones)
    kinds = [entry for entry, *_ in gpu.driver.launches]
    assert kinds == 2 * [f"gd_{kind}_kernel" for kind in ("solve", "careful", "jvp", "vjp", "sum")]
    structure = Structure(as_product(compact.gd_cones), 5, True, np.dtype(np.float64))
    assert gpu.backend.compile(structure, settings, 0).kernels[2:] == ("smoothed_jvp", "smoothed_vjp", "sum")


@pytest.mark.parametrize("family", ["qp", "mixed, no P"])
def test_a_problem_without_a_batch_axis(gpu, rng, family):
    problem = well_posed(family, 1).item(0)
    assert_parity(gpu, rng, problem.data, problem.gd_cones)
    assert gd.solve(*gpu.put(*problem.data), problem.gd_cones).x.shape == problem.q.shape


@pytest.mark.parametrize("shared", ["P", "q", "A", "b", "PA", "PqA", "Pb"])
@pytest.mark.parametrize("axis", [False, True], ids=["no axis", "extent 1"])
def test_shared_arguments(gpu, rng, shared, axis):
    compact, _ = varied_qps(rng, 13, tuple(shared))
    data = [a[None] if axis and name in shared else a for name, a in zip(NAMES, compact.data, strict=True)]
    assert_parity(gpu, rng, data, compact.gd_cones)
    kinds = [entry for entry, *_ in gpu.driver.launches]
    assert kinds == [f"gd_{kind}_kernel" for kind in ("solve", "careful", "jvp", "vjp", "sum")]


def test_a_batch_of_one_shares_nothing(gpu, rng):
    compact, _ = varied_qps(rng, 1, ("P", "A", "b"))
    assert_parity(gpu, rng, compact.data, compact.gd_cones)
    assert "gd_sum_kernel" not in [entry for entry, *_ in gpu.driver.launches]


@pytest.mark.parametrize("batch", [1000, 3000])
def test_sums_of_more_problems_than_segments(gpu, rng, batch):
    compact, _ = varied_qps(rng, batch, ("A", "b"))
    assert_parity(gpu, rng, compact.data, compact.gd_cones, tolerance=1e-8)


@pytest.mark.parametrize("shared", ["", "PA", "q"])
@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("smoothing", [None, 0.1])
def test_several_directions_at_once(gpu, rng, shared, count, smoothing):
    problem, _ = varied_qps(rng, 13, tuple(shared))
    settings = gd.Settings(smoothing=smoothing)
    expected = gd.solve(*problem.args, settings, backend="cpu")
    sol = gd.solve(*gpu.put(*problem.data), problem.gd_cones, settings)
    bars = {name: rng.standard_normal((count, *getattr(expected, name).shape)) for name in POINT}
    dots = {}
    for name, a in zip(NAMES, problem.data, strict=True):
        axis = (1,) if name in shared and expected.batched else ()
        dots[name] = rng.standard_normal((count, *axis, *a.shape))
    before = gpu.waits
    bar, dot = sol.vjp(**{n: gpu.put(v) for n, v in bars.items()}), sol.jvp(**{n: gpu.put(v) for n, v in dots.items()})
    assert gpu.waits == before
    # Sums of a bounded number of directions at a time.
    derivatives = [entry for entry, *_ in gpu.driver.launches][2:]
    pieces = -(-count // 16) if shared else 1
    assert derivatives == [
        *(["gd_vjp_kernel", "gd_sum_kernel"] * pieces if shared else ["gd_vjp_kernel"]),
        "gd_jvp_kernel",
    ]
    bar_expected, dot_expected = expected.vjp(**bars), expected.jvp(**dots)
    for names, mine, theirs in ((NAMES, bar, bar_expected), (POINT, dot, dot_expected)):
        for name in names:
            assert_close(host(getattr(mine, name)), getattr(theirs, name), 1e-9, name)


def test_no_directions_launch_nothing(gpu, rng):
    problem, _ = varied_qps(rng, 3, ("A",))
    sol = gd.solve(*gpu.put(*problem.data), problem.gd_cones)
    launches = len(gpu.driver.launches)
    assert sol.vjp(x=gpu.put(np.ones((0, 3, 5)))).A.shape == (0, *problem.A.shape)
    assert sol.jvp(q=gpu.put(np.ones((0, 1, 5)))).obj.shape == (0, 3)
    assert len(gpu.driver.launches) == launches


@pytest.mark.parametrize("shared", [(), ("P", "A")])
def test_several_directions_of_host_arrays(gpu, rng, shared):
    problem, _ = varied_qps(rng, 4, shared)
    seeds = rng.standard_normal((3, 4, 5))
    bar = gd.solve(*problem.args, backend="cuda").vjp(x=seeds)
    expected = gd.solve(*problem.args, backend="cpu").vjp(x=seeds)
    for name in NAMES:
        assert isinstance(getattr(bar, name), np.ndarray)
        assert_close(getattr(bar, name), getattr(expected, name), 1e-9, name)


@pytest.mark.parametrize(("batch", "words"), [(1, 5), (7, 3), (1024, 8), (1025, 8), (10**6, 40), (10**6, 3 * 10**6)])
def test_segments_cover_the_batch_within_the_limits(batch, words):
    segments, segment = _segments(batch, words)
    assert (segments - 1) * segment < batch <= segments * segment
    assert segments <= 1024
    assert segments == 1 or segments * words * 8 <= 16 << 20


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides(gpu, rng, layout):
    problem = varied_qps(rng, 6)[1]
    assert_parity(gpu, rng, [LAYOUTS[layout](a) for a in problem.data], problem.gd_cones)


def test_a_broadcast_view_is_a_batch_axis(gpu, rng):
    compact, full = varied_qps(rng, 5, ("A",))
    view = np.broadcast_to(compact.A, full.A.shape)
    assert_parity(gpu, rng, [full.P, full.q, view, full.b], full.gd_cones)


def test_float32(gpu, rng):
    problem = varied_qps(rng, 7)[1].astype(np.float32)
    assert_parity(gpu, rng, problem.data, problem.gd_cones, tolerance=1e-6)
    sol = gd.solve(*gpu.put(*problem.data), problem.gd_cones)
    assert sol.x.dtype == np.float32
    assert host(sol.jvp(q=gpu.put(problem.q.astype(float))).x).dtype == np.float32


def test_integers_and_mixed_precision_become_float64(gpu):
    sol = gd.solve(*gpu.put(np.eye(2, dtype=np.int64), np.array([1, 2], np.float32)))
    assert sol.x.dtype == np.float64
    np.testing.assert_allclose(host(sol.x), [-1, -2])


def test_misaligned_arrays_are_copied(gpu):
    raw = np.zeros(17, np.uint8)
    q = raw[1:].view(np.float64)
    q[:] = [1, 2]
    np.testing.assert_allclose(host(gd.solve(*gpu.put(np.eye(2), q)).x), [-1, -2])


@pytest.mark.parametrize("shared", [(), ("A",)])
def test_an_empty_batch_launches_nothing(gpu, rng, shared):
    problem, _ = varied_qps(rng, 2, shared)
    data = [a if name in shared else a[:0] for name, a in zip(NAMES, problem.data, strict=True)]
    sol = gd.solve(*gpu.put(*data), problem.gd_cones)
    assert sol.x.shape == (0, 5)
    assert sol.work == gd.solve(*data, problem.gd_cones).work
    assert "empty batch" in repr(sol)
    assert sol.jvp(q=gpu.put(np.ones(5))).x.shape == (0, 5)
    bar = sol.vjp(x=gpu.put(np.ones(5)))
    assert bar.A.shape == data[2].shape
    assert not host(bar.A).any()
    assert gpu.driver.launches == []


# ---- problems without solution, settings -----------------------------------------------------------------------------


def failing(rng):
    """Solvable, infeasible, unbounded, NaN."""
    fine = feasible_qps(rng, 1, 6, MIXED)
    parts = [(fine.P, fine.q[0], fine.A, fine.b)]
    parts += [p.data for p in (infeasible(rng, MIXED), unbounded(rng, MIXED, 3))]
    parts.append((fine.P, np.full(6, np.nan), fine.A, fine.b))
    return [np.stack(arrays) for arrays in zip(*parts, strict=True)], fine.gd_cones


def test_each_kind_of_failure(gpu, rng):
    data, cones = failing(rng)
    assert_parity(gpu, rng, data, cones)
    sol = gd.solve(*gpu.put(*data), cones)
    assert (host(sol.status) == gd.Status.SOLVED).tolist() == [True, False, False, False]
    with pytest.raises(gd.SolveError, match="3 of 4"):
        sol.raise_for_status()


def test_on_failure(gpu, rng):
    data, cones = failing(rng)
    assert_parity(gpu, rng, data, cones, settings=gd.Settings(on_failure="zero"))
    sol = gd.solve(*gpu.put(*data), cones, gd.Settings(on_failure="zero"))
    assert not host(sol.x)[1:].any()
    with pytest.raises(gd.SolveError, match="3 of 4 problems were not solved"):
        gd.solve(*gpu.put(*data), cones, gd.Settings(on_failure="raise"))


def test_settings_reach_the_kernels(gpu, rng):
    problem = well_posed("qp", 3)
    sol = gd.solve(*gpu.put(*problem.data), problem.gd_cones, gd.Settings(max_iter=1, polish=False))
    assert host(sol.status).tolist() == [gd.Status.MAX_ITERATIONS] * 3
    gpu.driver.launches.clear()
    assert_parity(gpu, rng, problem.data, problem.gd_cones, settings=gd.Settings(polish=False))
    assert gpu.driver.launches[0][0] == "gd_careful_kernel"


def test_warm_starts(gpu, rng):
    problem = varied_qps(rng, 6)[1]
    cold_data, cones = gpu.put(*problem.data), problem.gd_cones
    spoiled = problem.q.copy()
    spoiled[2] = np.nan
    for on_failure in ("nan", "zero"):
        first = gd.solve(cold_data[0], gpu.put(spoiled), *cold_data[2:], cones, gd.Settings(on_failure=on_failure))
        before = gpu.waits
        warm = gd.solve(*cold_data, cones, warm_start=first)
        assert gpu.waits == before
        cold = gd.solve(*cold_data, cones)
        assert host(warm.iterations)[2] == host(cold.iterations)[2]
        assert host(warm.iterations).sum() < 0.8 * host(cold.iterations).sum()
        np.testing.assert_allclose(host(warm.x), host(cold.x), atol=1e-9)
    single = gd.solve(*(gpu.put(a.astype(np.float32)) for a in problem.data), cones)
    assert host(gd.solve(*cold_data, cones, warm_start=single).status).tolist() == [1] * 6


def test_a_warm_start_must_lie_where_the_problem_does(gpu, rng):
    problem = varied_qps(rng, 2)[1]
    there, here = gd.solve(*gpu.put(*problem.data), problem.gd_cones), gd.solve(*problem.args)
    with pytest.raises(gd.DeviceError, match=r"warm_start: expected a solution in host memory, .* got one on cuda:0"):
        gd.solve(*problem.args, warm_start=there)
    with pytest.raises(gd.DeviceError, match=r"warm_start: expected a solution on cuda:0, .* got one in host memory"):
        gd.solve(*gpu.put(*problem.data), problem.gd_cones, warm_start=here)


@pytest.mark.parametrize("on_failure", ["nan", "zero"])
def test_rescue(gpu, rng, on_failure):
    data, cones = failing(rng)
    settings = {"max_iter": 2, "polish": False, "on_failure": on_failure}
    given_up = gd.solve(*gpu.put(*data), cones, gd.Settings(**settings))
    left = (host(given_up.status) == gd.Status.MAX_ITERATIONS).sum()
    assert left >= 2
    assert given_up.rescued == 0
    sol = gd.solve(*gpu.put(*data), cones, gd.Settings(**settings, rescue=True))
    assert sol.rescued == left
    assert f"rescued     {left}" in repr(sol)
    expected = gd.solve(*data, cones, gd.Settings(on_failure=on_failure))
    for name in (*POINT, "status"):
        assert_equal_up_to(host(getattr(sol, name)), getattr(expected, name), 1e-9, name)
    seed = rng.standard_normal(6)
    assert_close(host(sol.vjp(x=gpu.put(seed)).b), expected.vjp(x=seed).b, 1e-9)
    alone = gd.solve(*(gpu.put(a[0]) for a in data), cones, gd.Settings(max_iter=2, polish=False, rescue=True))
    assert alone.rescued == 1
    assert_close(host(alone.x), expected.x[0], 1e-9)


# ---- solve_qp --------------------------------------------------------------------------------------------------------


def qp(rng, batch=4, n=5):
    P = np.eye(n) + 0.1
    q, G = rng.standard_normal((batch, n)), rng.standard_normal((3, n))
    lb, ub = np.full(n, -0.5), np.full((batch, n), 0.7)
    lb[1], ub[:, 3], ub[1, 2] = -np.inf, np.inf, np.inf
    return {"P": P, "q": q, "G": G, "h": np.ones(3), "A": np.ones((1, n)), "b": np.zeros(1), "lb": lb, "ub": ub}


@pytest.mark.parametrize("without", [(), ("lb",), ("ub",), ("lb", "ub"), ("G", "h"), ("A", "b"), ("P",)], ids="".join)
def test_solve_qp(gpu, rng, without):
    data = {name: None if name in without else value for name, value in qp(rng).items()}
    expected = gd.solve_qp(**data, backend="cpu")
    before = gpu.waits
    sol = gd.solve_qp(**{name: gpu.put(value) for name, value in data.items()})
    point = ("x", "y", "z", "z_box", "obj")
    bars = {name: rng.standard_normal(np.shape(getattr(expected, name))) for name in point}
    dots = {name: rng.standard_normal(value.shape) for name, value in data.items() if value is not None and name != "P"}
    bar = sol.vjp(**{name: gpu.put(value) for name, value in bars.items()})
    dot = sol.jvp(**{name: gpu.put(value) for name, value in dots.items()})
    assert gpu.waits == before, "something waited for the device"
    bar_expected, dot_expected = expected.vjp(**bars), expected.jvp(**dots)
    for name in point:
        assert_close(host(getattr(sol, name)), getattr(expected, name), 1e-9, name)
        assert_close(host(getattr(dot, name)), getattr(dot_expected, name), 1e-8, f"{name} tangent")
    for name, value in data.items():
        if value is not None:
            assert_close(host(getattr(bar, name)), getattr(bar_expected, name), 1e-8, f"{name} cotangent")
    warm = gd.solve_qp(**{name: gpu.put(value) for name, value in data.items()}, warm_start=sol)
    assert_close(host(warm.x), expected.x, 1e-9)


def test_the_box_multipliers_of_a_failed_problem_are_nan(gpu):
    q = np.array([[1.0, 1.0], [np.nan, 1.0]])
    sol = gd.solve_qp(*gpu.put(np.eye(2), q), lb=gpu.put(np.array([0.0, -np.inf])))
    assert np.isnan(host(sol.z_box)[1]).all()
    np.testing.assert_allclose(host(sol.z_box)[0], [-1, 0], atol=1e-9)


# ---- launches, streams, waiting --------------------------------------------------------------------------------------


def test_launches(gpu, rng):
    problem = well_posed("qp", 9)
    data = gpu.put(*problem.data)
    for _ in range(2):
        sol = gd.solve(*data, problem.gd_cones)
        sol.vjp(x=gpu.put(np.ones(8)))
    assert gpu.spy.calls.count("compile") == 3, "kernels are compiled once"
    assert [entry for entry, *_ in gpu.driver.launches] == ["gd_solve_kernel", "gd_careful_kernel", "gd_vjp_kernel"] * 2
    for _, grid, threads, shared, stream in gpu.driver.launches:
        assert grid <= 8, "groups are persistent: no more than fill the device"
        assert threads % 32 == 0
        assert 0 <= shared <= 227 << 10
        assert stream == 7, "the caller's current stream"


def test_what_waits_and_what_does_not(gpu, rng):
    problem = well_posed("qp", 9)
    sol = gd.solve(*gpu.put(*problem.data), problem.gd_cones)
    _ = sol.status, sol.batched, sol.rescued
    assert gpu.waits == 0
    for ask in (sol.raise_for_status, sol.raise_for_failure, lambda: repr(sol), lambda: sol.work):
        before = gpu.waits
        ask()
        assert gpu.waits > before
    expected = gd.solve(*problem.args).work
    assert sol.work[:2] == expected[:2]
    assert sol.work.resumed == 9
    assert np.isnan(sol.work.flops)


def test_only_the_wanted_cotangents_are_computed(gpu, rng):
    problem = well_posed("qp", 3)
    sol = gd.solve(*gpu.put(*problem.data), problem.gd_cones)
    bar = sol.vjp(x=gpu.put(np.ones(8)), wrt=("q", "b"))
    assert bar.P is bar.A is None
    assert_close(host(bar.q), gd.solve(*problem.args).vjp(x=np.ones(8)).q, 1e-9)
    launches = len(gpu.driver.launches)
    assert sol.vjp(x=gpu.put(np.ones(8)), wrt=()).q is None
    assert len(gpu.driver.launches) == launches


# ---- arrays on the host, asked for by name ---------------------------------------------------------------------------


def test_arrays_on_the_host_go_to_the_gpu_when_asked_for(gpu, rng):
    problem, _ = varied_qps(rng, 5, ("A",))
    sol, expected = gd.solve(*problem.args, backend="cuda"), gd.solve(*problem.args, backend="cpu")
    assert gd.solve(*problem.args).backend == "cpu"
    assert sol.backend == "cuda"
    assert sol.work.interior == expected.work.interior
    for name in POINT:
        assert isinstance(getattr(sol, name), np.ndarray)
        assert_close(getattr(sol, name), getattr(expected, name), 1e-9, name)
    q_dot, x_bar = rng.standard_normal((2, 5))
    assert_close(sol.jvp(q=q_dot).y, expected.jvp(q=q_dot).y, 1e-9)
    bar, bar_expected = sol.vjp(x=x_bar), expected.vjp(x=x_bar)
    for name in NAMES:
        assert_close(getattr(bar, name), getattr(bar_expected, name), 1e-9, name)
    warm = gd.solve(*problem.args, backend="cuda", warm_start=sol)
    assert warm.iterations.sum() < sol.iterations.sum()
    scalar = gd.solve([[2.0]], [-2.0], backend="cuda")
    assert scalar.x == pytest.approx(1)
    assert isinstance(scalar.obj, float)
    assert gd.solve(np.eye(2), np.ones((0, 2)), backend="cuda").x.shape == (0, 2)
    assert gpu.driver.memory == {}, "memory of the device is given back"


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_data_in_different_places(gpu):
    P, q = np.eye(2), np.ones(2)
    with pytest.raises(gd.DeviceError, match="q: expected an array on cuda:0, where P lies, got one in host memory"):
        gd.solve(gpu.put(P), q)
    with pytest.raises(gd.DeviceError, match="q: expected an array in host memory, where P lies, got one on cuda:0"):
        gd.solve(P, gpu.put(q))
    with pytest.raises(gd.DeviceError, match="q: expected an array on cuda:0, where P lies, got one on cuda:1"):
        gd.solve(gpu.put(P), gpu.put(q, device=1))
    with pytest.raises(gd.DeviceError, match=r"lb: expected an array on cuda:0, .* got one in host memory"):
        gd.solve_qp(gpu.put(P), gpu.put(q), lb=[0.0, 0.0])
    sol = gd.solve(*gpu.put(P, q))
    with pytest.raises(gd.DeviceError, match="x: expected an array on cuda:0, where the problem lies, got one in host"):
        sol.vjp(x=q)
    with pytest.raises(gd.DeviceError, match=r"q: expected an array in host memory, .* got one on cuda:0"):
        gd.solve(P, q).jvp(q=gpu.put(q))


def test_the_cpu_backend_does_not_take_device_arrays(gpu):
    with pytest.raises(gd.DeviceError, match=r"n=2, m=0, float64, cuda:0\); cpu: expected arrays in host memory"):
        gd.solve(*gpu.put(np.eye(2), np.ones(2)), backend="cpu")


def test_an_unusable_gpu_is_explained(gpu, monkeypatch):
    monkeypatch.setattr(gpu.backend, "why_unavailable", lambda: "no driver today")
    for backend in ("auto", "cuda"):
        with pytest.raises(gd.DeviceError, match=r"cuda: no driver today.*copy them to the host"):
            gd.solve(*gpu.put(np.eye(2), np.ones(2)), backend=backend)
    with pytest.raises(gd.BackendError, match="cuda: no driver today"):
        gd.solve(np.eye(2), np.ones(2), backend="cuda")
    assert gd.info().backends == {"cuda": "no driver today", "cpu": None}


def test_shapes_and_types_are_checked_on_the_host(gpu):
    P, q = gpu.put(np.eye(2), np.ones(2))
    with pytest.raises(gd.ShapeError, match=r"P: expected shape \(3, 3\)"):
        gd.solve(P, gpu.put(np.ones(3)))
    with pytest.raises(gd.DtypeError, match="q: expected float64, float32 or integers, got complex128"):
        gd.solve(P, gpu.put(np.ones(2, complex)))
    with pytest.raises(gd.DtypeError, match="q: expected float64, float32 or integers, got float16"):
        gd.solve(P, gpu.put(np.ones(2, np.float16)))
    with pytest.raises(gd.ShapeError, match="x: expected shape"):
        gd.solve(P, q).vjp(x=gpu.put(np.ones(3)))
    assert gpu.waits == 0


# ---- compiling ahead, info -------------------------------------------------------------------------------------------


def test_compiling_ahead(gpu, rng):
    problem = well_posed("mixed", 3)
    solver = gd.Solver(problem.gd_cones, 7, backend="cuda")
    report = solver.compile()
    assert report.backend == "cuda"
    assert report.kernels == ("solve", "careful", "jvp", "vjp", "sum")
    assert report.seconds > 0
    assert report.cached == 0
    compiled = gpu.spy.calls.count("compile")
    assert compiled == 5
    sol = solver.solve(*gpu.put(*problem.data))
    sol.vjp(x=gpu.put(np.ones(7)))
    sol.jvp(q=gpu.put(np.ones(7)))
    assert gpu.spy.calls.count("compile") == compiled, "nothing is left to be compiled"
    assert gd.Solver([], 3, gd.Settings(polish=False)).compile("float32", has_P=False).kernels == report.kernels[1:]


def test_compiling_ahead_for_the_cpu_is_nothing(gpu):
    assert gd.Solver([], 3, backend="cpu").compile() == ("cpu", (), 0, 0.0)
    for wrong in ("float16", "nonsense", np.int64):
        with pytest.raises(gd.DtypeError, match="dtype: expected float64 or float32"):
            gd.Solver([], 3).compile(wrong)


def test_compiling_ahead_without_a_gpu(gpu, monkeypatch):
    monkeypatch.setattr(gpu.backend, "why_unavailable", lambda: "no driver today")
    assert gd.Solver([], 3).compile().backend == "cpu"
    with pytest.raises(gd.BackendError, match="backend 'cuda' cannot be used; cuda: no driver today"):
        gd.Solver([], 3, backend="cuda").compile()


def test_info_lists_the_devices(gpu):
    assert gd.info().devices == ("cuda:0 stand-in (sm_90)", "cuda:1 stand-in (sm_90)")
    assert "device            cuda:1 stand-in (sm_90)" in str(gd.info())
