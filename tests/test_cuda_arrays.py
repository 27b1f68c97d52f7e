"""torch tensors, CuPy arrays and other packages' arrays on a GPU, without one: tensors and arrays that pose as such.

torch tensors on the CPU pose as CUDA tensors; a stand-in for CuPy is put in its place. Both are solved by the CUDA
backend with the driver of device_arrays.py, whose device memory is host memory.
"""

from __future__ import annotations

import sys
import weakref
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import test_torch
import torch
from compare import assert_close
from device_arrays import Spy, StandInDriver, use
from problems import varied_qps, well_posed

import gpudiff as gd
from gpudiff import _arrays
from gpudiff._device import DeviceArray
from gpudiff.torch import arrays as torch_arrays

data = test_torch.data  # a fixture
NAMES = ("P", "q", "A", "b")
POINT = ("x", "y", "s", "obj")


@pytest.fixture
def driver(monkeypatch):
    spy = Spy(StandInDriver())
    use(monkeypatch, spy)
    return spy


# ---- torch -----------------------------------------------------------------------------------------------------------


class Posing(torch_arrays.TorchPackage):
    """torch's CPU as device 0."""

    waits = 0

    def number(self, native):
        return 0

    def device(self, number):
        return torch.device("cpu")

    def stream(self, device):
        return 11

    def to_host(self, native):
        self.waits += 1
        return super().to_host(native)

    def from_host(self, array, device):
        self.waits += 1
        return super().from_host(array, device)


@pytest.fixture
def posing(monkeypatch, driver):
    """Every tensor is taken for one on a GPU."""
    package = Posing()
    monkeypatch.setattr(torch_arrays, "PACKAGE", package)
    monkeypatch.setattr(torch_arrays, "lies_on_host", lambda tensor: False)
    return package


class TestTorch:
    """What test_torch.py asks of tensors on the CPU, of tensors that pose as on a GPU."""

    pytestmark = test_torch.pytestmark

    @pytest.fixture(autouse=True)
    def _posing(self, posing):
        self.package = posing

    def test_tensors_in_tensors_out_without_waiting(self, data, driver):
        sol = test_torch.solve(*data)
        (sol.x.sum() + sol.obj.sum()).backward()
        _ = sol.ok, sol.differentiable, sol.jvp(q=torch.ones(3)).x
        assert self.package.waits == driver.waits == 0
        assert {stream for *_, stream in driver.launches} == {11}
        assert sol.backend == "cuda"
        assert isinstance(sol.linearization.result.x, DeviceArray)
        for name in (*POINT, "status", "iterations", "gap", "margin", "ok", "differentiable"):
            assert isinstance(getattr(sol, name), torch.Tensor), name
        assert sol.ok.dtype == torch.bool
        assert sol.ok.all()
        sol.raise_for_status()
        assert self.package.waits > 0
        assert "cuda:0, backend 'cuda'" in repr(sol)

    def test_memory_is_shared_with_the_tensors(self, data):
        q = data[1].detach()
        sol = gd.solve(torch.eye(3, dtype=torch.float64), q, data[2].detach(), data[3].detach(), test_torch.CONES)
        assert sol.linearization.inner.problem.q.pointer == q.data_ptr()
        assert sol.linearization.result.x.pointer == sol.x.data_ptr()

    def test_a_solver_remembers_without_waiting_and_without_graphs(self, data, driver):
        _L, q, A, b = data
        solver, P = gd.Solver(test_torch.CONES, 3, remember=True), torch.eye(3, dtype=torch.float64)
        cold = solver.solve(P, q, A, b).iterations.sum()
        sol = solver.solve(P, q, A, b)
        assert self.package.waits == driver.waits == 0
        assert sol.iterations.sum() < cold
        gone = weakref.ref(sol.x.grad_fn)
        del sol
        assert gone() is None
        assert self.package.waits == driver.waits == 0
        on_host = gd.solve(*(value.detach().numpy() for value in (P, q, A, b)), test_torch.CONES)
        assert_close(solver.solve(*(value.detach().numpy() for value in (P, q, A, b))).x, on_host.x, 1e-12)

    def test_a_rescue_is_seen_by_the_tensors(self, data):
        settings = gd.Settings(max_iter=2, polish=False, rescue=True)
        sol, exact = test_torch.solve(*data, settings=settings), test_torch.solve(*data)
        assert sol.rescued == 3
        assert_close(sol.x.detach(), exact.x.detach(), 1e-9)
        gradients = [torch.autograd.grad(s.y.sum(), data[3])[0] for s in (sol, exact)]
        assert_close(*gradients, 1e-8)

    @pytest.mark.parametrize("requires_grad", [False, True])
    def test_the_solution_of_an_exception_is_in_tensors(self, data, requires_grad):
        arrays = [a.detach().requires_grad_(requires_grad) for a in data]
        with pytest.raises(gd.SolveError, match="3 of 3") as caught:
            test_torch.solve(*arrays, settings=gd.Settings(max_iter=1, polish=False, on_failure="raise"))
        assert isinstance(caught.value.solution.x, torch.Tensor)
        assert caught.value.solution.ok.tolist() == [False] * 3

    def test_constants_on_the_host_are_refused(self, data, monkeypatch):
        monkeypatch.setattr(torch_arrays, "lies_on_host", lambda tensor: tensor.shape == (1,))
        with pytest.raises(
            gd.DeviceError, match="b: expected an array on cuda:0, where P lies, got one in host memory"
        ):
            gd.solve(torch.eye(2), torch.ones(2), torch.ones(1, 2), np.ones(1, np.float32), [gd.Zero(1)])

    def test_an_asymmetric_P_is_left_to_the_kernels(self, driver):
        seen = []
        driver._driver.load = lambda *_: SimpleNamespace(
            blocks_per_multiprocessor=lambda *_: 1, launch=lambda *arguments: seen.append(arguments)
        )
        gd.solve(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.ones(2))
        assert len(seen) == 2


