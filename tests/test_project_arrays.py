"""Projections of arrays: kinds, axes, element types, strides, batch invariance, NaN, autograd, and GPU kernels."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from compare import assert_close, assert_same_bits
from device_arrays import Package
from emulated_driver import RACE, SCHEDULES, EmulatedDriver, available, run_sanitized
from test_cuda_arrays import FakeArray, Posing, fake_cupy
from test_project import EVERY, ROWS, SINGLE, names, points
from torch.autograd import forward_ad

import gpudiff as gd
from gpudiff import _dispatch
from gpudiff._cones import as_product
from gpudiff.backends.cpu import CpuBackend
from gpudiff.backends.cuda import CudaBackend
from gpudiff.jit import headers
from gpudiff.jit.compiler import compile_source
from gpudiff.jit.plan import architecture
from gpudiff.jit.projection import ProjectionShape, Run, projection_plan, projection_shape
from gpudiff.torch import arrays as torch_arrays

# Entering forward mode for the first time makes torch script its own decompositions, which it warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

# ---- NumPy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (1,), (5,), (2, 3), (0,), (2, 0, 3), (2, 1, 4)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_leading_axes_and_element_types(lead, dtype, rng):
    v, h = rng.standard_normal((2, *lead, ROWS)).astype(dtype)
    p, tangent = gd.project(v, EVERY), gd.project_jvp(v, h, EVERY)
    assert (p.shape, p.dtype) == (tangent.shape, tangent.dtype) == (v.shape, dtype)
    for index in np.ndindex(lead):
        assert_same_bits(gd.project(v[index], EVERY), p[index])
        assert_same_bits(gd.project_jvp(v[index], h[index], EVERY), tangent[index])


@names
def test_single_precision_is_double_precision_rounded(cones, rng):
    v, h = points(rng, cones, 50, 3).astype(np.float32), points(rng, cones, 50).astype(np.float32)
    for dual in (False, True):
        assert_same_bits(gd.project(v, cones, dual), gd.project(v.astype(float), cones, dual).astype(np.float32))
        exact = gd.project_jvp(v.astype(float), h.astype(float), cones, dual)
        assert_same_bits(gd.project_jvp(v, h, cones, dual), exact.astype(np.float32))
    assert gd.project_jvp(v, h.astype(float), cones).dtype == np.float64


@names
def test_any_batch_gives_the_same_bits(cones, rng, monkeypatch):
    """Alone, in any company, in any order, on any number of threads."""
    v, h = points(rng, cones, 333, 8), points(rng, cones, 333)
    v[5] = np.nan
    p, tangent = gd.project(v, cones), gd.project_jvp(v, h, cones)
    for pick in (slice(0, 1), slice(6, 7), slice(3, 20), slice(332, 333), rng.permutation(333)):
        assert_same_bits(gd.project(v[pick], cones), p[pick])
        assert_same_bits(gd.project_jvp(v[pick], h[pick], cones), tangent[pick])
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        many = np.tile(v, (20, 1))
        assert_same_bits(gd.project(many, cones), np.tile(p, (20, 1)))


@names
def test_strides(cones, rng):
    v, h = points(rng, cones, 12), points(rng, cones, 12)
    p, tangent = gd.project(v, cones), gd.project_jvp(v, h, cones)
    layouts = {
        "columns first": np.asfortranarray,
        "reversed": lambda a: a[::-1].copy()[::-1],
        "last axis reversed": lambda a: a[:, ::-1].copy()[:, ::-1],
        "every second": lambda a: np.repeat(a, 2, 0)[::2],
        "read-only": lambda a: np.frombuffer(a.tobytes()).reshape(a.shape),
    }
    for name, layout in layouts.items():
        assert_same_bits(gd.project(layout(v), cones), p, name)
        assert_same_bits(gd.project_jvp(layout(v), layout(h), cones), tangent, name)
    axes = np.moveaxis(points(rng, cones, 24).reshape(2, 3, 4, -1), 0, 2)
    assert_same_bits(gd.project(axes, cones), gd.project(np.ascontiguousarray(axes), cones))
    assert_same_bits(gd.project(np.broadcast_to(v[0], v.shape), cones), np.broadcast_to(p[0], p.shape))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_cone(bad, rng):
    v, h = points(rng, EVERY, 20), points(rng, EVERY, 20)
    for dual in (False, True):
        p, tangent = gd.project(v, EVERY, dual), gd.project_jvp(v, h, EVERY, dual)
        row = 0
        for cone in EVERY:
            each = 1 if isinstance(cone, gd.Zero | gd.Nonnegative) else 3 if cone.code > 3 else cone.rows
            for first in range(row, row + cone.rows, each):
                spoiled = v.copy()
                spoiled[7, first + each - 1] = bad
                hit = np.zeros(v.shape, bool)
                hit[7, first : first + each] = True
                for found, clean in (
                    (gd.project(spoiled, EVERY, dual), p),
                    (gd.project_jvp(spoiled, h, EVERY, dual), tangent),
                ):
                    assert np.all(np.isnan(found[hit])), cone
                    assert_same_bits(found[~hit], clean[~hit])
            row += cone.rows


def test_a_dict_of_cones(rng):
    listed = [gd.Zero(1), gd.Nonnegative(2), gd.SecondOrder(3), gd.PSD(2), gd.PSD(3), gd.Exponential(2)]
    listed += [gd.DualExponential(1), gd.Power(0.3), gd.DualPower(0.4)]
    entries = {"p": [0.3, -0.4], "z": 1, "l": 2, "q": [3], "s": [2, 3], "ep": 2, "ed": 1}
    v = points(rng, listed, 4)
    assert_same_bits(gd.project(v, entries), gd.project(v, listed))
    assert gd.project(np.zeros((3, 0)), []).shape == (3, 0)


def test_many_equal_cones_are_as_one_after_another(rng):
    v = rng.standard_normal((3, 30))
    for one, many in (
        (gd.Exponential(), [gd.Exponential(4), gd.Exponential(0), gd.Exponential(6)]),
        (gd.SecondOrder(3), [gd.SecondOrder(3)] * 10),
        (gd.PSD(2), [gd.PSD(2)] * 10),
    ):
        assert_same_bits(gd.project(v, many), gd.project(v.reshape(3, 10, 3), [one]).reshape(3, 30))
    alphas = rng.uniform(0.1, 0.9, 10)
    apart = [gd.project(v[:, 3 * i : 3 * i + 3], [gd.Power(alpha)]) for i, alpha in enumerate(alphas)]
    assert_same_bits(gd.project(v, [gd.Power(alpha) for alpha in alphas]), np.concatenate(apart, 1))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gd.project(np.zeros(4), [gd.Exponential()]), gd.ShapeError, ["v", "(..., 3)", "(4,)"]),
        (lambda: gd.project(1.0, [gd.Nonnegative(1)]), gd.ShapeError, ["v", "(..., 1)"]),
        (lambda: gd.project(np.zeros(3), [3]), gd.ConeError, ["cones[0]", "Exponential", "DualPower"]),
        (lambda: gd.project(np.zeros(3, complex), [gd.Zero(3)]), gd.DtypeError, ["v", "complex"]),
        (lambda: gd.project_jvp(np.zeros(3), np.zeros(2), [gd.Zero(3)]), gd.ShapeError, ["v_dot", "(3,)", "(2,)"]),
        (lambda: gd.project_vjp(np.zeros(3), "x", [gd.Zero(3)]), gd.ArgumentError, ["p_bar"]),
        (lambda: gd.project(torch.zeros(4), [gd.Exponential()]), gd.ShapeError, ["v", "(..., 3)"]),
        (lambda: gd.project_vjp(torch.zeros(3), torch.zeros(2), [gd.Zero(3)]), gd.ShapeError, ["p_bar", "(2,)"]),
        (lambda: gd.solve(np.eye(3), np.zeros(3), np.eye(3), np.zeros(3), {"l": 2, "q": [2]}), gd.ShapeError, ["A"]),
    ],
)
def test_what_is_refused(call, error, words):
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


# ---- torch -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dual", [False, True])
def test_gradcheck(dual, rng):
    v = torch.from_numpy(points(rng, EVERY, 4).reshape(2, 2, -1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: gd.project(v, EVERY, dual), (v,), check_forward_ad=True)


def test_torch_agrees_with_numpy_and_keeps_types(rng):
    array, h = points(rng, EVERY, 6), points(rng, EVERY, 6)
    for dtype in (torch.float64, torch.float32):
        v = torch.from_numpy(array).to(dtype)
        p = gd.project(v, EVERY)
        assert p.dtype == dtype
        assert not p.requires_grad
        assert_same_bits(p.numpy(), gd.project(v.numpy(), EVERY))
        tangent = gd.project_jvp(v, torch.from_numpy(h).to(dtype), EVERY)
        assert_same_bits(tangent.numpy(), gd.project_jvp(v.numpy(), h.astype(v.numpy().dtype), EVERY))
        v.requires_grad_()
        (bar,) = torch.autograd.grad(gd.project(v, EVERY), v, torch.from_numpy(h).to(dtype))
        assert bar.dtype == dtype
        assert_same_bits(bar.numpy(), tangent.numpy())


def test_forward_mode_and_transforms(rng):
    v, h = (torch.from_numpy(points(rng, EVERY, 5)) for _ in range(2))
    expected = gd.project_jvp(v, h, EVERY)
    with forward_ad.dual_level():
        dot = forward_ad.unpack_dual(gd.project(forward_ad.make_dual(v, h), EVERY)).tangent
    assert_same_bits(dot.numpy(), expected.numpy())
    columns = torch.func.vmap(torch.func.jacfwd(lambda v: gd.project(v, EVERY)))(v)
    rows = torch.func.vmap(torch.func.jacrev(lambda v: gd.project(v, EVERY)))(v)
    assert_close(columns.numpy(), rows.numpy(), 1e-14)
    assert_close((columns @ h[..., None])[..., 0].numpy(), expected.numpy(), 1e-13)
    mapped = torch.func.vmap(lambda v: gd.project(v, EVERY), in_dims=1, out_dims=1)(v.T)
    assert_same_bits(mapped.numpy(), gd.project(v, EVERY).T.numpy())


def test_second_and_third_derivatives(rng):
    """By finite differences of the derivative below; in each mode, and in v and the direction together."""
    v, h = (torch.from_numpy(points(rng, EVERY, 2)).requires_grad_() for _ in range(2))
    assert torch.autograd.gradgradcheck(lambda v: gd.project(v, EVERY), (v,), check_fwd_over_rev=True)
    assert torch.autograd.gradcheck(lambda *a: gd.project_jvp(*a, EVERY, dual=True), (v, h), check_forward_ad=True)
    first = torch.func.jacfwd(torch.func.jacfwd(lambda v: gd.project(v, EVERY)))(v.detach()[0])
    second = torch.func.jacrev(torch.func.jacrev(lambda v: gd.project(v, EVERY)))(v.detach()[0])
    assert_close(first.numpy(), second.numpy(), 1e-11)
    assert first.any()


# ---- the GPU kernel --------------------------------------------------------------------------------------------------

emulated = pytest.mark.skipif(available() is not None, reason=f"the emulation of CUDA {available()}")


class Emulation:
    """A device on which the kernel itself runs, emulated."""

    def __init__(self, monkeypatch, schedule: str = "", blocks: int = 1) -> None:
        self.package, self.driver = Package(), EmulatedDriver(schedule=schedule, blocks=blocks)
        monkeypatch.setattr(_dispatch, "BACKENDS", (CudaBackend(self.driver), CpuBackend()))

    def project(self, v, cones, dual=False):
        return gd.project(self.package.wrap(v), cones, dual).native

    def jvp(self, v, h, cones, dual=False):
        return gd.project_jvp(self.package.wrap(v), self.package.wrap(h), cones, dual).native


@emulated
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_kernel_agrees_with_the_library(monkeypatch, rng, dtype):
    device = Emulation(monkeypatch)
    cones = [*EVERY, gd.PSD(3)]
    v, h = points(rng, cones, 11, 3).astype(dtype), points(rng, cones, 11).astype(dtype)
    v[4, 6] = np.nan
    tolerance = 1e-13 if dtype is np.float64 else 1e-6
    size = np.nanmax(np.abs(v), -1, keepdims=True)
    for dual in (False, True):
        for found, expected, unit in (
            (device.project(v, cones, dual), gd.project(v, cones, dual), size),
            (device.jvp(v, h, cones, dual), gd.project_jvp(v, h, cones, dual), 1),
        ):
            assert found.dtype == dtype
            np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
            assert_close(np.nan_to_num(found / unit), np.nan_to_num(expected / unit), tolerance)
    strided = np.moveaxis(np.ascontiguousarray(np.moveaxis(v, 0, -1)), -1, 0)
    assert_same_bits(device.project(strided, cones), device.project(v, cones))
    assert device.project(v[:0], cones).shape == (0, v.shape[1])
    assert_same_bits(device.project(v[:6].reshape(2, 3, -1), cones).reshape(6, -1), device.project(v[:6], cones))
    assert device.package.waits == 0


@emulated
def test_kernel_gives_the_same_bits_in_any_batch_and_schedule(monkeypatch, rng):
    v = points(rng, [gd.PSD(5), gd.Exponential()], 67, 3)
    cones = [gd.PSD(5), gd.Exponential()]
    whole = Emulation(monkeypatch).project(v, cones)
    for schedule in SCHEDULES:
        for blocks in (1, 3):
            assert_same_bits(Emulation(monkeypatch, schedule, blocks).project(v, cones), whole)
    for pick in (slice(3, 4), slice(30, 50)):
        assert_same_bits(Emulation(monkeypatch).project(v[pick].copy(), cones), whole[pick])


@emulated
def test_kernel_with_large_cones_in_global_memory(monkeypatch, rng):
    """An order that no group of threads has shared memory for is told by the plan; here the plan is told."""
    monkeypatch.setattr("gpudiff.jit.kernels.architecture", lambda arch: architecture("sm_75")._replace(shared=4096))
    device = Emulation(monkeypatch)
    v = points(rng, [gd.PSD(12)], 3)
    assert projection_plan(projection_shape(as_product([gd.PSD(12)]), "float64"), architecture("sm_90")).level == 0
    assert_close(device.project(v, [gd.PSD(12)]), gd.project(v, [gd.PSD(12)]), 1e-13)
    assert device.driver.launches[-1][3] == 0, "bytes of shared memory"


@emulated
def test_torch_tensors_on_a_device(monkeypatch, rng):
    device, package = Emulation(monkeypatch), Posing()
    monkeypatch.setattr(torch_arrays, "PACKAGE", package)
    monkeypatch.setattr(torch_arrays, "lies_on_host", lambda tensor: False)
    cones = [gd.PSD(5), gd.Exponential()]
    array, direction = points(rng, cones, 6), points(rng, cones, 6)
    v = torch.from_numpy(array.reshape(2, 3, -1)).requires_grad_()
    p = gd.project(v, cones)
    p.backward(torch.from_numpy(direction.reshape(2, 3, -1)))
    assert_close(p.detach().numpy(), gd.project(array, cones).reshape(v.shape), 1e-13)
    assert_close(v.grad.numpy(), gd.project_vjp(array, direction, cones).reshape(v.shape), 1e-13)
    assert {stream for *_, stream in device.driver.launches} == {11}
    assert package.waits == 0


@emulated
def test_cupy_arrays(monkeypatch, rng):
    cupy = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    for name in [name for name in sys.modules if name.startswith("gpudiff.cupy")]:
        monkeypatch.delitem(sys.modules, name)
    device = Emulation(monkeypatch)
    cones = [gd.PSD(5), gd.Exponential()]
    array, direction = points(rng, cones, 6), points(rng, cones, 6)
    v, h = (cupy.asarray(a.reshape(2, 3, -1)) for a in (array, direction))
    try:
        for found, expected in (
            (gd.project(v, cones), gd.project(array, cones)),
            (gd.project_jvp(v, h, cones), gd.project_jvp(array, direction, cones)),
            (gd.project_vjp(v, h, cones, dual=True), gd.project_vjp(array, direction, cones, dual=True)),
        ):
            assert type(found) is FakeArray
            assert_close(np.asarray(found), expected.reshape(v.shape), 1e-13)
        assert {stream for *_, stream in device.driver.launches} == {13}
        assert cupy.waits == 0
        with pytest.raises(gd.DeviceError, match="v_dot: expected an array on cuda:0, where v lies, got one in host"):
            gd.project_jvp(v, np.asarray(direction).reshape(v.shape), cones)
    finally:
        for name in [name for name in sys.modules if name.startswith("gpudiff.cupy")]:
            del sys.modules[name]  # it holds the stand-in


RACES = """
import numpy as np
import gpudiff as gd
from device_arrays import Package
from emulated_driver import EmulatedDriver
from gpudiff import _dispatch
from gpudiff.backends.cpu import CpuBackend
from gpudiff.backends.cuda import CudaBackend

