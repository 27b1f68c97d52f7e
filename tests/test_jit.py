"""From a problem's structure to a kernel ready to launch: specification, plan, and `Kernels` over a made-up driver.

Compiler and cache are tested in test_jit_compile.py, the CUDA driver in test_jit_driver.py.
"""

from __future__ import annotations

import ctypes
import itertools
import logging
import re
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import gpudiff as gd
from gpudiff._cones import as_product
from gpudiff.jit import arguments, headers
from gpudiff.jit.driver import Compiled, DeviceFacts, Usage
from gpudiff.jit.kernels import MOST_WORKSPACE, Kernels
from gpudiff.jit.plan import (
    ARCHITECTURES,
    GROUP_SIZES,
    GROUPS,
    LARGEST_GROUP,
    LEVELS,
    REGISTERS,
    REGISTERS_PER_THREAD,
    WARP,
    architecture,
    group_for,
    plan,
)
from gpudiff.jit.specification import KINDS, Shape, Specification, memory, shape_of

ARCHS = [f"sm_{number}" for number in ARCHITECTURES]
SHAPES = [
    Shape(n, zero, nonnegative, second_order, dtype=dtype)
    for (n, zero, nonnegative, second_order), dtype in itertools.product(
        [
            (1, 0, 0, ()),
            (2, 0, 4, ()),
            (8, 0, 16, ()),
            (16, 4, 32, ()),
            (10, 0, 10, (3, 17, 4)),
            (32, 8, 64, ()),
            (64, 16, 128, ()),
            (100, 50, 100, ()),
            (200, 0, 300, (40,) * 5),
            (500, 100, 1900, ()),
        ],
        ["float64", "float32"],
    )
]


@pytest.fixture(autouse=True)
def no_overrides(monkeypatch):
    for name in ("GROUP", "LEVEL"):
        monkeypatch.delenv(f"GPUDIFF_GPU_{name}", raising=False)


# ---- specification ---------------------------------------------------------------------------------------------------


def macros(source: str) -> dict[str, str]:
    return dict(re.findall(r"^#define GD_(\w+) (.*)$", source, re.MULTILINE))


def test_source_of_a_plain_shape():
    specification = Specification("solve", Shape(32, 8, 64), 32, 32, 1, 10)
    assert macros(specification.source()) == {
        "N": "32", "ZERO_ROWS": "8", "NONNEGATIVE_ROWS": "64", "SECOND_ORDER_COUNT": "0", "HAS_P": "1",
        "DATA": "double", "QUICK": "float", "GROUP": "32", "THREADS": "32", "LEVEL": "1", "MIN_BLOCKS": "10",
    }  # fmt: skip
    assert specification.source().endswith('\n#include "entry/gpu/solve_kernel.cuh"\n')
    assert specification.entry == "gd_solve_kernel"


def test_source_of_a_mixed_shape():
    shape = Shape(4, 1, 3, (4, 3), (7, 3, 4, 8, 0, 1, 2, 5, 6, 9, 10), has_P=False, dtype="float32")
    found = macros(Specification("vjp", shape, 8, 32, quick="float64").source())
    assert found["SECOND_ORDER_COUNT"] == "2"
    assert found["SECOND_ORDER_DIMENSIONS"] == "4, 3"
    assert found["ROW_OF"] == "7, 3, 4, 8, 0, 1, 2, 5, 6, 9, 10"
    assert (found["HAS_P"], found["DATA"], found["QUICK"]) == ("0", "float", "double")


def test_every_kind_has_its_source_and_its_entry():
    for kind in KINDS:
        specification = Specification(kind, Shape(4), 4, 32)
        (name,) = re.findall(r'#include "(.*)"', specification.source())
        assert f" {specification.entry}(" in (headers.folder() / name).read_text()


def test_description_names_the_sizes():
    assert Shape(32, 8, 64).describe() == "n=32, m=72 (8 zero, 64 nonnegative), float64"
    assert Shape(3, has_P=False, dtype="float32").describe() == "n=3, m=0, no P, float32"
    text = Specification("jvp", Shape(5, second_order=(3, 4)), 4, 32, 2).describe()
    assert text == "jvp kernel (n=5, m=7 (2 second-order of 3, 4 rows), float64, group 4, level 2)"


def test_shape_orders_the_rows_as_the_kernels_do():
    cones = as_product([gd.SecondOrder(3), gd.Nonnegative(2), gd.Zero(1), gd.SecondOrder(1), gd.SecondOrder(2)])
    shape = shape_of(cones, 4, True, "float64")
    assert (shape.zero, shape.nonnegative, shape.second_order) == (1, 3, (3, 2))
    assert shape.row_of == (5, 3, 4, 6, 0, 1, 2, 7, 8)
    assert shape.m == cones.rows
    assert shape_of(as_product([gd.Zero(2), gd.Nonnegative(3), gd.SecondOrder(3)]), 4, True, "float64").row_of == ()


