"""The projection kernel specialised to a product of cones, and how it is laid onto a multiprocessor.

A cone of few rows has a thread of its own, a PSD cone a group of threads and memory for its eigenvectors: in shared
memory where two blocks of it fit on a multiprocessor, otherwise in global memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from gpudiff._cones import Nonnegative, Power, Product, Zero
from gpudiff.jit.plan import REGISTERS, WARP, Architecture, Plan
from gpudiff.jit.specification import TYPES

KIND = "project"
_PSD = 3  # enum gd_cone
_THREADS = 128  # of a block, where its memory allows
_REGISTERS = 128  # that a thread may have; it takes about a hundred


@dataclass(frozen=True)
class Run:
    """Equal cones, one behind the other; a row of a zero or nonnegative cone is a cone.

    Args:
        code: of the cone class.
        rows: of each cone.
        count: cones.
        first: the first row of the first.
        alphas: exponents of power cones.
    """

    code: int
    rows: int
    count: int
    first: int
    alphas: tuple[float, ...] = ()


@dataclass(frozen=True)
class ProjectionShape:
    """What the projection kernel is compiled for.

    Args:
        runs: the cones.
        dtype: element type of all arrays, "float64" or "float32".
    """

    runs: tuple[Run, ...]
    dtype: str

    @property
    def largest_order(self) -> int:
        """Of the PSD cones; 0 if there are none."""
        return max((_order(run.rows) for run in self.runs if run.code == _PSD), default=0)

    @property
    def items(self) -> int:
        """Cones of one point, of the longest run."""
        return max(run.count for run in self.runs)

    @property
    def words(self) -> int:
        """Doubles that a group needs: `semidefinite_work` of kernels/entry/projection_cone.cuh, which checks it."""
        k = self.largest_order
        return 4 * k * k + k + k * (k + 1) if k else 0

    def macros(self) -> list[tuple[str, object]]:
        """What tells the kernel so, by names without their prefix."""
        alphas = [alpha for run in self.runs for alpha in run.alphas]
        starts = [sum(len(before.alphas) for before in self.runs[:i]) for i in range(len(self.runs))]
        return [
            ("RUNS", len(self.runs)),
            ("RUN_KINDS", _listed(run.code for run in self.runs)),
            ("RUN_ROWS", _listed(run.rows for run in self.runs)),
            ("RUN_COUNTS", _listed(run.count for run in self.runs)),
            ("RUN_FIRST", _listed(run.first for run in self.runs)),
            ("RUN_ALPHAS", _listed(starts)),
            ("ALPHAS", _listed(map(repr, alphas)) or "0"),
            ("WORK_WORDS", self.words),
            ("DATA", TYPES[self.dtype][0]),
        ]

    def describe(self) -> str:
        """Sizes for a message."""
        return f"{sum(run.rows * run.count for run in self.runs)} rows in {len(self.runs)} runs of cones, {self.dtype}"


def _listed(values: object) -> str:
    return ", ".join(map(str, values))  # pyright: ignore[reportArgumentType]


def _order(rows: int) -> int:
    return next(k for k in range(rows + 1) if k * (k + 1) // 2 >= rows)


@lru_cache(maxsize=1024)
def projection_shape(cones: Product, dtype: str) -> ProjectionShape:
    """The shape of projections onto these cones; there must be rows.

    Args:
        cones: in the caller's order.
        dtype: "float64" or "float32".
    """
    runs: list[Run] = []
    row = 0
    for cone in cones.cones:
        rows = 1 if isinstance(cone, Zero | Nonnegative) else 3 if cone.code > _PSD else cone.rows
        alphas = (cone.parameter,) if isinstance(cone, Power) else ()
        if cone.rows and runs and (runs[-1].code, runs[-1].rows) == (cone.code, rows):
            last = runs.pop()
            runs.append(Run(cone.code, rows, last.count + cone.rows // rows, last.first, last.alphas + alphas))
        elif cone.rows:
            runs.append(Run(cone.code, rows, cone.rows // rows, row, alphas))
        row += cone.rows
    return ProjectionShape(tuple(runs), dtype)


def projection_plan(shape: ProjectionShape, machine: Architecture) -> Plan:
    """Lay the projection kernel onto a multiprocessor.

    Args:
        shape: what it is compiled for.
        machine: of `gpudiff.jit.plan.architecture`.
    """
    order, size = shape.largest_order, 8 * shape.words
    group = next(threads for threads in (1, 2, 4, 8, 16, WARP) if threads >= min(order, WARP))
    for threads in (_THREADS, 64, WARP):
        block = size * (threads // group)
        if block <= machine.shared_per_block // 2 or (threads == WARP and block <= machine.shared_per_block):
            resident = min(
                machine.shared // max(1, block + machine.reserved),
                REGISTERS // (_REGISTERS * threads),
                machine.threads // threads,
                machine.blocks,
            )
            return Plan(group, threads, 0, max(1, resident), size, 0)
    return Plan(group, WARP, 1, REGISTERS // (_REGISTERS * WARP), 0, size)
