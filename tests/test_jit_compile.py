"""Compiling for CUDA without a GPU, the cache on disk, the headers that are shipped, and `gpudiff warmup`."""

from __future__ import annotations

import itertools
import logging
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import gpudiff as gd
from gpudiff.cli.errors import ExitCode
from gpudiff.cli.main import main
from gpudiff.jit import build as building
from gpudiff.jit import headers, prepare
from gpudiff.jit.ahead import architectures
from gpudiff.jit.build import build
from gpudiff.jit.cache import Cache, default_folder, key_of
from gpudiff.jit.compiler import compile_source, compiler_version, read_usage
from gpudiff.jit.cuda_driver import CudaDriver
from gpudiff.jit.driver import Compiled, DeviceFacts, Usage
from gpudiff.jit.specification import DERIVATIVES, KINDS, Shape, Specification

SMALL = 'extern "C" __global__ void gd_small(double* p) { p[threadIdx.x] += GD_STEP; }\n'
SPILLING = r"""
extern "C" __global__ void __launch_bounds__(1024, 1) gd_spilling(double* p) {
  __shared__ double last[32];
  double a[64];
#pragma unroll
  for (int i = 0; i < 64; i++) a[i] = p[i * 1024 + threadIdx.x];
#pragma unroll
  for (int k = 0; k < 3; k++) {
#pragma unroll
    for (int i = 0; i < 64; i++) a[i] = a[i] * a[(i + 7) % 64] + a[(i * 5) % 64];
  }
  last[threadIdx.x % 32] = a[3];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 64; i++) p[i * 1024 + threadIdx.x] = a[i] + last[i % 32];
}
extern "C" __global__ void gd_frugal(double* p) { p[0] = 1; }
"""


@pytest.fixture
def nvrtc():
    for module in ("cuda.core", "cuda.bindings.nvrtc"):
        pytest.importorskip(module, reason="install gpudiff[cuda] to compile for CUDA")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("GPUDIFF_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


# ---- the compiler ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["sm_75", "sm_90", "sm_120"])
def test_source_becomes_machine_code_and_its_usage(nvrtc, arch):
    compiled = compile_source(SPILLING, arch, "a test")
    assert compiled.cubin[:4] == b"\x7fELF"
    assert compiled.seconds > 0
    assert not compiled.from_cache
    spilling, frugal = compiled.usage["gd_spilling"], compiled.usage["gd_frugal"]
    assert spilling.registers == 64  # of 65536, for 1024 threads
    assert min(spilling.spill_stores, spilling.spill_loads, spilling.stack) > 0
    assert spilling.static_shared == 256
    assert 0 < frugal.registers < 32
    assert frugal[1:] == (0, 0, 0, 0)


def test_usage_counts_functions_that_were_not_inlined():
    log = """
ptxas info    : Compiling entry function 'gd_a' for 'sm_90'
ptxas info    : Function properties for gd_a
ptxas         .     64 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 64 bytes cumulative stack size, 512 bytes smem
ptxas info    : Function properties for _Z6helperPd
ptxas         .     32 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Compiling entry function 'gd_b' for 'sm_90'
ptxas info    : Function properties for gd_b
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
"""
    assert read_usage(log) == {"gd_a": Usage(40, 96, 12, 20, 512), "gd_b": Usage(8)}
    assert read_usage("") == {}


def test_an_error_names_the_shape_and_quotes_the_compiler(nvrtc):
    name = Specification("solve", Shape(32, 8, 64), 32, 32).describe()
    with pytest.raises(gd.CompileError) as error:
        compile_source("int f( {", "sm_90", name)
    text = str(error.value)
    assert "n=32, m=72 (8 zero, 64 nonnegative), float64, group 32" in text
    assert "sm_90" in text
    assert compiler_version() in text
    assert "error: expected" in text
    with pytest.raises(gd.CompileError, match="sm_30"):
        compile_source(SMALL, "sm_30", name)


def test_a_long_log_is_cut(nvrtc):
    source = "\n".join(f"__device__ void f{i}() {{ nothing{i}; }}" for i in range(100))
    with pytest.raises(gd.CompileError, match=r"(?s)nothing0.*… \d+ more lines$") as error:
        compile_source(source, "sm_90", "a test")
    assert len(str(error.value).splitlines()) == 41


def test_threads_compile_side_by_side(nvrtc):
    """The compiler does not hold Python's lock: two threads wait in it at the same time."""
    sources = [SPILLING.replace("k < 3", f"k < {4 + i}") for i in range(2)]
    compile_source(SPILLING, "sm_90", "a test")  # imports what there is to import
    ticks: list[float] = []
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(compile_source, source, "sm_90", "a test") for source in sources]
        while not all(job.done() for job in waiting):
            ticks.append(time.perf_counter())
            time.sleep(0.001)
    assert all(job.result().cubin[:4] == b"\x7fELF" for job in waiting)
    longest = max(later - earlier for earlier, later in itertools.pairwise(ticks))
    assert longest < min(job.result().seconds for job in waiting) / 2  # this thread went on meanwhile


