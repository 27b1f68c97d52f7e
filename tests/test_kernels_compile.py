"""The one kernel source compiles wherever it is meant to: each header by itself, GCC and Clang, aarch64, CUDA.

No GPU is needed for any of it. For CUDA, NVRTC compiles the kernels to machine code of several generations; install
`gpudiff[kernels]` to have it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[1] / "kernels"
HEADERS = sorted(
    path.relative_to(KERNELS).as_posix()
    for path in KERNELS.rglob("*")
    if path.suffix in (".cuh", ".hpp") and path.parent.name != "entry"
)
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-unknown-pragmas"]
VARIANT = ["-DGD_NAMESPACE=gpudiff_baseline", "-DGD_VARIANT_NAME=baseline", "-DGD_VARIANT_SYMBOL=gd_variant_baseline"]
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_120")


def compiler(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def compile_cpp(command: list[str], source: str = "") -> None:
    done = subprocess.run(command, input=source, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-8000:]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("name", ["g++", "clang++"])
def test_header_is_self_contained(name, header):
    flags = ["-std=gnu++17", "-fsyntax-only", *WARNINGS, f"-I{KERNELS}"]
    compile_cpp([compiler(name), *flags, "-xc++", "-"], f'#include "{header}"\n#include "{header}"\n')


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clang++", "aarch64-linux-gnu-g++"])
def test_library_compiles(name, tmp_path):
    """The portable variant and the library around it, to object code."""
    flags = ["-std=gnu++17", "-O1", "-fPIC", "-w", *VARIANT]
    for source in ("cpu_variant", "cpu_library"):
        target = tmp_path / f"{source}.o"
        compile_cpp([compiler(name), *flags, "-c", str(KERNELS / "entry" / f"{source}.cpp"), "-o", str(target)])
        assert target.stat().st_size > 1000


# What a CUDA entry will look like, with as little as possible around the kernels: a warp per problem, sizes at run
# time, a workspace that the caller provides.
CUDA = r"""
#include "derivative/assess.cuh"
#include "derivative/newton.cuh"
#include "derivative/sensitivity.cuh"
#include "equilibrate.cuh"
#include "ipm/solve.cuh"

using namespace gpudiff;
using Warp = Tile<32>;

struct OneProblem {
  const Warp& g;
  int outcome;
  bool fed;

  __device__ bool exchange(InteriorState<double>& i, bool finished, double out) {
    if (!finished) return fed;
    if (fed) outcome = int(out);
    fed = !fed;
    cone_identity(g, i.w.shape.rows, i.z);
    cone_identity(g, i.w.shape.rows, i.s);
    i.tau = i.kappa = 1;
    i.iterations = i.since_best = 0;
    i.regularisation = 1e-10;
    i.best_merit = 1e30;
    compute_products(g, i);
    return fed;
  }
};

extern "C" __global__ void solve(Shape shape, InteriorSettings settings, double* memory, double* result) {
  const Warp g{};
  Carver<double> carver{memory, 0};
  InteriorState<double> state;
  state.carve(shape, carver, true);
  OneProblem feeder{g, 0, false};
  interior_point(g, state, settings, feeder);
  if (g.rank() == 0) *result = feeder.outcome;
}

extern "C" __global__ void polish(Shape shape, NewtonSettings settings, double* memory, double* result) {
  const Warp g{};
  Carver<double> carver{memory, 0};
  MapState<double> state;
  state.carve(shape, carver);
  const NewtonResult<double> newton_result = newton(g, state, true, settings);
  const Residuals<double> residuals = assess(g, state);
  if (g.rank() == 0) *result = newton_result.residual + residuals.gap;
}

extern "C" __global__ void sensitivity(Shape shape, double* memory, double* result) {
  const Warp g{};
  Carver<double> carver{memory, 0};
  MapState<double> state;
  state.carve(shape, carver);
  const double correction = solve_sensitivity(g, state, true);
  if (g.rank() == 0) *result = correction;
}

extern "C" __global__ void scale(Shape shape, const double* P, const double* q, const double* A, double* memory) {
  const Warp g{};
  Carver<double> c{memory, 0};
  double *D = c.take(shape.n), *E = c.take(shape.m()), *column = c.take(2 * shape.n), *row = c.take(shape.m());
  const double cost = equilibrate(g, shape.n, shape.rows, P, q, A, D, E, column, row);
  if (g.rank() == 0) *row = cost;
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_kernels_compile_for_cuda(arch):
    core = pytest.importorskip("cuda.core", reason="install gpudiff[kernels] to compile for CUDA")
    options = core.ProgramOptions(arch=arch, std="c++17", include_path=str(KERNELS))
    cubin = core.Program(CUDA, "c++", options).compile("cubin").code
    assert cubin[:4] == b"\x7fELF"
    for kernel in (b"solve", b"polish", b"sensitivity", b"scale"):
        assert b".text." + kernel + b"\0" in cubin
