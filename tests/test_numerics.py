"""What the kernels compute with on the CPU: exponentials, logarithms, powers of two and eigenvalues."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import project_reference as reference
import pytest

LONG = reference.LONG
ROOT = Path(__file__).parents[1]
SOURCE = Path(__file__).parent / "emulation" / "numerics.cpp"
PACKS = ("double", "double4", "double8", "Twin<double4>", "float", "float8", "float16")
EXPONENTIAL, LOGARITHM, INVERSE_MAGNITUDE, MAGNITUDE = range(4)

pytestmark = [
    pytest.mark.skipif(not reference.EXTENDED, reason="needs long double of 64 bits of fraction"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
]


class Numerics:
    """The functions for one kind of packs, in the portable instruction set."""

    def __init__(self, pack: str, folder: Path) -> None:
        library = folder / f"{''.join(filter(str.isalnum, pack))}.so"
        flags = ["-std=gnu++17", "-O1", "-w", "-fPIC", "-shared", "-fno-signed-zeros", "-fno-trapping-math"]
        macros = [f"-DGD_PACK_TYPE={pack}", *(["-DGD_TWIN"] if "Twin" in pack else [])]
        subprocess.run(
            ["g++", *flags, *macros, f"-I{ROOT / 'kernels'}", str(SOURCE), "-o", str(library)], check=True, timeout=300
        )
        self.library = ctypes.CDLL(str(library))
        self.lanes = self.library.lanes()
        self.dtype = np.dtype(np.float32 if "float" in pack else np.float64)

    def apply(self, which: int, x) -> np.ndarray:
        """One of the functions of each number."""
        given = np.asarray(x, self.dtype)
        padded = np.concatenate([given, np.ones(-len(given) % self.lanes, self.dtype)])
        out = np.empty_like(padded)
        self.library.apply(which, *(ctypes.c_void_p(a.ctypes.data) for a in (padded, out)), ctypes.c_long(len(padded)))
        return out[: len(given)]

    def eigen(self, a, graded: bool) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues [count, k] and eigenvectors, as rows, of a [count, k, k]."""
        count, k, _ = a.shape
        padded = np.zeros((count + -count % self.lanes, k, k), self.dtype)
        padded[:count] = np.tril(a)
        vectors, values = np.empty_like(padded), np.empty(padded.shape[:2], self.dtype)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (padded, vectors, values)]
        self.library.eigen(ctypes.c_long(len(padded)), ctypes.c_long(k), *pointers, int(graded))
        return values[:count], vectors[:count]


@pytest.fixture(scope="module", params=PACKS)
def numerics(request, tmp_path_factory):
    return Numerics(request.param, tmp_path_factory.mktemp("numerics"))


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    return Numerics("double8", tmp_path_factory.mktemp("packs"))


def units(found, exact) -> float:
    """The largest error in units in the last place."""
    unit = np.spacing(np.abs(exact.astype(found.dtype)))
    return float(np.max(np.abs(found - exact) / unit))


def test_exponentials(numerics, rng):
    largest, smallest = (709.5, -745.0) if numerics.dtype == np.float64 else (88.5, -103.5)
    for x in (rng.uniform(smallest, largest, 40_000), rng.uniform(-1, 1, 20_000), rng.normal(0, 1e-6, 20_000)):
        x = x.astype(numerics.dtype)
        assert units(numerics.apply(EXPONENTIAL, x), np.exp(x.astype(LONG))) < 1
    ends = numerics.apply(EXPONENTIAL, [0, -0.0, np.inf, -np.inf, np.nan, 1e4, -1e4, 1e300 if largest > 700 else 1e30])
    np.testing.assert_array_equal(ends, [1, 1, np.inf, 0, np.nan, np.inf, 0, np.inf])


def test_logarithms(numerics, rng):
    info = np.finfo(numerics.dtype)
    spread = rng.uniform(np.log(float(info.tiny)), np.log(float(info.max)), 40_000)
    for x in (np.exp(spread), rng.uniform(0.5, 2, 20_000), 1 + rng.normal(0, 1e-5, 20_000), rng.uniform(0, 1, 20_000)):
        x = x.astype(numerics.dtype)
        assert units(numerics.apply(LOGARITHM, x[x != 1]), np.log(x[x != 1].astype(LONG))) < 1
    subnormal = (rng.uniform(0, 1, 1000) * info.tiny).astype(numerics.dtype)
    subnormal = subnormal[subnormal > 0]
    assert units(numerics.apply(LOGARITHM, subnormal), np.log(subnormal.astype(LONG))) < 1
    ends = numerics.apply(LOGARITHM, [1, 0, -0.0, np.inf, -np.inf, np.nan, -1, -float(info.tiny)])
    np.testing.assert_array_equal(ends, [0, -np.inf, -np.inf, np.inf, np.nan, np.nan, np.nan, np.nan])


