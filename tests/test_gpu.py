"""What only a GPU can show: the CPU's answers on CUDA tensors and CuPy arrays, the same bits in any batch, streams, no
hidden waiting, CUDA graphs, autograd. Run them with `pytest -m gpu`.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from compare import RESULT_FIELDS, assert_close, assert_same_bits
from problems import MIXED, feasible_qps, infeasible, unbounded, varied_qps, well_posed
from test_cuda_active_set import ACTIVE_SET, qps
from test_torch import CONES, solve

import gpudiff as gd
from gpudiff.backends.cuda import CudaBackend

torch = pytest.importorskip("torch")

WHY_NOT = CudaBackend().why_unavailable() or (None if torch.cuda.is_available() else "this torch is built without CUDA")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(WHY_NOT is not None, reason=f"no GPU: {WHY_NOT}"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]

INPUTS = ("P", "q", "A", "b")
POINT = ("x", "y", "s", "obj")
FAMILIES = ("qp", "qp with equalities", "lp", "lp with equalities", "socp", "soc of 20", "mixed", "mixed, no P", "wide")


def _torch(device=0):
    place = f"cuda:{device}"
    return SimpleNamespace(
        put=lambda a: None if a is None else torch.from_numpy(np.array(a)).to(place),
        get=lambda a: a.detach().cpu().numpy(),
        synchronize=torch.cuda.synchronize,
    )


def _cupy():
    cupy = pytest.importorskip("cupy")
    return SimpleNamespace(
        put=lambda a: None if a is None else cupy.asarray(a),
        get=cupy.asnumpy,
        synchronize=cupy.cuda.runtime.deviceSynchronize,
    )


@pytest.fixture(params=["torch", "cupy"])
def package(request):
    """How arrays go to the device and back, for each package that is installed."""
    return _torch() if request.param == "torch" else _cupy()


def tensors(problem, device=0):
    return [_torch(device).put(a) for a in problem.data]


def everything(package, data, cones, directions, seeds, **options):
    """All that a call answers, as NumPy arrays."""
    sol = gd.solve(*map(package.put, data), cones, **options)
    dot = sol.jvp(**{name: package.put(value) for name, value in directions.items()})
    bar = sol.vjp(**{name: package.put(value) for name, value in seeds.items()})
    parts = {name: package.get(getattr(sol, name)) for name in (*RESULT_FIELDS, "margin")}
    parts |= {f"{name} tangent": package.get(getattr(dot, name)) for name in POINT}
    return parts | {f"{k} cotangent": package.get(v) for k in INPUTS if (v := getattr(bar, k)) is not None}


def directions_of(rng, data):
    out = {name: rng.standard_normal(a.shape) for name, a in zip(INPUTS, data, strict=True) if a is not None}
    if "P" in out:
        out["P"] = out["P"] + out["P"].swapaxes(-1, -2)
    return out


def seeds_of(rng, lead, n, m):
    sizes = {"x": (n,), "y": (m,), "s": (m,), "obj": ()}
    return {name: rng.standard_normal((*lead, *size)) for name, size in sizes.items()}


def assert_parity(package, rng, problem, tolerance=1e-8):
    data, cones = problem.data, problem.gd_cones
    n, m = problem.q.shape[-1], problem.b.shape[-1]
    directions, seeds = directions_of(rng, data), seeds_of(rng, problem.q.shape[:-1], n, m)
    mine = everything(package, data, cones, directions, seeds)
    expected = gd.solve(*data, cones, backend="cpu")
    dot, bar = expected.jvp(**directions), expected.vjp(**seeds)
    for name in (*POINT, "status"):
        theirs = np.asarray(getattr(expected, name))
        finite = np.isfinite(theirs)
        np.testing.assert_array_equal(mine[name][~finite], theirs[~finite])
        assert_close(mine[name][finite], theirs[finite], tolerance, name)
    for name in POINT:
        assert_close(mine[f"{name} tangent"], getattr(dot, name), 100 * tolerance, f"{name} tangent")
    for name in INPUTS:
        if getattr(bar, name) is not None:
            assert_close(mine[f"{name} cotangent"], getattr(bar, name), 100 * tolerance, f"{name} cotangent")


# ---- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answers_are_those_of_the_cpu(package, rng, family):
    assert_parity(package, rng, well_posed(family, 40))


@pytest.mark.parametrize("shared", ["P", "A", "PA", "PAb"])
def test_shared_arguments(package, rng, shared):
    assert_parity(package, rng, varied_qps(rng, 3000, tuple(shared))[0])


def test_float32(package, rng):
    problem = varied_qps(rng, 50)[1].astype(np.float32)
    sol = gd.solve(*map(package.put, problem.data), problem.gd_cones)
    expected = gd.solve(*problem.args)
    assert package.get(sol.ok).all()
    assert_close(package.get(sol.x), expected.x, 1e-4)


@pytest.mark.parametrize("shape", [(8, 0, 16), (20, 3, 40), (32, 8, 64), (64, 16, 128), (100, 0, 150)])
def test_the_active_set(package, rng, shape):
    problem = qps(*shape, 300)
    data, cones = [package.put(a) for a in problem.data], problem.gd_cones
    sol, expected = gd.solve(*data, cones, ACTIVE_SET), gd.solve(*problem.args, ACTIVE_SET, backend="cpu")
    assert package.get(sol.ok).all()
    assert sol.work.fallbacks == expected.work.fallbacks == 0
    for name in POINT:
        assert_close(package.get(getattr(sol, name)), getattr(expected, name), 1e-9, name)
    order = rng.permutation(300)[:77]
    some = gd.solve(*(package.put(a[order]) for a in problem.data), cones, ACTIVE_SET)
    for name in RESULT_FIELDS:
        assert_same_bits(package.get(getattr(some, name)), package.get(getattr(sol, name))[order], name)
    warm = gd.solve(*data, cones, ACTIVE_SET, warm_start=sol)
    assert not package.get(warm.iterations).any()
    assert_close(package.get(warm.x), expected.x, 1e-9)


def test_failures_keep_to_themselves(package, rng):
    fine = feasible_qps(rng, 1, 6, MIXED)
    parts = [(fine.P, fine.q[0], fine.A, fine.b), infeasible(rng, MIXED).data, unbounded(rng, MIXED, 3).data]
    parts.append((fine.P, np.full(6, np.nan), fine.A, fine.b))
    lopsided = fine.P + np.triu(np.ones((6, 6)), 1)
    parts.append((lopsided, fine.q[0], fine.A, fine.b))
    data = [np.stack([p[k] for p in parts * 20]) for k in range(4)]
    sol = gd.solve(*map(package.put, data), fine.gd_cones)
    names = ["SOLVED", "PRIMAL_INFEASIBLE", "DUAL_INFEASIBLE", "INVALID_DATA", "INVALID_DATA"]
    assert [gd.Status(code).name for code in package.get(sol.status)] == names * 20
    with pytest.raises(gd.SolveError, match="80 of 100"):
        sol.raise_for_status()
    zeros = gd.solve(*map(package.put, data), fine.gd_cones, gd.Settings(on_failure="zero"))
    assert not package.get(zeros.x).reshape(20, 5, 6)[:, 1:].any()
    kept = gd.solve(*map(package.put, data), fine.gd_cones, gd.Settings(max_iter=2, polish=False, rescue=True))
    assert kept.rescued >= 20
    assert package.get(kept.ok).reshape(20, 5)[:, 0].all()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qp", "mixed"])
def test_batch_invariance(package, rng, family):
    """Problem i has the same bits at B = 1, 33 and 100 000, among other neighbours and on another run."""
    distinct = well_posed(family, 33)
    large = 100_000
    order = rng.integers(0, 33, large)
    order[:33] = np.arange(33)
    directions = directions_of(rng, distinct.data)
    seeds = seeds_of(rng, (33,), distinct.q.shape[1], distinct.b.shape[1])

    def answers(pick):
        data = [None if a is None else a[pick] for a in distinct.data]
        moved = {name: value[pick] for name, value in directions.items()}
        seeded = {name: value[pick] for name, value in seeds.items()}
        return everything(package, data, distinct.gd_cones, moved, seeded)

    some, many, again = answers(np.arange(33)), answers(order), answers(order)
    for name, part in some.items():
        assert_same_bits(many[name], part[order], name)
        assert_same_bits(again[name], many[name], name)
    for i in (0, 17, 32):
        alone = answers(np.arange(i, i + 1))
        for name, part in some.items():
            assert_same_bits(alone[name][0], part[i], name)


def test_sums_over_the_batch_are_deterministic(package, rng):
    problem = varied_qps(rng, 20_000, ("P", "A"))[0]
    directions, seeds = directions_of(rng, problem.data), seeds_of(rng, (20_000,), 5, 10)
    first, again = (everything(package, problem.data, problem.gd_cones, directions, seeds) for _ in range(2))
    for name in first:
        assert_same_bits(first[name], again[name], name)


def test_any_strides(package, rng):
    problem = varied_qps(rng, 300)[1]
    plain = gd.solve(*map(package.put, problem.data), problem.gd_cones)
    P, b = package.put(problem.P), package.put(problem.b)
    doubled = package.put(np.repeat(problem.q, 2, axis=0))[::2]
    strided = [P.swapaxes(1, 2), doubled, package.put(problem.A.swapaxes(1, 2).copy()).swapaxes(1, 2), b]
    sol = gd.solve(*strided, problem.gd_cones)
    for name in POINT:
        assert_same_bits(package.get(getattr(sol, name)), package.get(getattr(plain, name)), name)


# ---- autograd --------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(rng):
    """The problems of test_torch.py on the device."""
    B, n, m = 3, 3, 7
    A = rng.standard_normal((B, m, n))
    b = np.einsum("bij,bj->bi", A, rng.standard_normal((B, n))) + np.array([2, 0.1, 0.1, 0, 0.3, 0.3, 0.3])
    arrays = (rng.standard_normal((B, n, n)), 2 * rng.standard_normal((B, n)), A, b)
    return [torch.from_numpy(a).cuda().requires_grad_() for a in arrays]


def on_device(L, q, A, b, **options):
    P = L @ L.mT + torch.eye(3, dtype=L.dtype, device=L.device)
    return gd.solve(P, q, A, b, CONES, **options)


def outputs(*arrays):
    sol = on_device(*arrays)
    return sol.x, sol.y, sol.s, sol.obj


def test_gradcheck(data):
    assert torch.autograd.gradcheck(outputs, data, check_forward_ad=True)


def test_gradients_are_those_of_the_cpu(data):
    def gradients(function, arrays):
        loss = sum(out.sin().sum() for out in function(*arrays))
        return torch.autograd.grad(loss, arrays)

    host = [a.detach().cpu().requires_grad_() for a in data]

    def on_host(*arrays):
        sol = solve(*arrays)
        return sol.x, sol.y, sol.s, sol.obj

    for mine, theirs in zip(gradients(outputs, data), gradients(on_host, host), strict=True):
        assert mine.is_cuda
        assert_close(mine.cpu(), theirs, 1e-8)


def test_solve_qp(data):
    q, ub = data[1], torch.tensor([0.5, torch.inf, 0.6], dtype=torch.float64, device="cuda", requires_grad=True)
    eye = torch.eye(3, dtype=torch.float64, device="cuda")

    def function(q, ub):
        sol = gd.solve_qp(eye, q, ub=ub, lb=-torch.ones_like(ub))
        return sol.x, sol.z_box, sol.obj

    on_cpu = gd.solve_qp(eye.cpu(), q.detach().cpu(), ub=ub.detach().cpu(), lb=-torch.ones(3, dtype=torch.float64))
    assert_close(function(q, ub)[0].detach().cpu(), on_cpu.x, 1e-9)
    gradient = torch.autograd.grad(function(q, ub)[0].sum(), (q, ub))
    assert torch.isfinite(torch.cat([g.flatten() for g in gradient])).all()
    assert gradient[1][1] == 0


# ---- streams, waiting, graphs ----------------------------------------------------------------------------------------


def test_nothing_waits_for_the_device(data):
    moved = [a.detach() for a in data]
    on_device(*moved).vjp(x=torch.ones(3, 3, dtype=torch.float64, device="cuda"))  # compile first
    box = torch.ones(3, dtype=torch.float64, device="cuda")
    gd.solve_qp(None, data[1].detach(), lb=-box, ub=box).vjp(x=box)
    on_device(*moved).jvp(q=data[1].detach())
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        sol = on_device(*data)
        (sol.x.sum() + sol.obj.sum()).backward()
        sol.jvp(q=data[1].detach())
        on_device(*moved, warm_start=sol)
        qp = gd.solve_qp(None, data[1].detach(), lb=-box, ub=box)
        qp.vjp(x=box)
        _ = sol.ok, sol.differentiable
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sol.ok.all()


def test_a_call_returns_before_the_device_is_done(rng):
    """Work queued in front of a solve keeps it from being done when the call returns."""
    problem = varied_qps(rng, 100)[1]
    moved, x_bar = tensors(problem), torch.ones(5, dtype=torch.float64, device="cuda")
    gd.solve(*moved, problem.gd_cones).vjp(x=x_bar)  # compiles, and fills torch's pool
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)
    sol = gd.solve(*moved, problem.gd_cones)
    bar = sol.vjp(x=x_bar)
    assert not torch.cuda.current_stream().query()
    torch.cuda.synchronize()
    assert sol.ok.all()
    assert torch.isfinite(bar.A).all()


def test_the_current_stream_is_used(rng):
    """On a side stream a solve sees what that stream has made, and runs beside the other streams."""
    problem = varied_qps(rng, 200)[1]
    P, q, A, b = tensors(problem)
    side, other = torch.cuda.Stream(), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):  # compiles, and fills the pool of this stream: allocating from the driver may wait
        expected = gd.solve(P, 2 * q, A, b, problem.gd_cones)
        expected.vjp(x=torch.ones_like(q))
    torch.cuda.synchronize()
    with torch.cuda.stream(other):
        torch.cuda._sleep(2_000_000_000)
    with torch.cuda.stream(side):
        doubled = q.clone()
        torch.cuda._sleep(50_000_000)
        doubled.mul_(2)
        sol = gd.solve(P, doubled, A, b, problem.gd_cones)
        bar = sol.vjp(x=torch.ones_like(q))
    side.synchronize()
    assert not other.query(), "the solve waited for a stream that has nothing to do with it"
    torch.cuda.synchronize()
    assert_same_bits(sol.x.cpu(), expected.x.cpu())
    assert torch.isfinite(bar.A).all()


def test_the_backward_pass_of_a_side_stream(rng):
    problem = varied_qps(rng, 50)[1]
    data = tensors(problem)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        q = data[1].clone().requires_grad_()
        gd.solve(data[0], q, *data[2:], problem.gd_cones).x.square().sum().backward()
    torch.cuda.synchronize()
    again = data[1].clone().requires_grad_()
    gd.solve(data[0], again, *data[2:], problem.gd_cones).x.square().sum().backward()
    assert_same_bits(q.grad.cpu(), again.grad.cpu())


@pytest.mark.parametrize("shared", [(), ("A",)], ids=["nothing shared", "A shared"])
def test_cuda_graphs(rng, shared):
    """Solve and derivative in a graph: its replay reads new data and gives the bits of a plain call."""
    problem, moved = (varied_qps(rng, 64, shared)[0] for _ in range(2))
    held = tensors(problem)
    x_bar = torch.ones(64, 5, dtype=torch.float64, device="cuda")
    solver = gd.Solver(problem.gd_cones, 5)
    assert len(solver.compile().kernels) == 5
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # torch asks for a warm-up before capture
        solver.solve(*held).vjp(x=x_bar)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        sol = solver.solve(*held)
        bar, dot = sol.vjp(x=x_bar), sol.jvp(q=x_bar)
    for current in (problem, moved):
        fresh = tensors(current)
        for tensor, new in zip(held, fresh, strict=True):
            tensor.copy_(new)
        for _ in range(2):
            graph.replay()
            torch.cuda.synchronize()
            plain = solver.solve(*fresh)
            plain_bar, plain_dot = plain.vjp(x=x_bar), plain.jvp(q=x_bar)
            for name in RESULT_FIELDS:
                assert_same_bits(getattr(sol, name).cpu(), getattr(plain, name).cpu(), name)
            for name in INPUTS:
                assert_same_bits(getattr(bar, name).cpu(), getattr(plain_bar, name).cpu(), f"{name} cotangent")
            assert_same_bits(dot.y.cpu(), plain_dot.y.cpu(), "tangent")


def test_a_training_step_in_a_graph(rng):
    problem = varied_qps(rng, 32)[1]
    P, q, A, b = tensors(problem)
    q.requires_grad_()

    def step():
        (gradient,) = torch.autograd.grad(gd.solve(P, q, A, b, problem.gd_cones).x.square().sum(), q)
        return gradient

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            expected = step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gradient = step()
    graph.replay()
    torch.cuda.synchronize()
    assert_same_bits(gradient.cpu(), expected.cpu())


@pytest.mark.skipif(WHY_NOT is not None or torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_several_gpus(rng):
    problem = varied_qps(rng, 40)[1]
    solutions = [gd.solve(*tensors(problem, device), problem.gd_cones) for device in (0, 1, 0)]
    for device, sol in zip((0, 1, 0), solutions, strict=True):
        assert sol.x.device.index == device
        assert_close(sol.x.cpu(), gd.solve(*problem.args).x, 1e-8)
        assert sol.vjp(x=torch.ones(5, dtype=torch.float64, device=f"cuda:{device}")).A.device.index == device
    P, q, A, b = tensors(problem)
    with pytest.raises(gd.DeviceError, match="q: expected an array on cuda:0, where P lies, got one on cuda:1"):
        gd.solve(P, q.to("cuda:1"), A, b, problem.gd_cones)


# ---- arrays of other packages, of the host, refusals -----------------------------------------------------------------


class Interface:
    """Nothing but `__cuda_array_interface__`."""

    def __init__(self, tensor):
        self._tensor = tensor

    @property
    def shape(self):
        return tuple(self._tensor.shape)

    @property
    def __cuda_array_interface__(self):
        return {**self._tensor.__cuda_array_interface__, "version": 3, "stream": 1}


class Dlpack:
    """Nothing but DLPack."""

    def __init__(self, tensor):
        self._tensor = tensor

    @property
    def shape(self):
        return tuple(self._tensor.shape)

    def __dlpack__(self, **options):
        return self._tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._tensor.__dlpack_device__()


@pytest.mark.parametrize("kind", [Interface, Dlpack])
def test_other_packages(rng, kind):
    problem = varied_qps(rng, 10)[1]
    moved = tensors(problem)
    sol = gd.solve(*map(kind, moved), problem.gd_cones)
    assert type(sol.x).__module__.partition(".")[0] in ("cupy", "torch")
    x = torch.as_tensor(sol.x, device="cuda")
    assert_same_bits(x.cpu(), gd.solve(*moved, problem.gd_cones).x.cpu())


def test_arrays_on_the_host_go_to_the_gpu_when_asked_for(rng):
    problem = varied_qps(rng, 10, ("A",))[0]
    sol, expected = gd.solve(*problem.args, backend="cuda"), gd.solve(*problem.args, backend="cpu")
    assert (sol.backend, type(sol.x)) == ("cuda", np.ndarray)
    assert_close(sol.x, expected.x, 1e-8)
    assert_close(sol.vjp(x=np.ones(5)).A, expected.vjp(x=np.ones(5)).A, 1e-6)


def test_data_in_different_places(package):
    P, q = package.put(np.eye(2)), np.ones(2)
    with pytest.raises(gd.DeviceError, match="q: expected an array on cuda:0, where P lies, got one in host memory"):
        gd.solve(P, q)
    with pytest.raises(gd.DeviceError, match="cpu: expected arrays in host memory"):
        gd.solve(P, package.put(q), backend="cpu")


def test_memory_stays_small(rng):
    """Beyond inputs and outputs a solve and its derivative take at most 64 MB, and give it back."""
    problem = varied_qps(rng, 50_000)[1]
    moved = tensors(problem)
    gd.Solver(problem.gd_cones, 5).compile()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    sol = gd.solve(*moved, problem.gd_cones)
    bar = sol.vjp(x=torch.ones(5, dtype=torch.float64, device="cuda"))
    torch.cuda.synchronize()
    kept = torch.cuda.memory_allocated() - before
    assert torch.cuda.max_memory_allocated() - before - kept < 64 << 20
    assert bar.A.shape == moved[2].shape


def test_info_names_the_device():
    info = gd.info()
    assert info.backends["cuda"] is None
    assert len(info.devices) == torch.cuda.device_count()
    assert torch.cuda.get_device_name(0) in info.devices[0]