driver = EmulatedDriver(sanitize=True)
driver.remove = "{remove}"
_dispatch.BACKENDS = (CudaBackend(driver), CpuBackend())
wrap = Package().wrap
rng = np.random.default_rng(0)
for cones in ([gd.PSD(5), gd.PSD(4), gd.Exponential()], [gd.PSD(7), gd.SecondOrder(3)]):
    v, h = rng.standard_normal((2, 5, sum(cone.rows for cone in cones)))
    p, tangent = gd.project(wrap(v), cones).native, gd.project_jvp(wrap(v), wrap(h), cones).native
    assert np.max(np.abs(p - gd.project(v, cones))) < 1e-13
    assert np.max(np.abs(tangent - gd.project_jvp(v, h, cones))) < 1e-13
"""


@emulated
@pytest.mark.slow
def test_no_data_race_between_the_threads_of_a_group():
    code, output = run_sanitized(RACES.format(remove=""))
    assert code == 0, output[-4000:]


@emulated
@pytest.mark.slow
def test_a_kernel_without_barriers_is_caught():
    code, output = run_sanitized(RACES.format(remove="all"))
    assert code == RACE, output[-4000:]


def test_shape_of_a_product_of_cones():
    cones = [gd.Nonnegative(2), gd.Nonnegative(3), gd.Exponential(2), gd.Exponential(0), gd.Exponential(1)]
    cones += [gd.Power(0.25), gd.Power(0.5), gd.PSD(3)]
    shape = projection_shape(as_product(cones), "float32")
    runs = (Run(1, 1, 5, 0), Run(4, 3, 3, 5), Run(6, 3, 2, 14, (0.25, 0.5)), Run(3, 6, 1, 20))
    assert shape == ProjectionShape(runs, "float32")
    assert (shape.largest_order, shape.items) == (3, 5)
    plan = projection_plan(shape, architecture("sm_90"))
    source = plan.specification("project", shape).source()
    for line in ("#define GD_RUN_ROWS 1, 3, 3, 6", "#define GD_ALPHAS 0.25, 0.5", "#define GD_DATA float"):
        assert line in source


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"])
def test_kernel_compiles_without_spilling(arch):
    pytest.importorskip("cuda.core", reason="install gpudiff[kernels] to compile for CUDA")
    for cones, dtype in ((EVERY, "float64"), ([gd.PSD(8)], "float32"), ([gd.PSD(300)], "float64")):
        shape = projection_shape(as_product(cones), dtype)
        specification = projection_plan(shape, architecture(arch)).specification("project", shape)
        made = compile_source(specification.source(), arch, specification.describe(), [headers.folder()])
        used = made.usage[specification.entry]
        assert used.spill_stores + used.spill_loads == 0
        assert made.cubin[:4] == b"\x7fELF"


def test_every_kind_of_cone_is_among_those_tested():
    kinds = {type(cone) for cones in SINGLE for cone in cones}
    assert kinds == {type(cone) for cone in EVERY} == set(gd._cones._KINDS)