def test_shape_is_one_object_and_equal_by_value():
    cones = as_product({"z": 1, "l": 2})
    assert shape_of(cones, 3, True, "float64") is shape_of(cones, 3, True, "float64")
    assert shape_of(cones, 3, True, "float64") == Shape(3, 1, 2)
    assert hash(Shape(3, 1, 2)) == hash(Shape(3, 1, 2))
    others = [Shape(4, 1, 2), Shape(3, 2, 1), Shape(3, 1, 2, has_P=False), Shape(3, 1, 2, dtype="float32")]
    assert Shape(3, 1, 2) not in others


# ---- plan ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_size_is_refused_and_every_plan_fits(arch, kind):
    machine = architecture(arch)
    for shape in SHAPES:
        laid = plan(kind, shape, machine)
        assert laid.group in GROUP_SIZES
        assert laid.threads == max(WARP, laid.group)
        assert laid.groups_per_block * laid.group == laid.threads
        assert laid.shared_per_block <= machine.shared_per_block
        assert laid.min_blocks >= 1
        assert laid.min_blocks * laid.threads <= machine.threads
        assert laid.min_blocks <= machine.blocks
        assert laid.min_blocks * (laid.shared_per_block + machine.reserved) <= machine.shared
        assert laid.min_blocks * laid.threads * REGISTERS_PER_THREAD <= REGISTERS
        if kind != "sum":
            assert (laid.shared_bytes, laid.global_bytes) == memory(kind, shape, "float32", laid.level, laid.group)


@pytest.mark.parametrize("kind", KINDS[:4])
def test_the_level_is_the_lowest_with_enough_warps_or_the_one_with_most(kind):
    for shape, arch in itertools.product(SHAPES, ARCHS):
        machine = architecture(arch)
        warps = {}
        for level in LEVELS:
            try:
                laid = plan(kind, shape, machine, level=level)
            except gd.BackendError:
                continue
            assert laid.level == level
            warps[level] = laid.min_blocks * laid.threads // WARP
        chosen = plan(kind, shape, machine).level
        near = {level: count for level, count in warps.items() if level != LEVELS[-1]}
        enough = [level for level, count in near.items() if count >= 8]
        expected = min(enough) if enough else max(near, key=near.__getitem__) if near else LEVELS[-1]
        assert chosen == expected, (shape.describe(), arch, warps)


def test_levels_are_all_in_use():
    levels = {plan("solve", shape, architecture(arch)).level for shape in SHAPES for arch in ARCHS}
    assert levels == set(LEVELS)


def test_groups_by_order():
    sizes = {1: 4, 8: 4, 9: 8, 16: 8, 17: 16, 24: 16, 25: 32, 56: 32, 57: 64, 96: 64, 97: 128, 160: 128, 161: 256}
    for order, group in sizes.items():
        assert group_for(Shape(order)) == group
        assert group_for(Shape(order - 1, zero=1)) == group
    assert [largest for largest, _ in GROUPS] == sorted(largest for largest, _ in GROUPS)
    assert LARGEST_GROUP in GROUP_SIZES


def test_facts_of_architectures():
    for machine in ARCHITECTURES.values():
        assert machine.shared_per_block == machine.shared - machine.reserved
        assert machine.threads % WARP == 0
        assert machine.blocks * WARP <= machine.threads
    shared = [ARCHITECTURES[number].shared_per_block >> 10 for number in (75, 80, 86, 90, 100, 120)]
    assert shared == [64, 163, 99, 227, 227, 99]


@pytest.mark.parametrize(
    ("arch", "like"), [("sm_90a", 90), ("sm_91", 90), ("sm_103", 100), ("sm_121", 120), ("sm_200", 120)]
)
def test_an_unknown_architecture_has_what_the_nearest_lower_one_has(arch, like):
    assert architecture(arch) == ARCHITECTURES[like]


@pytest.mark.parametrize("arch", ["sm_70", "sm_", "90", "compute_90", "sm_ninety", ""])
def test_a_bad_architecture_is_named(arch):
    with pytest.raises(gd.ArgumentError, match=f"^arch: expected .*got {arch!r}|^arch: expected .*got {arch}$"):
        architecture(arch)


def test_what_does_not_fit_is_explained():
    with pytest.raises(gd.BackendError, match=r"level 0 of the solve kernel for n=500, m=2000 .* of shared memory"):
        plan("solve", SHAPES[-2], architecture("sm_90"), level=0)
    with pytest.raises(gd.ArgumentError, match=r"^group: expected one of 1, 2, 4, .*, got 48$"):
        plan("solve", SHAPES[0], architecture("sm_90"), group=48)