for _name in (
    "test_gradcheck_of_each_output",
    "test_gradcheck_of_all_outputs_and_forward_mode",
    "test_gradcheck_with_respect_to_one_argument",
    "test_gradcheck_of_shared_arguments",
    "test_gradcheck_without_batch_axis",
    "test_linear_objectives_and_no_rows",
    "test_float32",
    "test_mixed_precision_and_constants_of_other_kinds",
    "test_a_call_under_no_grad_keeps_nothing",
    "test_the_graph_can_be_used_twice_if_kept",
    "test_overwriting_what_the_gradient_needs_is_noticed",
    "test_forward_mode_by_hand",
    "test_failed_items_have_zero_gradients_and_a_batch_still_trains",
    "test_expanded_and_strided_cotangents_and_data",
    "test_parameters_and_subclasses",
    "test_solver_and_warm_start",
    "test_solve_qp",
    "test_half_precision_is_accepted_under_autocast",
    "test_integers_become_float64",
):
    setattr(TestTorch, _name, staticmethod(getattr(test_torch, _name)))


# ---- CuPy ------------------------------------------------------------------------------------------------------------


class FakeArray(np.ndarray):
    """An array of the stand-in for CuPy."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data, device_id=0)

    def __array_finalize__(self, _):
        pass


def fake_cupy():
    """A module with the functions of CuPy that gpudiff calls."""

    class Device:
        def __init__(self, number):
            assert number == 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def made(function):
        return lambda *args, **kwargs: function(*args, **kwargs).view(FakeArray)

    module = ModuleType("cupy")
    module.ndarray = FakeArray
    module.waits = 0
    for name in ("empty", "zeros", "eye", "where", "array"):
        setattr(module, name, made(getattr(np, name)))
    module.asarray = lambda a, dtype=None: np.asarray(getattr(a, "inner", a), dtype).view(FakeArray)
    module.from_dlpack = lambda a: a.inner.view(FakeArray)

    def asnumpy(array):
        module.waits += 1
        return np.array(array)

    module.asnumpy = asnumpy
    module.cuda = SimpleNamespace(Device=Device, get_current_stream=lambda device: SimpleNamespace(ptr=13))
    return module


@pytest.fixture
def cupy(monkeypatch, driver):
    module = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    for name in [name for name in sys.modules if name.startswith("gpudiff.cupy")]:
        monkeypatch.delitem(sys.modules, name)
    yield module
    for name in [name for name in sys.modules if name.startswith("gpudiff.cupy")]:
        del sys.modules[name]  # it holds the stand-in


def test_cupy_arrays_in_cupy_arrays_out(cupy, driver, rng):
    problem, _ = varied_qps(rng, 5, ("A",))
    data = [cupy.asarray(a) for a in problem.data]
    sol, expected = gd.solve(*data, problem.gd_cones), gd.solve(*problem.args)
    bar, bar_expected = sol.vjp(x=cupy.asarray(np.ones(5))), expected.vjp(x=np.ones(5))
    dot = sol.jvp(q=cupy.asarray(np.ones(5)))
    assert cupy.waits == driver.waits == 0
    assert {stream for *_, stream in driver.launches} == {13}
    for name in (*POINT, "status", "iterations", "margin", "ok"):
        assert type(getattr(sol, name)) is FakeArray, name
        if name in POINT:
            assert_close(getattr(sol, name), getattr(expected, name), 1e-9, name)
    for name in NAMES:
        assert type(getattr(bar, name)) is FakeArray
        assert_close(getattr(bar, name), getattr(bar_expected, name), 1e-9, name)
    assert_close(dot.y, expected.jvp(q=np.ones(5)).y, 1e-9)
    warm = gd.Solver(problem.gd_cones, 5).solve(*data, warm_start=sol)
    assert warm.iterations.sum() < sol.iterations.sum()
    with pytest.raises(gd.DeviceError, match=r"x: expected an array on cuda:0, .* got one in host memory"):
        sol.vjp(x=np.ones(5))


def test_cupy_solve_qp(cupy):
    q, ub = np.array([[-3.0, 1.0], [2.0, -4.0]]), np.ones(2)
    sol = gd.solve_qp(*map(cupy.asarray, (np.eye(2), q)), ub=cupy.asarray(ub))
    expected = gd.solve_qp(np.eye(2), q, ub=ub)
    for name in ("x", "z_box", "obj"):
        assert type(getattr(sol, name)) is FakeArray
        assert_close(getattr(sol, name), getattr(expected, name), 1e-9, name)
    assert_close(sol.vjp(x=cupy.asarray(np.ones(2))).ub, expected.vjp(x=np.ones(2)).ub, 1e-9)
    warm = gd.solve_qp(*map(cupy.asarray, (np.eye(2), q)), ub=cupy.asarray(ub), warm_start=sol)
    assert_close(warm.x, expected.x, 1e-9)


def test_the_solution_of_an_exception_is_in_cupys_arrays(cupy):
    contradiction = (np.eye(1), np.ones(1), np.array([[1.0], [-1.0]]), -np.ones(2))
    with pytest.raises(gd.SolveError) as caught:
        gd.solve(*map(cupy.asarray, contradiction), [gd.Nonnegative(2)], gd.Settings(on_failure="raise"))
    assert type(caught.value.solution.y) is FakeArray
    assert caught.value.solution.status == gd.Status.PRIMAL_INFEASIBLE


def test_cupy_types(cupy):
    sol = gd.solve(cupy.asarray(np.eye(2, dtype=int)), cupy.asarray(np.array([1, 2], np.float32)))
    assert sol.x.dtype == np.float64
    with pytest.raises(gd.DtypeError, match="q: expected float64, float32 or integers, got float16"):
        gd.solve(cupy.asarray(np.eye(2)), cupy.asarray(np.ones(2, np.float16)))
    sparse = SimpleNamespace(nnz=1, toarray=None, tocsc=None)
    with pytest.raises(gd.DtypeError, match="P: expected a dense array, got a sparse"):
        gd.solve(sparse, cupy.asarray(np.ones(2)))


def test_cupy_svec_and_smat(cupy, rng):
    X = rng.standard_normal((2, 3, 3))
    X += np.swapaxes(X, 1, 2)
    v = gd.svec(cupy.asarray(X))
    assert type(v) is FakeArray
    np.testing.assert_array_equal(v, gd.svec(X))
    np.testing.assert_array_equal(gd.smat(v), gd.smat(gd.svec(X)))


# ---- other packages' arrays ------------------------------------------------------------------------------------------


class Interface:
    """An array on a GPU that only has `__cuda_array_interface__`, as Numba's."""

    def __init__(self, inner):
        self.inner = inner

    @property
    def shape(self):
        return self.inner.shape

    @property
    def __cuda_array_interface__(self):
        return {"data": (self.inner.ctypes.data, False), "version": 3, "stream": 5}