def test_threads_may_be_the_first_to_import_the_compiler(nvrtc, run_python):
    code = """
import threading
from gpudiff.jit.compiler import compile_source
start = threading.Barrier(4)
def compile_one():
    start.wait()
    print(len(compile_source('extern "C" __global__ void gd_x() {}', "sm_90", "a test").cubin) > 0)
threads = [threading.Thread(target=compile_one) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    assert run_python(code).split() == ["True"] * 4


def test_a_missing_package_is_an_error_with_the_remedy(run_python):
    code = """
import sys
sys.modules["cuda.bindings.nvrtc"] = sys.modules["cuda.core"] = None  # what import takes for missing
import gpudiff
from gpudiff.jit.compiler import compile_source
try:
    compile_source("", "sm_90", "a test")
except gpudiff.CompileError:
    print("wrong kind")
except gpudiff.BackendError as error:
    print(error)
"""
    text = run_python(code)
    assert "expected the Python module cuda.bindings.nvrtc" in text
    assert "pip install 'gpudiff[cuda]'" in text


# ---- the cache -------------------------------------------------------------------------------------------------------

COMPILED = Compiled(bytes(range(256)) * 40, {"gd_x": Usage(10, 1, 2, 3, 4)})


def test_what_was_stored_is_found(folder):
    cache = Cache()
    assert cache.get("a" * 64) is None
    cache.put("a" * 64, COMPILED)
    found = Cache().get("a" * 64)
    assert (found.cubin, found.usage, found.from_cache) == (COMPILED.cubin, COMPILED.usage, True)
    assert Cache().get("b" * 64) is None
    assert [path.suffix for path in files(folder)] == [".kernel"]


def test_any_damage_is_noticed_and_repaired(folder, caplog):
    cache = Cache()
    cache.put("a", COMPILED)
    (path,) = files(folder)
    content = path.read_bytes()
    damaged = [b"", content[:-1], content[: len(content) // 2], content + b"\0", b"x" + content[1:], b"\n" * 100]
    damaged += [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(0, len(content), 97)]
    for bad in damaged:
        path.write_bytes(bad)
        caplog.clear()
        assert cache.get("a") is None
        assert f"{path} is damaged" in caplog.text
    cache.put("a", COMPILED)
    assert cache.get("a").cubin == COMPILED.cubin


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_folder() == tmp_path / "cache"
    monkeypatch.delenv("GPUDIFF_CACHE_DIR")
    assert default_folder() == tmp_path / "xdg" / "gpudiff"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder() == tmp_path / "home" / ".cache" / "gpudiff"


def test_a_folder_that_cannot_be_written_to_is_mentioned_once(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache")  # nothing can lie in a file, whoever runs the test
    for key in "ab":
        cache.put(key, COMPILED)
        assert cache.get(key) is None
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert str(tmp_path / "file" / "cache") in message
    assert "GPUDIFF_CACHE_DIR" in message


def test_the_least_recently_used_go_first(folder):
    cache = Cache(limit=5 * (len(COMPILED.cubin) + 500))
    for key in "abcde":
        cache.put(key, COMPILED)
    for age, key in enumerate("edcba"):  # a is the oldest
        os.utime(folder / f"{key}.kernel", (1e9 - age, 1e9 - age))
    assert cache.get("a") is not None  # and the most recently used
    cache.put("f", COMPILED)
    assert [path.stem for path in files(folder)] == ["a", "c", "d", "e", "f"]
    small = Cache(limit=1)
    small.put("g", COMPILED)
    assert [path.stem for path in files(folder)] == ["g"]


def test_what_crashed_processes_left_is_removed(folder):
    cache = Cache()
    cache.put("a", COMPILED)
    for name, age in (("old", 7200), ("young", 10)):
        (folder / f".{name}.tmp").write_bytes(b"half a kernel")
        os.utime(folder / f".{name}.tmp", (time.time() - age,) * 2)
    cache.put("b", COMPILED)
    assert [path.name for path in files(folder)] == [".young.tmp", "a.kernel", "b.kernel"]


def test_many_processes_share_a_folder(run_python, folder):
    """Each stores and reads all keys over and over; nobody ever sees anything but a whole entry."""
    code = """
