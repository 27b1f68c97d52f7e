"""Throughput by batch size: from one problem per call to a million, as far as memory and patience allow.

A base of some thousand problems is drawn, and repeated; each copy but the first is moved by a translation of its own,

    x → x + t,   t ~ 0.1 N(0, 1):      q → q − P t,   b → b + A t,

which keeps y, s, the active rows and the conditioning of the problem it copies: every problem has data of its own, and
a million of them are drawn in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from gpudiff.bench.families import Array, Batch, Family, generate
from gpudiff.bench.measure import Entry, Plan, Record, Truth, judge, points
from gpudiff.bench.solver import Solver

SIZES = tuple(10**k for k in range(7))
NAMES = ("qp-8-16", "qp-16-36", "qp-32-72", "mpc-30-120")  # families that are swept
BASE = 4096  # problems drawn
MEMORY_SHARE = 0.4  # of the memory that is free, for data, results and a copy of the largest array
LONGEST = 4.0  # seconds that one call may be expected to take
_SHIFT = 0.1


def applies(family: Family) -> bool:
    """Whether the family is swept."""
    return family.name in NAMES


def steps(plan: Plan) -> int:
    """Ticks per family and solver."""
    return len(SIZES)


def run_sweep(
    family: Family, solvers: list[Solver], plan: Plan, tick: Callable[[str], None], most: int | None = None
) -> list[Record]:
    """Measures gpudiff at each batch size.

    Args:
        family: The case.
        solvers: gpudiff with its methods.
        plan: How much to measure; ``batch`` is a limit of the size here.
        tick: Called with a short text after each step, ``steps(plan)`` times per solver in all.
        most: Problems that fit into memory; None looks how much there is.

    Returns:
        One record for each solver and size; a size that does not fit, or would take too long, has none.
    """
    base = generate(family, min(BASE, plan.batch or BASE), plan.seed)
    exact = points(base, plan.sample)
    most = min(fitting(base) if most is None else most, plan.batch or SIZES[-1])
    records: list[Record] = []
    fastest: dict[str, float] = {}
    for size in SIZES:
        chosen: list[Solver] = []
        for solver in solvers:
            tick(f"{family.name} {size} {solver.name}")
            expected = size / fastest.get(solver.name, float(size))
            if size <= most and solver.supports(base) and expected <= LONGEST:
                chosen.append(solver)
        if not chosen:
            continue
        batch = repeated(base, size, plan.seed)
        entries = [_prepare(Record(family.name, solver.name, size), solver, batch, exact) for solver in chosen]
        for _ in range(plan.repeats):
            for entry in entries:
                entry.measure(plan.seconds)
        for entry in entries:
            record = entry.finish()
            records.append(record)
            fastest[record.solver] = max(fastest.get(record.solver, 0.0), record.forward or 0.0) or 1e-9
    return records


def _prepare(record: Record, solver: Solver, batch: Batch, exact: Truth) -> Entry:
    """A session of the whole batch, its first answers compared with the reference."""
    entry = Entry(record)
    here = Truth(exact.points[: batch.size], [])
    record.sample = len(here.points)
    try:
        session = solver.prepare(batch, False)
        judge(record, session.forward(), here, batch)
        entry.calls["forward"], entry.rates["forward"] = (session.forward, batch.size), []
    except Exception as error:  # a method that breaks is reported, and does not end the run
        record.error = f"{type(error).__name__}: {error}"
    return entry


def repeated(base: Batch, count: int, seed: int) -> Batch:
    """``count`` problems; the first ones are the base itself, the others its translations."""
    if count <= base.size:
        return base.take(0, count)
    rng = np.random.default_rng([seed, count])

    def copies(array: Array, core: int) -> Array:
        if array.ndim == core:
            return array
        out = np.empty((count, *array.shape[1:]))
        for start in range(0, count, base.size):
            out[start : start + base.size] = array[: count - start]
        return out

    P, A = None if base.P is None else copies(base.P, 2), copies(base.A, 2)
    q, b = copies(base.q, 1), copies(base.b, 1)
    for start in range(base.size, count, base.size):
        part = slice(start, min(start + base.size, count))
        t = _SHIFT * rng.standard_normal(q[part].shape)
        if base.P is not None:
            q[part] -= _times(base.P, t)
        b[part] += _times(base.A, t)
    return Batch(P, q, A, b, base.cones)


def _times(M: Array, t: Array) -> Array:
    """M t for each of the first problems, or for a shared M."""
    return t @ M.T if M.ndim == 2 else (M[: len(t)] @ t[..., None])[..., 0]


def fitting(base: Batch) -> int:
    """How many problems of this kind fit into memory, data and results."""
    own: list[Any] = [array for array in (base.P, base.A) if array is not None and array.ndim == 3]
    words = sum(array[0].size for array in own) + 2 * (base.n + base.m) + base.m + 8
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        free = 4 << 30  # a guess where the system does not tell
    return int(MEMORY_SHARE * free / (8 * words))