class Dlpack:
    """An array on a GPU that only has DLPack, as JAX's."""

    def __init__(self, inner, device=(2, 0)):
        self.inner = inner
        self.device = device

    def __dlpack__(self, **_):
        raise NotImplementedError

    def __dlpack_device__(self):
        return self.device


@pytest.mark.parametrize("kind", [Interface, Dlpack])
def test_other_arrays_on_a_gpu_become_cupys(cupy, kind):
    problem = well_posed("qp", 3)
    sol = gd.solve(*map(kind, problem.data), problem.gd_cones)
    assert type(sol.x) is FakeArray
    assert_close(sol.x, gd.solve(*problem.args).x, 1e-9)
    assert sol.linearization.inner.problem.q.pointer == problem.q.ctypes.data
    assert_close(sol.vjp(x=kind(np.ones(8))).b, gd.solve(*problem.args).vjp(x=np.ones(8)).b, 1e-9)
    assert type(gd.svec(kind(np.eye(2)))) is FakeArray


@pytest.mark.parametrize("kind", [Interface, Dlpack])
def test_without_cupy_they_become_torchs(posing, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "cupy", None)
    waited = []

    def event_of(producer, device=None):
        return SimpleNamespace(record_event=lambda: producer)

    monkeypatch.setattr(torch, "from_dlpack", lambda value: torch.from_numpy(value.inner))
    as_tensor = torch.as_tensor
    monkeypatch.setattr(torch, "as_tensor", lambda value, device=None: as_tensor(getattr(value, "inner", value)))
    monkeypatch.setattr(torch.cuda, "ExternalStream", event_of)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(wait_event=waited.append))
    problem = well_posed("qp", 3)
    sol = gd.solve(*map(kind, problem.data), problem.gd_cones)
    assert isinstance(sol.x, torch.Tensor)
    assert_close(sol.x, gd.solve(*problem.args).x, 1e-9)
    assert waited == ([5] * 4 if kind is Interface else []), "the current stream waits for what makes the data"


