"""Which is faster for a problem on the host, the dense kernels or Clarabel: the one table for sparse and dense input.

Read off one run of `python -m gpudiff.bench.crossover`: seconds of a solve and a vjp for random QPs, LPs and SOCPs of
10 to 320 variables with 2.25 times as many rows, alone and in batches of 16, one thread, kernels over Clarabel (least
and largest of the three kinds). It was made on two hyperthreads of an AMD EPYC that other work kept busy, best of three
calls: trust factors of two, not digits. The limits above 320 variables, and all those of rows, are extrapolated.

    entries      n = 40         80             160            320            in a batch of 16, n = 160
    2 %          0.03 … 0.09    0.23 … 0.87    0.94 … 3.1     1.1 … 1.5      0.30 … 0.72
    10 %         0.02 … 0.05    0.18 … 0.45    0.17 … 0.65    0.62 … 0.86    0.04 … 0.15
    100 %        0.02 … 0.03    0.02 … 0.07    0.07 … 0.23    0.08 … 0.12    0.01 … 0.05

Like the choice of a method this looks at structure alone: not at numbers, nor at how many problems there are but for
the memory that dense copies would take. Dense arrays stay with the kernels at any size: both need O(n³), and Clarabel
needed eight times as long or more at 320 variables where all entries are there. Whoever has a large dense array full
of zeros makes it sparse.
"""

from __future__ import annotations

from typing import NamedTuple

from gpudiff._matrices import Matrices
from gpudiff._sparse_problem import SparseProblem


class Limit(NamedTuple):
    """Up to which size problems are solved as dense ones.

    Attributes:
        share: of entries of P and A that are stored, below which this holds.
        n: variables.
        m: rows.
    """

    share: float
    n: int
    m: int


TABLE = (Limit(0.05, 100, 400), Limit(0.3, 300, 1200), Limit(1.01, 600, 2400))
_LARGEST = 2**25  # numbers in dense copies of all matrices of a batch: 256 MiB


def densify(problem: SparseProblem) -> tuple[bool, str]:
    """Whether a sparse problem is solved faster as a dense one by the kernels, and why."""
    n, m = problem.n, problem.m
    entries, places, copies = 0, 0, 0
    for matrices, rows in ((problem.P, n), (problem.A, m)):
        if matrices is None:
            continue
        entries += _entries(matrices)
        places += rows * n
        copies += rows * n * max(1, matrices.count)
    share = entries / places if places else 1.0
    what = f"n={n}, m={m}, {100 * share:.2g} % of the entries"
    limit = next((limit for limit in TABLE if share < limit.share), TABLE[-1])
    if n > limit.n or m > limit.m:
        return False, f"sparse and large ({what}; the dense kernels are faster up to n={limit.n}, m={limit.m})"
    if copies > _LARGEST:
        return False, f"sparse, and dense copies of the batch would take {copies / 2**27:.1f} GiB"
    return True, f"sparse but small ({what}): the dense kernels are faster up to n={limit.n}, m={limit.m}"


def _entries(matrices: Matrices) -> int:
    """Stored entries of the first matrix."""
    return matrices.csc(0).nnz if matrices.count else 0
