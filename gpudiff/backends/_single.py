"""The short way through the CPU library for one small problem after another.

What one call costs beside the solve itself is a dozen arrays, addresses and structs. All of it is done once here: the
structs point to memory that belongs to a `CpuSingle`; a call copies the caller's numbers in, and a copy of one block
with everything that the library wrote, its report included, is the result. For small problems that is several times
cheaper than to look up where the caller's arrays lie, and it takes any strides.
"""

from __future__ import annotations

from ctypes import sizeof
from functools import lru_cache
from typing import Any

import numpy as np

from gpudiff._abi import OK, CReport, CSolution, Tensor
from gpudiff._library import load
from gpudiff._problem import Array, Problem
from gpudiff._settings import Method, Settings
from gpudiff._solution import Block, Layout, Work
from gpudiff.backends._views import address, problem_struct, settings_struct

# Numbers in P and A up to which they are copied. Measured beside the solve: 4 µs for 3,000 of them, 6 µs for so many,
# where the long way takes 21 µs. They break even at about 35,000, but each kind of problem keeps so much memory.
_LARGEST = 16384


class CpuSingle:
    """Problems of one size on the host; see `gpudiff.backends.Single`.

    Args:
        problem: one of them, without a batch axis.
        settings: of every solve.
        method: of every solve.
        warm: whether every solve is given a start.
    """

    __slots__ = ("A_shape", "P_shape", "_arguments", "_block", "_call", "_data", "_start", "b_shape", "layout")

    def __init__(self, problem: Problem, settings: Settings, method: Method, warm: bool) -> None:
        n, m, dtype = problem.n, problem.m, problem.dtype
        self.layout = _layout(n, m, dtype)
        self.P_shape, self.A_shape, self.b_shape = None if problem.P is None else (n, n), (m, n), (m,)
        P = None if problem.P is None else np.zeros((n, n), dtype)
        self._data = P, np.zeros(n, dtype), np.zeros((m, n), dtype), np.zeros(m, dtype)
        self._block = np.zeros(self.layout.length, dtype)
        self._start = np.zeros(self.layout.length, dtype)
        own = Problem(*self._data, problem.cones, 1, False, n, m, dtype)
        out = {name: _address(self._block, self.layout, name) for name in self.layout.parts}
        starts = (Tensor(_address(self._start, self.layout, name), 1, 1, 0) for name in ("x", "y", "s"))
        self._call = load().gd_solve
        self._arguments = (
            problem_struct(own),
            settings_struct(settings, 1, method),
            *(starts if warm else (None, None, None)),
            CSolution(**out),
            CReport.from_address(address(self._block) + self.layout.tail),
        )

    @staticmethod
    def takes(problem: Problem) -> bool:
        """Whether a problem is one that the short way is made for."""
        n, m = problem.n, problem.m
        return not problem.batched and problem.device is None and n > 0 and m > 0 and n * (n + m) <= _LARGEST

    def solve(self, P: Array | None, q: Array, A: Array, b: Array, start: Block | None) -> Block | None:
        """Solve one problem; see `Single`."""
        own_P, own_q, own_A, own_b = self._data
        if own_P is not None:
            own_P[...] = P
        own_q[...] = q
        own_A[...] = A
        own_b[...] = b
        if start is not None:
            self._start[...] = start.memory
        return Block(self._block.copy(), self.layout) if self._call(*self._arguments) == OK else None

    @staticmethod
    def work(block: Block) -> Work:
        """What a solve cost."""
        return work(CReport.from_address(address(block.memory) + block.layout.tail))


def work(report: CReport) -> Work:
    """A report of the library in Python's terms."""
    return Work(report.interior, report.newton, report.resumed, report.flops, report.fallbacks, report.changes)


@lru_cache(maxsize=256)
def _layout(n: int, m: int, dtype: np.dtype[Any]) -> Layout:
    return Layout(n, m, dtype, sizeof(CReport))


def _address(block: Array, layout: Layout, name: str) -> int:
    kind, index = layout.parts[name]
    first = index.start if isinstance(index, slice) else index
    return address(block) + first * (kind or layout.dtype).itemsize
