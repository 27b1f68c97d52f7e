"""A kernel specialised to one problem structure, and the source text that the compiler gets: macros and one #include.

Everything that does not change from one call to the next is compiled in: sizes, cones, the order of the rows, the
element type, how many threads share a problem and where its data lie (gpudiff/jit/plan.py). The kernels themselves are
in kernels/entry/gpu.
"""

from __future__ import annotations

from ctypes import addressof, byref, c_double, c_int32, c_int64
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from gpudiff._abi import DTYPE, OK, CProblem
from gpudiff._cones import Product
from gpudiff._errors import BackendError
from gpudiff._library import load

KINDS = ("solve", "careful", "jvp", "vjp", "sum", "active_set")
DERIVATIVES = KINDS[2:5]
SMOOTHED = ("smoothed_jvp", "smoothed_vjp", "sum")  # the same where `Settings.smoothing` is set
_PREFIX = "smoothed_"
# enum gd_gpu_kernel; "sum" needs no memory
_LAID_OUT = {"solve": 0, "careful": 1, "jvp": 2, "vjp": 3, "active_set": 4, SMOOTHED[0]: 2, SMOOTHED[1]: 3}
TYPES = {"float64": ("double", 8), "float32": ("float", 4)}  # C name, bytes
# enum gd_cone
_CODES = {
    "zero": 0,
    "nonnegative": 1,
    "second-order": 2,
    "psd": 3,
    "exponential": 4,
    "dual exponential": 5,
    "power": 6,
    "dual power": 7,
}