def test_without_either_it_is_said_what_to_install(monkeypatch, driver):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(_arrays, "_FOREIGN", _arrays._FOREIGN[1:])
    with pytest.raises(gd.DeviceError, match=r"got test_cuda_arrays.Interface on a GPU, which needs CuPy or torch"):
        gd.solve(Interface(np.eye(2)), Interface(np.ones(2)))


def test_dlpack_on_the_host_is_no_gpu():
    assert not _arrays.exposes_cuda(Dlpack(np.ones(2), device=(1, 0)))
    assert not _arrays.exposes_cuda(np.ones(2))
    assert not _arrays.exposes_cuda([1.0])
    assert not _arrays.exposes_cuda(torch.ones(2))
    assert _arrays.exposes_cuda(Dlpack(np.ones(2)))
    assert _arrays.exposes_cuda(Interface(np.ones(2)))


# ---- points from anywhere --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("polish", [False, True])
def test_given_points_are_judged_on_the_host_and_differentiated_on_the_gpu(posing, polish, rng):
    problem = well_posed("mixed", 3)
    x = problem.x.copy()
    x[1, 0] = np.nan
    expected = gd.differentiate(*problem.args, x, polish=polish)
    data = [torch.from_numpy(a).requires_grad_() for a in problem.data]
    sol = gd.differentiate(*data, problem.gd_cones, torch.from_numpy(x), polish=polish)
    assert sol.backend == "cuda"
    assert sol.status.tolist() == [gd.Status.SOLVED, gd.Status.INVALID_DATA, gd.Status.SOLVED]
    assert isinstance(sol.linearization.result.x, DeviceArray)
    for name in (*POINT, "margin"):
        values = getattr(sol, name).detach().numpy()
        assert np.isnan(values[1]).all()
        assert_close(values[[0, 2]], getattr(expected, name)[[0, 2]], 1e-9, name)
    if not polish:  # which the stand-in, the CPU library, refuses
        lopsided = data[0].detach().clone()
        lopsided[0, 0, 1] += 1
        seen = gd.differentiate(lopsided, *data[1:], problem.gd_cones, torch.from_numpy(problem.x))
        assert seen.status.tolist() == [gd.Status.INVALID_DATA, gd.Status.SOLVED, gd.Status.SOLVED]
    bar = rng.standard_normal(x.shape)
    sol.x.backward(torch.from_numpy(bar))
    assert_close(data[1].grad.numpy(), expected.vjp(x=bar).q, 1e-9)


def test_given_points_of_cupy(cupy):
    problem = well_posed("mixed", 3)
    sol = gd.differentiate(*map(cupy.asarray, problem.data), problem.gd_cones, cupy.asarray(problem.x))
    assert type(sol.y) is FakeArray
    assert_close(sol.y, problem.y, 1e-12)
    with pytest.raises(gd.DeviceError, match=r"x: expected an array on cuda:0, where q lies, got one in host memory"):
        gd.differentiate(*map(cupy.asarray, problem.data), problem.gd_cones, problem.x)