# ---- Kernels, over a driver that only counts ------------------------------------------------------------------------


class CountingFunction:
    def __init__(self, blocks):
        self.blocks = blocks
        self.launches = []

    def blocks_per_multiprocessor(self, threads, shared_bytes):
        return self.blocks

    def launch(self, grid, threads, shared_bytes, stream, arguments):
        self.launches.append((grid, threads, shared_bytes, stream, arguments))


class CountingDriver:
    def __init__(self, seconds=0.0, blocks=3, shared=233472):
        self.seconds, self.blocks, self.shared = seconds, blocks, shared
        self.compiled, self.loaded = [], []
        self.at_once, self.most_at_once = 0, 0
        self.lock = threading.Lock()

    def facts(self, device):
        return DeviceFacts(f"device {device}", "sm_90", 10, self.shared - 1024, self.shared, "13.0")

    def compile(self, source, arch, name):
        with self.lock:
            self.compiled.append((source, arch, name))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.seconds)
        with self.lock:
            self.at_once -= 1
        entry = f"gd_{name.split()[0]}_kernel"
        return Compiled(b"code of " + entry.encode(), {entry: Usage(100)}, self.seconds, entry == "gd_jvp_kernel")

    def load(self, device, cubin, entry, shared_bytes):
        assert cubin == b"code of " + entry.encode()
        self.loaded.append((device, entry, shared_bytes))
        return CountingFunction(self.blocks)


def test_a_kernel_is_made_once_for_each_device_kind_and_shape(caplog):
    driver = CountingDriver()
    kernels = Kernels(driver)
    shape = Shape(8, 0, 16)
    with caplog.at_level(logging.INFO, "gpudiff"):
        ready = kernels.get(0, "solve", shape)
    assert kernels.get(0, "solve", Shape(8, 0, 16)) is ready
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("solve kernel (n=8, m=16 (16 nonnegative), float64, group 4, level")
    assert ": compiled and loaded in" in message
    assert len(driver.compiled) == 1
    for device, kind, other in [(1, "solve", shape), (0, "careful", shape), (0, "solve", Shape(9, 0, 16))]:
        assert kernels.get(device, kind, other) is not ready
    assert kernels.get(0, "solve", shape, "float64") is not ready
    assert len(driver.compiled) == 5
    kernels.get(0, "jvp", shape)
    assert (kernels.compiled, kernels.cache_hits) == (5, 1)
    assert ready.usage == Usage(100)
    source, arch, _ = driver.compiled[0]
    assert (source, arch) == (ready.specification.source(), "sm_90")
    assert driver.loaded[0] == (0, "gd_solve_kernel", ready.plan.shared_per_block)


def test_launch_geometry():
    kernels = Kernels(CountingDriver())
    shape = Shape(8, 0, 16)
    ready = kernels.get(0, "solve", shape)
    each = ready.plan.groups_per_block
    assert each == 8
    assert ready.grid_limit == 30
    assert [ready.grid(items) for items in (0, 1, each, each + 1, 10**6)] == [1, 1, 1, 2, 30]
    far = Kernels(CountingDriver()).get(0, "solve", Shape(200, 0, 400))
    assert far.workspace_bytes(7) == 7 * far.plan.global_bytes > 0
    huge = Kernels(CountingDriver(blocks=40)).get(0, "solve", Shape(2000, 0, 3000))
    assert 1 < huge.grid_limit < 400
    assert huge.workspace_bytes(huge.grid_limit) <= MOST_WORKSPACE
    total = kernels.get(0, "sum", shape)  # one thread for each word, however many
    assert total.grid(10**6) == 10**6 // 32
    assert total.workspace_bytes(5) == 0
    block = ctypes.c_int64()
    ready.launch(4, 77, block)
    assert ready.function.launches == [(4, ready.plan.threads, ready.plan.shared_per_block, 77, block)]


def test_threads_that_want_the_same_kernel_compile_it_once():
    driver = CountingDriver(seconds=0.05)
    kernels = Kernels(driver)
    with ThreadPoolExecutor(8) as pool:
        ready = list(pool.map(lambda _: kernels.get(0, "solve", Shape(8)), range(8)))
    assert len(driver.compiled) == 1
    assert len(set(map(id, ready))) == 1