def test_powers_of_two_are_exact_and_have_an_inverse(numerics, rng):
    info = np.finfo(numerics.dtype)
    x = np.exp(rng.uniform(np.log(float(info.tiny) * 2), np.log(float(info.max)) - 2, 5000)).astype(numerics.dtype)
    scale, back = numerics.apply(INVERSE_MAGNITUDE, x), numerics.apply(MAGNITUDE, x)
    np.testing.assert_array_equal(scale * back, np.ones_like(x))
    np.testing.assert_array_equal(np.frexp(scale)[0], np.full_like(x, 0.5))
    assert np.all((scale * x >= 1) & (scale * x < 2))
    for strange in (0.0, float(info.smallest_subnormal), float(info.max), np.inf, np.nan):
        one = numerics.apply(INVERSE_MAGNITUDE, [strange])[0] * numerics.apply(MAGNITUDE, [strange])[0]
        assert one == 1


# ---- eigenvalues -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 8, 17, 32])
@pytest.mark.parametrize("graded", [False, True])
def test_eigenvalues(packs, order, graded, rng):
    """Equal, nearly equal, graded and vanishing eigenvalues, at scales 1e-150 … 1e150."""
    basis, values = reference.symmetric(rng, 96, order)
    scale = 10.0 ** rng.choice([-150, -3, 0, 3, 150], 96).astype(LONG)
    exact = np.einsum("bij,bj,bkj->bik", basis, values * scale[:, None], basis)
    size = scale * (np.max(np.abs(values), -1) + 1e-30)
    found, vectors = packs.eigen(exact.astype(float), graded)
    tolerance = (3 + order) * 7e-16
    rebuilt = np.einsum("bei,be,bej->bij", vectors.astype(LONG), found.astype(LONG), vectors.astype(LONG))
    assert np.max(np.abs(rebuilt - exact) / size[:, None, None]) <= tolerance
    assert np.max(np.abs(np.einsum("bei,bfi->bef", vectors, vectors) - np.eye(order))) <= tolerance
    difference = np.sort(found, -1) - np.sort(values, -1) * scale[:, None]
    assert np.max(np.abs(difference) / size[:, None]) <= tolerance


@pytest.mark.parametrize("order", [2, 5, 8])
def test_small_eigenvalues_of_graded_matrices_have_digits_of_their_own(packs, order, rng):
    """Of D B D with B well-conditioned and D from 1 to 1e-12, to a relative 1e-13, against Jacobi's in long double."""
    B = rng.standard_normal((40, order, 3 * order))
    B = np.einsum("bij,bkj->bik", B, B) / (3 * order)
    D = 10.0 ** -rng.uniform(0, 12, (40, order))
    a = D[:, :, None] * B * D[:, None, :]
    a = np.tril(a) + np.swapaxes(np.tril(a, -1), 1, 2)
    exact = np.sort(slow_jacobi(a.astype(LONG)), -1)
    found = np.sort(packs.eigen(a, True)[0], -1)
    assert np.max(np.abs(found / exact - 1)) <= 1e-13


def slow_jacobi(a):
    """Eigenvalues of a [count, k, k] by cyclic rotations, until nothing is left beside the diagonal."""
    k = a.shape[1]
    for _ in range(30):
        for p in range(k):
            for q in range(p):
                off, difference = 2 * a[:, p, q], a[:, q, q] - a[:, p, p]
                turn = np.where(
                    off == 0, 0, off / np.where(off == 0, 1, np.abs(difference) + np.hypot(difference, off))
                )
                t = np.where(difference < 0, -turn, turn)
                c = 1 / np.sqrt(1 + t * t)
                rotation = np.zeros_like(a) + np.eye(k)
                rotation[:, p, p] = rotation[:, q, q] = c
                rotation[:, p, q], rotation[:, q, p] = t * c, -t * c
                a = np.einsum("bji,bjk,bkl->bil", rotation, a, rotation)
    return np.einsum("bii->bi", a)


def test_eigenvalues_of_a_matrix_that_is_not_finite_are_nan_and_its_neighbours_keep_their_bits(packs, rng):
    a = rng.standard_normal((16, 6, 6))
    clean = packs.eigen(a, False)
    a[3, 2, 2], a[9, 4, 1] = np.nan, np.inf
    found = packs.eigen(a, False)
    others = [i for i in range(16) if i not in (3, 9)]
    for mine, before in zip(found, clean, strict=True):
        assert np.all(np.isnan(mine[[3, 9]]))
        assert mine[others].tobytes() == before[others].tobytes()