import logging, random, sys
from gpudiff.jit.cache import Cache
from gpudiff.jit.driver import Compiled, Usage
logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
cache = Cache(limit=400_000)
found = 0
for turn in range(60):
    for key in random.Random(turn).choices(range(8), k=8):  # in turn, each would be the one just thrown out
        entry = cache.get(f"key{key}")
        assert entry is None or entry.cubin == bytes([key]) * 100_000
        found += entry is not None
        cache.put(f"key{key}", Compiled(bytes([key]) * 100_000, {"x": Usage(1)}))
print("found", found)
"""
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda _: run_python(code), range(4)))
    for text in texts:
        assert re.fullmatch(r"found [1-9]\d*\s*", text), text
    assert not [path for path in files(folder) if path.suffix != ".kernel"]
    assert sum(path.stat().st_size for path in files(folder)) <= 400_000


def test_keys_differ_with_every_part():
    parts = {"source": "a", "arch": "b"}
    keys = {key_of(parts), key_of({"source": "b", "arch": "a"}), key_of({"source": "a", "arch": "c"}), key_of({})}
    assert len(keys) == 4
    assert key_of(parts) == key_of(dict(reversed(parts.items())))


# ---- compiler and cache together -------------------------------------------------------------------------------------


def kernels(path: Path, step: str) -> Path:
    """A folder of kernels with one header."""
    (path / "entry" / "gpu").mkdir(parents=True, exist_ok=True)
    (path / "entry" / "gpu" / "arguments.h").write_text("")
    (path / "step.cuh").write_text(f"#define GD_STEP {step}\n")
    return path


def test_a_kernel_is_compiled_once_for_each_thing_it_depends_on(nvrtc, monkeypatch, tmp_path, folder):
    top = kernels(tmp_path / "kernels", "1.0")
    monkeypatch.setattr(headers, "folder", lambda: top)
    source = '#include "step.cuh"\n' + SMALL
    first = build(source, "sm_90", "a test")
    again = build(source, "sm_90", "a test")
    assert (first.from_cache, again.from_cache) == (False, True)
    assert again.cubin == first.cubin
    assert again.usage == first.usage
    assert first.usage["gd_small"].registers > 0
    kernels(top, "2.0")
    changed = build(source, "sm_90", "a test")
    assert not changed.from_cache
    assert changed.cubin != first.cubin
    assert not build(source, "sm_80", "a test").from_cache
    assert not build(source + "\n", "sm_90", "a test").from_cache
    (top / "unused.cuh").write_text("")
    assert not build(source, "sm_90", "a test").from_cache
    monkeypatch.setattr(building, "compiler_version", lambda: "99.0")
    assert not build(source, "sm_90", "a test").from_cache
    monkeypatch.undo()
    monkeypatch.setenv("GPUDIFF_CACHE_DIR", str(folder))
    monkeypatch.setattr(headers, "folder", lambda: top)
    assert build(source, "sm_90", "a test").from_cache
    assert len(files(folder)) == 6


def test_a_damaged_entry_is_compiled_again(nvrtc, monkeypatch, tmp_path, folder):
    top = kernels(tmp_path / "kernels", "1.0")
    monkeypatch.setattr(headers, "folder", lambda: top)
    source = '#include "step.cuh"\n' + SMALL
    first = build(source, "sm_90", "a test")
    (path,) = files(folder)
    path.write_bytes(path.read_bytes()[:-7])
    repaired = build(source, "sm_90", "a test")
    assert not repaired.from_cache
    assert repaired.cubin == first.cubin
    assert build(source, "sm_90", "a test").from_cache


# ---- the headers -----------------------------------------------------------------------------------------------------

KERNELS = Path(__file__).parents[1] / "kernels"
GUARDED = {"pack.hpp"}  # SIMD on the CPU; scalar.cuh leaves it out where __CUDACC__ is defined


def test_the_headers_are_those_of_the_checkout():
    """Or, where the package is installed, the same ones inside it."""
    found = headers.folder()
    assert found in (KERNELS, Path(gd.__file__).parent / "kernels")
    if found != KERNELS:
        names = {path.relative_to(KERNELS) for path in KERNELS.rglob("*") if path.suffix in headers.SUFFIXES}
        assert names == {path.relative_to(found) for path in found.rglob("*") if path.is_file()}
        assert all((found / name).read_bytes() == (KERNELS / name).read_bytes() for name in names)


def test_an_installed_package_has_them_inside(monkeypatch, tmp_path):
    shipped = tmp_path / "gpudiff" / "kernels"
    monkeypatch.setattr(gd, "__path__", [str(tmp_path / "gpudiff")])
    with pytest.raises(gd.BackendError, match=re.escape(f"expected the kernels' source in {shipped}, found none")):
        headers.folder()
    kernels(shipped, "1")
    assert headers.folder() == shipped
    kernels(tmp_path / "kernels", "1")  # a checkout beside it
    assert headers.folder() == tmp_path / "kernels"


def test_the_digest_covers_names_and_contents(monkeypatch, tmp_path):
    monkeypatch.setattr(headers, "folder", lambda: tmp_path)
    digests = [headers.digest()]
    for name, content in [("a.cuh", ""), ("a.cuh", "x"), ("b.h", ""), ("c/a.cuh", "x")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
        digests.append(headers.digest())
    assert len(set(digests)) == 5
    (tmp_path / "cpu.cpp").write_text("")
    assert headers.digest() == digests[-1]


def includes(path: Path, seen: set[Path]) -> set[Path]:
    """A header and all that it includes."""
    if path not in seen:
        seen.add(path)
        for name in re.findall(r'^\s*#include "(.*)"', path.read_text(), re.MULTILINE):
            beside = (path.parent / name).resolve()
            includes(beside if beside.exists() else KERNELS / name, seen)
    return seen


def test_the_shipped_headers_are_all_that_a_kernel_includes(nvrtc, monkeypatch, tmp_path, folder):
    cmake = (KERNELS / "CMakeLists.txt").read_text()
    install = re.search(r"install\(DIRECTORY .* gpudiff/kernels (.*)\)", cmake).group(1)
    assert re.findall(r'PATTERN "\*(\.\w+)"', install) == list(headers.SUFFIXES)
    for kind in KINDS:
        needed = includes(KERNELS / "entry" / "gpu" / f"{kind}_kernel.cuh", set())
        assert len(needed) > 1
        assert {path.name for path in needed if path.suffix not in headers.SUFFIXES} <= GUARDED
    installed = tmp_path / "gpudiff" / "kernels"
    shutil.copytree(
        KERNELS, installed, ignore=lambda at, names: [n for n in names if Path(n).suffix not in (*headers.SUFFIXES, "")]
    )
    monkeypatch.setattr(headers, "folder", lambda: installed)
    source = Specification("sum", Shape(2, 0, 3, (3,)), 1, 32).source()
    assert build(source, "sm_90", "a test").usage["gd_sum_kernel"].registers > 0


# ---- ahead of time ---------------------------------------------------------------------------------------------------

IPM = ("solve", "careful", *DERIVATIVES)


class NoKernels:
    """Instead of compiling: remembers what it was asked for."""

    def __init__(self, monkeypatch):
        self.asked = []
        monkeypatch.setattr(building, "build", self.build)

    def build(self, source, arch, name):
        self.asked.append((source, arch, name))
        entry = f"gd_{name.split()[0]}_kernel"
        return Compiled(b"", {entry: Usage(99, 8, 16, 24)} if "jvp" not in name else {}, 1.25, "vjp" in name)


class ThreeDevices(CudaDriver):
    def why_unavailable(self):
        return None

    def device_count(self):
        return 3

    def facts(self, device):
        return DeviceFacts("x", ("sm_90", "sm_80", "sm_90")[device], 1, 0, 0, "13.0")


def test_prepare_compiles_every_kind_for_every_architecture(monkeypatch):
    asked = NoKernels(monkeypatch).asked
    steps = []
    done = prepare({"z": 8, "l": 64}, 32, arch=["sm_90", "sm_75", "sm_90"], progress=steps.append)
    assert [(kernel.arch, kernel.specification.kind) for kernel in done] == [
        *(("sm_90", kind) for kind in IPM),
        *(("sm_75", kind) for kind in IPM),
    ]
    assert sorted(steps) == sorted(f"{kernel.specification.kind} {kernel.arch}" for kernel in done)
    assert sorted(source for source, *_ in asked) == sorted(kernel.specification.source() for kernel in done)
    assert {kernel.specification.shape for kernel in done} == {Shape(32, 8, 64)}
    assert [kernel.from_cache for kernel in done[:5]] == [False, False, False, True, False]
    few = prepare([gd.SecondOrder(3)], 2, has_P=False, dtype="float32", derivatives=False, arch="sm_90")
    assert [kernel.specification.kind for kernel in few] == ["solve", "careful"]
    assert few[0].specification.shape == Shape(2, second_order=(3,), has_P=False, dtype="float32")
    other = prepare({"l": 3}, 2, method="active_set", arch="sm_90")
    assert [kernel.specification.kind for kernel in other] == ["active_set", "careful", *DERIVATIVES]
    none = prepare({"l": 3}, 2, method="active_set", has_P=False, derivatives=False, arch="sm_90")
    assert [kernel.specification.kind for kernel in none] == ["solve", "careful"]


def test_prepare_without_architectures_takes_those_of_the_gpus(monkeypatch):
    asked = NoKernels(monkeypatch).asked
    prepare([], 2, derivatives=False, driver=ThreeDevices())
    assert sorted(arch for _, arch, _ in asked) == ["sm_80", "sm_80", "sm_90", "sm_90"]
    assert architectures("sm_86") == ["sm_86"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": -1}, "n: expected an integer of at least 0, got -1"),
        ({"n": 2.0}, "n: expected an integer of at least 0, got 2.0"),
        ({"dtype": "half"}, "dtype: expected 'float64' or 'float32', got 'half'"),
        ({"arch": "sm_70"}, "arch: expected sm_75 or newer, got sm_70"),
        ({"cones": {"z": -1}}, "Zero: expected a number of rows"),
        ({"method": "simplex"}, "method: expected 'ipm' or 'active_set', got 'simplex'"),
        ({"method": "active_set", "cones": {"q": [3]}}, "method: expected 'ipm' for these cones, got 'active_set'"),
    ],
)
def test_prepare_checks_its_arguments(monkeypatch, change, message):
    NoKernels(monkeypatch)
    arguments = {"cones": [], "n": 2, "arch": "sm_90", **change}
    with pytest.raises(gd.ArgumentError, match=message):
        prepare(**arguments)


def test_warmup_prints_a_table(monkeypatch, capsys, folder):
    asked = NoKernels(monkeypatch).asked
    command = ["warmup", "--n", "3", "--cones", '[["Nonnegative", 2]]', "--no-P", "--dtype", "float32"]
    assert main([*command, "--arch", "sm_90", "sm_80"]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "n=3, m=2 (2 nonnegative), no P, float32"
    rows = [line.split() for line in lines[3:-1]]
    assert [row[:2] for row in rows] == [[kind, arch] for arch in ("sm_90", "sm_80") for kind in IPM]
    for kind, _, _, _, registers, _, spilled, seconds in rows:
        assert (registers, spilled) == (("?", "?") if kind == "jvp" else ("99", "40"))
        assert seconds == ("cached" if kind == "vjp" else "1.25")
    assert lines[-1].startswith("10 kernels in ")
    assert lines[-1].endswith(str(folder))
    assert len(asked) == 10
    assert main([*command, "--arch", "sm_90", "--no-derivatives"]) == ExitCode.OK
    assert len(asked) == 12
    command.remove("--no-P")
    assert main([*command, "--arch", "sm_90", "--no-derivatives", "--method", "active_set"]) == ExitCode.OK
    assert [name.split()[0] for _, _, name in sorted(asked[12:], key=lambda call: call[2])] == ["active_set", "careful"]


def test_warmup_without_a_gpu_asks_for_architectures(capsys):
    if CudaDriver().why_unavailable() is None:
        pytest.skip("a GPU is here")
    assert main(["warmup", "--n", "3"]) == ExitCode.NO_BACKEND
    assert "name the architectures to compile for, such as sm_90" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "word"), [(["--cones", "{"], "--cones"), (["--arch", "sm_1"], "arch"), (["--n", "-1"], "n:")]
)
def test_warmup_with_bad_options_is_2(capsys, options, word):
    assert main(["warmup", "--n", "3", "--arch", "sm_90", *options]) == ExitCode.BAD_INPUT
    assert word in capsys.readouterr().err