@dataclass(frozen=True)
class Shape:
    """What the kernels are compiled for: all of a problem but its numbers and their number.

    Args:
        n: variables.
        zero: rows of the zero cone; they come first in the kernels' order of the rows.
        nonnegative: rows of the nonnegative cone, second.
        second_order: rows of each second-order cone, third.
        row_of: the caller's row for each row of the kernels; empty where they are the same.
        has_P: False for a linear objective.
        dtype: element type of all arrays, "float64" or "float32".
        psd: order of each PSD cone, fourth.
        exponential: exponential cones, of three rows each, fifth.
        dual_exponential: dual exponential cones, sixth.
        power: exponent of each power cone, seventh.
        dual_power: exponent of each dual power cone, last.
    """

    n: int
    zero: int = 0
    nonnegative: int = 0
    second_order: tuple[int, ...] = ()
    row_of: tuple[int, ...] = ()
    has_P: bool = True
    dtype: str = "float64"
    psd: tuple[int, ...] = ()
    exponential: int = 0
    dual_exponential: int = 0
    power: tuple[float, ...] = ()
    dual_power: tuple[float, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = (self.n, self.zero, self.nonnegative, self.second_order, self.row_of, self.has_P, self.dtype)
        parts = (*parts, self.psd, self.exponential, self.dual_exponential, self.power, self.dual_power)
        object.__setattr__(self, "_hash", hash(parts))

    def __hash__(self) -> int:
        return self._hash  # asked for at every launch; the rows may be thousands

    @property
    def m(self) -> int:
        """Rows of A."""
        matrices = sum(order * (order + 1) // 2 for order in self.psd)
        return self.zero + self.nonnegative + sum(self.second_order) + matrices + 3 * self.triples

    @property
    def triples(self) -> int:
        """Cones of three rows."""
        return self.exponential + self.dual_exponential + len(self.power) + len(self.dual_power)

    def fast(self, quick: str) -> str:
        """The scalar of the fast run: double precision where there are cones of three rows, whatever is asked for."""
        return "float64" if self.triples else quick

    @property
    def order(self) -> int:
        """Order of the symmetric system that the kernels factorise: variables and rows of the zero cone."""
        return self.n + self.zero

    def macros(self) -> list[tuple[str, object]]:
        """What tells the kernels so, by names without their prefix."""
        macros: list[tuple[str, object]] = [
            ("N", self.n),
            ("ZERO_ROWS", self.zero),
            ("NONNEGATIVE_ROWS", self.nonnegative),
            ("SECOND_ORDER_COUNT", len(self.second_order)),
        ]
        if self.second_order:
            macros.append(("SECOND_ORDER_DIMENSIONS", ", ".join(map(str, self.second_order))))
        if self.psd:
            macros += [("PSD_COUNT", len(self.psd)), ("PSD_ORDERS", ", ".join(map(str, self.psd)))]
        counts = ("EXPONENTIAL_COUNT", "DUAL_EXPONENTIAL_COUNT", "POWER_COUNT", "DUAL_POWER_COUNT")
        numbers = (self.exponential, self.dual_exponential, len(self.power), len(self.dual_power))
        macros += [(name, number) for name, number in zip(counts, numbers, strict=True) if number]
        if self.power or self.dual_power:
            macros.append(("POWER_ALPHA", ", ".join(map(repr, (*self.power, *self.dual_power)))))
        if self.row_of:
            macros.append(("ROW_OF", ", ".join(map(str, self.row_of))))
        return [*macros, ("HAS_P", int(self.has_P)), ("DATA", TYPES[self.dtype][0])]

    def describe(self) -> str:
        """Sizes for a message, such as "n=32, m=72 (8 zero, 64 nonnegative), float64"."""
        parts = [f"{count} {name}" for name, count in (("zero", self.zero), ("nonnegative", self.nonnegative)) if count]
        if self.second_order:
            rows = ", ".join(map(str, self.second_order[:6])) + (", …" if len(self.second_order) > 6 else "")
            parts.append(f"{len(self.second_order)} second-order of {rows} rows")
        if self.psd:
            orders = ", ".join(map(str, self.psd[:6])) + (", …" if len(self.psd) > 6 else "")
            parts.append(f"{len(self.psd)} psd of order {orders}")
        if self.triples:
            parts.append(f"{self.triples} of three rows")
        cones = f" ({', '.join(parts)})" if parts else ""
        return f"n={self.n}, m={self.m}{cones}, {'' if self.has_P else 'no P, '}{self.dtype}"


class Compilable(Protocol):
    """What a kernel is compiled for: `Shape`, or what another kind of kernels has instead."""

    def macros(self) -> list[tuple[str, object]]:
        """What tells the kernel so, by names without their prefix."""
        ...

    def describe(self) -> str:
        """Sizes for a message."""
        ...


@dataclass(frozen=True)
class Specification:
    """One kernel.

    Args:
        kind: one of `KINDS` or `SMOOTHED`, or "project".
        shape: what it is compiled for.
        group: threads that share a problem: 1, 2, 4, 8, 16, 32, or a multiple of 32 (then all of a block).
        threads: threads per block.
        level: memory layout, from 0 (all in shared memory) to 3 (all in global memory).
        min_blocks: blocks per multiprocessor that the compiler is to leave registers for.
        quick: scalar of the fast interior-point run, "float32" or "float64".
    """

    kind: str
    shape: Compilable
    group: int
    threads: int
    level: int = 0
    min_blocks: int = 1
    quick: str = "float32"

    @property
    def entry(self) -> str:
        """The kernel's name in the machine code."""
        return f"gd_{self.kind.removeprefix(_PREFIX)}_kernel"

    def source(self) -> str:
        """The text that is compiled; its #include is relative to the folder of kernels."""
        quick = self.shape.fast(self.quick) if isinstance(self.shape, Shape) else self.quick
        macros = [
            *self.shape.macros(),
            ("QUICK", TYPES[quick][0]),
            ("GROUP", self.group),
            ("THREADS", self.threads),
            ("LEVEL", self.level),
            ("MIN_BLOCKS", self.min_blocks),
        ]
        if self.kind.startswith(_PREFIX):
            macros.append(("SMOOTHED", 1))
        lines = [f"#define GD_{name} {value}" for name, value in macros]
        return "\n".join([*lines, f'#include "entry/gpu/{self.kind.removeprefix(_PREFIX)}_kernel.cuh"', ""])

    def describe(self) -> str:
        """What it is, for messages, such as "solve kernel (n=32, m=64 (64 nonnegative), float64, group 32)"."""
        return f"{self.kind} kernel ({self.shape.describe()}, group {self.group}, level {self.level})"


def forward(shape: Shape, method: str, polish: bool = True) -> tuple[str, ...]:
    """The kernels that a solve launches, one behind the other.

    Args:
        shape: of the problems.
        method: "ipm" or "active_set"; the latter needs a P, and leaves problems without one to the former.
        polish: as in `Settings`; without it the interior point's first kernel has nothing to do.
    """
    if method == "active_set" and shape.has_P and shape.n > 0:
        return "active_set", "careful"
    return ("solve", "careful") if polish else ("careful",)


@lru_cache(maxsize=1024)
def shape_of(cones: Product, n: int, has_P: bool, dtype: str) -> Shape:
    """The shape of problems with these cones; one object for equal arguments.

    Args:
        cones: in the caller's order.
        n: variables.
        has_P: False for a linear objective.
        dtype: "float64" or "float32".

    Raises:
        BackendError: the compiled library, which orders the rows, is missing.
    """
    listed = [(cone.code, cone.rows, cone.parameter) for cone in cones.cones]
    problem, _keep = _problem(n, cones.rows, dtype, listed)
    row_of = (c_int64 * cones.rows)()
    counts = (c_int64 * 8)()
    dimensions = (c_int64 * len(listed))()
    exponents = (c_double * len(listed))()
    if load().gd_row_order(byref(problem), row_of, counts, dimensions, exponents) != OK:
        raise BackendError(f"cuda: the compiled library refused {list(cones.cones)}; please report this")
    zero, nonnegative, second_order, psd, exponential, dual_exponential, power, dual_power = counts
    rows = tuple(row_of)
    in_order = all(row == position for position, row in enumerate(rows))
    return Shape(
        n,
        zero,
        nonnegative,
        tuple(dimensions[:second_order]),
        () if in_order else rows,
        has_P,
        dtype,
        tuple(dimensions[second_order : second_order + psd]),
        exponential,
        dual_exponential,
        tuple(exponents[:power]),
        tuple(exponents[power : power + dual_power]),
    )


@lru_cache(maxsize=4096)
def memory(kind: str, shape: Shape, quick: str, level: int, group: int) -> tuple[int, int]:
    """Bytes of shared and of global memory for one problem in flight.

    Args:
        kind: one of `KINDS` or `SMOOTHED`.
        shape: what the kernel is compiled for.
        quick: scalar of the fast run.
        level: memory layout.
        group: threads that share a problem.

    Raises:
        BackendError: the compiled library, which knows the layout, is missing.
    """
    if kind not in _LAID_OUT:
        return 0, 0
    cones = [(_CODES["zero"], shape.zero, 0.0), (_CODES["nonnegative"], shape.nonnegative, 0.0)]
    cones += [(_CODES["second-order"], rows, 0.0) for rows in shape.second_order]
    cones += [(_CODES["psd"], order * (order + 1) // 2, 0.0) for order in shape.psd]
    cones.append((_CODES["exponential"], 3 * shape.exponential, 0.0))
    cones.append((_CODES["dual exponential"], 3 * shape.dual_exponential, 0.0))
    cones += [(_CODES["power"], 3, alpha) for alpha in shape.power]
    cones += [(_CODES["dual power"], 3, alpha) for alpha in shape.dual_power]
    problem, _keep = _problem(shape.n, shape.m, shape.dtype, cones)
    shared, total = c_int64(), c_int64()
    code = load().gd_gpu_layout(
        byref(problem), _LAID_OUT[kind], TYPES[shape.fast(quick)][1], level, group, byref(shared), byref(total)
    )
    if code != OK:
        raise BackendError(
            f"cuda: no layout of level {level} for {shape.describe()}, group {group}; please report this"
        )
    return shared.value, total.value


def _problem(n: int, m: int, dtype: str, cones: list[tuple[int, int, float]]) -> tuple[CProblem, tuple[Any, ...]]:
    """One problem of these sizes without data, and what must live as long as it does.

    Args:
        n: variables.
        m: rows.
        dtype: element type of the data.
        cones: code, rows and parameter of each.
    """
    kinds = (c_int32 * len(cones))(*(kind for kind, _, _ in cones))
    rows = (c_int64 * len(cones))(*(rows for _, rows, _ in cones))
    parameters = (c_double * len(cones))(*(parameter for _, _, parameter in cones))
    arrays = kinds, rows, parameters
    return CProblem(1, n, m, DTYPE[dtype], len(cones), *map(addressof, arrays)), arrays