def test_different_kernels_compile_side_by_side(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    driver = CountingDriver(seconds=0.05)
    ready = Kernels(driver).get_all(0, KINDS, Shape(8))
    assert [kernel.specification.kind for kernel in ready] == list(KINDS)
    assert len(driver.compiled) == len(KINDS)
    assert driver.most_at_once > 1


def test_a_failure_is_not_remembered(monkeypatch):
    driver = CountingDriver()
    kernels = Kernels(driver)
    monkeypatch.setattr(driver, "load", lambda *_: (_ for _ in ()).throw(gd.BackendError("no")))
    with pytest.raises(gd.BackendError, match=r"^no$"):
        kernels.get(0, "solve", Shape(8))
    monkeypatch.undo()
    assert kernels.get(0, "solve", Shape(8)).grid_limit == 30


def test_a_kernel_that_cannot_be_resident_is_an_error():
    with pytest.raises(gd.BackendError, match=r"no block of the solve kernel \(n=8, .* fits on a multiprocessor"):
        Kernels(CountingDriver(blocks=0)).get(0, "solve", Shape(8))


def test_a_device_with_less_shared_memory_than_its_kind_gets_less():
    shape = Shape(64, 16, 128)
    usual = Kernels(CountingDriver()).get(0, "solve", shape).plan
    poor = Kernels(CountingDriver(shared=60 << 10)).get(0, "solve", shape).plan
    assert poor.shared_per_block <= 59 << 10
    assert (poor.level, poor.min_blocks) != (usual.level, usual.min_blocks)


def test_environment_overrides_group_and_level(monkeypatch):
    kernels = Kernels(CountingDriver())
    shape = Shape(16, 0, 32)
    before = kernels.get(0, "solve", shape)
    monkeypatch.setenv("GPUDIFF_GPU_GROUP", "32")
    monkeypatch.setenv("GPUDIFF_GPU_LEVEL", "3")
    assert kernels.get(0, "solve", shape) is before
    kernels.forget()
    after = kernels.get(0, "solve", shape).plan
    assert (after.group, after.level) == (32, 3)
    assert (before.plan.group, before.plan.level) != (32, 3)
    assert kernels.get(0, "sum", shape).plan.group == 1
    monkeypatch.setenv("GPUDIFF_GPU_GROUP", "33")
    with pytest.raises(gd.ArgumentError, match=r"^GPUDIFF_GPU_GROUP: expected one of 1, 2, .*, got '33'$"):
        kernels.get(0, "vjp", shape)


def test_finding_a_kernel_takes_no_time():
    kernels = Kernels(CountingDriver())
    cones = as_product([gd.SecondOrder(40)] * 50 + [gd.Nonnegative(3)])
    kernels.get(0, "solve", shape_of(cones, 8, True, "float64"))
    best = min(_seconds(lambda: kernels.get(0, "solve", shape_of(cones, 8, True, "float64")), 1000) for _ in range(5))
    assert best < 20e-6  # it takes 0.5 µs; hashing the 2003 rows anew would take 20


def _seconds(call, repeats):
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


# ---- arguments -------------------------------------------------------------------------------------------------------


def test_structs_have_the_sizes_that_a_compiler_gives_them(compile_c):
    names = {
        "gd_control": arguments.Control,
        "gd_unfinished": arguments.Unfinished,
        "gd_gpu_solve": arguments.GpuSolve,
        "gd_gpu_sensitivity": arguments.GpuSensitivity,
        "gd_gpu_sum": arguments.GpuSum,
        "gd_gpu_project": arguments.GpuProject,
    }
    checks = [f'_Static_assert(sizeof({name}) == {ctypes.sizeof(kind)}, "{name}");' for name, kind in names.items()]
    for name, kind in names.items():
        for field, *_ in kind._fields_:
            offset = getattr(kind, field).offset
            checks.append(f'_Static_assert(offsetof({name}, {field}) == {offset}, "{name}.{field}");')
    header = Path(headers.folder(), "entry", "gpu", "arguments.h")
    compile_c(f'#include <stddef.h>\n#include "{header}"\n' + "\n".join(checks) + "\n")


@pytest.fixture
def compile_c():
    compiler = shutil.which("gcc") or pytest.skip("needs gcc")

    def check(source: str) -> None:
        command = [compiler, "-std=c11", "-fsyntax-only", "-xc", "-"]
        done = subprocess.run(command, input=source, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]

    return check


def test_what_does_not_fit_into_global_memory_is_refused():
    with pytest.raises(gd.BackendError, match=r"n=20000.*global memory"):
        plan("solve", Shape(20000, 0, 20000), architecture("sm_90"))


def test_a_level_that_is_asked_for_binds_the_fast_run_alone_where_others_do_not_fit(monkeypatch):
    monkeypatch.setenv("GPUDIFF_GPU_LEVEL", "0")
    shape, kernels = Shape(56, 0, 104), Kernels(CountingDriver())
    monkeypatch.setenv("GPUDIFF_GPU_GROUP", "16")
    assert kernels.get(0, "solve", shape).plan.level == 0
    assert kernels.get(0, "careful", shape).plan.level > 0
