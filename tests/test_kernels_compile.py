"""The one kernel source compiles wherever it is meant to: each header by itself, GCC and Clang, aarch64, CUDA.

No GPU is needed for any of it. For CUDA, NVRTC compiles the kernels to machine code of several generations; install
`gpudiff[kernels]` to have it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpudiff.jit import headers
from gpudiff.jit.compiler import compile_source
from gpudiff.jit.plan import architecture, plan
from gpudiff.jit.specification import KINDS, Shape

KERNELS = Path(__file__).parents[1] / "kernels"
HEADERS = sorted(
    path.relative_to(KERNELS).as_posix()
    for path in KERNELS.rglob("*")
    if path.suffix in (".cuh", ".hpp") and "entry" not in path.relative_to(KERNELS).parts
)
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-unknown-pragmas"]
VARIANT = ["-DGD_NAMESPACE=gpudiff_baseline", "-DGD_VARIANT_NAME=baseline", "-DGD_VARIANT_SYMBOL=gd_variant_baseline"]


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


# ---- CUDA ------------------------------------------------------------------------------------------------------------

STRUCTURES = {
    "qp 8/16": Shape(8, 0, 16),
    "qp 32/72": Shape(32, 8, 64),
    "lp 20/60, float32": Shape(20, 0, 60, has_P=False, dtype="float32"),
    "mixed 12/25": Shape(12, 2, 9, (3, 4, 7)),
    "qp 64/144": Shape(64, 16, 128),
    "sdp 15/20": Shape(15, 0, 5, has_P=False, psd=(5,)),
    "every cone 12/26": Shape(
        12, 1, 4, (3,), psd=(3,), exponential=1, dual_exponential=1, power=(0.3,), dual_power=(0.7,)
    ),
}
KERNEL_KINDS = ("solve", "careful", "jvp", "vjp")
# Every kernel of every structure for one architecture, and of two linear or second-order ones for each of the others.
ELSEWHERE = {
    "sm_75": ("qp 8/16", "mixed 12/25"),
    "sm_80": ("qp 32/72", "lp 20/60, float32"),
    "sm_86": ("mixed 12/25", "qp 32/72"),
    "sm_100": ("qp 64/144", "qp 8/16"),
    "sm_120": ("lp 20/60, float32", "qp 32/72"),
}
MATRIX = [("sm_90", structure, kind) for structure in STRUCTURES for kind in KERNEL_KINDS]
MATRIX += [(arch, structure, kind) for arch, two in ELSEWHERE.items() for structure in two for kind in KERNEL_KINDS]
MATRIX += [(arch, "mixed 12/25", "sum") for arch in ("sm_90", *ELSEWHERE)]
MATRIX += [("sm_90", structure, "active_set") for structure in STRUCTURES if structure.startswith("qp")]
MATRIX += [(arch, [one for one in two if one.startswith("qp")][-1], "active_set") for arch, two in ELSEWHERE.items()]
# The budget: bytes of registers that a kernel may spill, stores and loads together. They have 255 registers, and what
# does not fit is used outside of the inner loops.
SPILLS = {"solve": 240, "careful": 240, "jvp": 0, "vjp": 0, "sum": 0, "active_set": 40}
SPILLS_OF_TRIPLES = 2000  # of a solve with exponential or power cones, around the search for the length of a step


@pytest.fixture(scope="module")
def compiled():
    """Everything in `MATRIX`, compiled as many at a time as there are processors; prints the table of what it takes."""
    pytest.importorskip("cuda.core", reason="install gpudiff[kernels] to compile for CUDA")

    def build(case):
        arch, structure, kind = case
        shape = STRUCTURES[structure]
        laid = plan(kind, shape, architecture(arch))
        specification = laid.specification(kind, shape)
        made = compile_source(specification.source(), arch, specification.describe(), [headers.folder()])
        return case, (laid, specification, made)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(pool.map(build, MATRIX))
    print(table(found))
    return found


def table(found) -> str:
    head = ("threads", "level", "blocks", "shared", "registers", "spilled", "stack", "bytes", "seconds")
    lines = [f"{'arch':8} {'structure':18} {'kernel':10} {' '.join(f'{name:>9}' for name in head)}"]
    for (arch, structure, kind), (laid, specification, made) in found.items():
        used = made.usage[specification.entry]
        spilled = used.spill_stores + used.spill_loads
        numbers = (laid.group, laid.level, laid.min_blocks, laid.shared_per_block, used.registers, spilled, used.stack)
        cells = " ".join(f"{number:9}" for number in (*numbers, len(made.cubin), round(made.seconds, 1)))
        lines.append(f"{arch:8} {structure:18} {kind:10} {cells}")
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("case", MATRIX, ids=" ".join)
def test_cuda_kernel(compiled, case):
    """Machine code with the entry in it, within the architecture's shared memory, and without spilling registers."""
    arch, structure, kind = case
    laid, specification, made = compiled[case]
    assert made.cubin[:4] == b"\x7fELF"
    assert b".text." + specification.entry.encode() + b"\0" in made.cubin
    used = made.usage[specification.entry]
    assert laid.shared_per_block + used.static_shared <= architecture(arch).shared_per_block
    assert used.registers * laid.threads * laid.min_blocks <= 65536
    budget = SPILLS_OF_TRIPLES if kind == "solve" and STRUCTURES[structure].triples else SPILLS[kind]
    assert used.spill_stores + used.spill_loads <= budget


def test_cuda_matrix_has_every_architecture_kernel_and_structure():
    archs, structures, kinds = map(set, zip(*MATRIX, strict=True))
    assert archs == {"sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"}
    assert structures == set(STRUCTURES)
    assert kinds == set(KINDS)
