"""Warm starts: how fast a batch is solved whose data have moved a little since the last one.

A first batch is solved outside of the clock. Timed are solves of copies of it that have moved by 1 % or 0.1 %
(moved.py), each new in each call and each started from the solutions of the first; beside them, cold solves of the same
copies in the same repeat. gpudiff and its peers get what their interfaces take: x, y and s, or the active rows.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from gpudiff.bench.families import Batch, Family, generate
from gpudiff.bench.measure import Entry, Plan, Record, Truth, fitting_size, judge, points
from gpudiff.bench.moved import moved
from gpudiff.bench.solver import Outcome, Session, Solver, WarmSolver, only_linear

MOVES = (0.01, 0.001)  # relative
COPIES = 4  # of moved data, taken in turn


@dataclass
class WarmRecord(Record):
    """A ``Record`` whose ``forward`` is the rate from a warm start; accuracy, changes and so on belong to that."""

    move: float = 0.0
    cold: float | None = None  # the rate on the same data from scratch
    cold_range: tuple[float, float] | None = None


def applies(family: Family) -> bool:
    """Whether the family is measured here: QPs and LPs are, whose problems have rows to be active."""
    return only_linear(generate(family, 1, 0))


def steps(plan: Plan) -> int:
    """Ticks per family and solver."""
    return len(MOVES) * (1 + plan.repeats)


def run_warm(family: Family, solvers: list[Solver], plan: Plan, tick: Callable[[str], None]) -> list[WarmRecord]:
    """Measures every solver that takes this family and can start from a solution.

    Args:
        family: The case; one for which ``applies``.
        solvers: gpudiff and peers, all available.
        plan: How much to measure.
        tick: Called with a short text after each step, ``steps(plan)`` times per solver in all.

    Returns:
        One record for each such solver and each of ``MOVES``.
    """
    size = plan.batch or family.batch
    first = generate(family, size, plan.seed)
    records: list[WarmRecord] = []
    for move in MOVES:
        copies = [moved(family, size, plan.seed, move, k) for k in range(COPIES)]
        exact = [points(copy, -(-plan.sample // COPIES)) for copy in copies]
        entries: list[tuple[WarmRecord, Entry]] = []
        for solver in solvers:
            tick(f"{family.name} {move:g} {solver.name}")
            if isinstance(solver, WarmSolver) and solver.supports(first):
                record = WarmRecord(family.name, solver.name, sample=sum(len(e.points) for e in exact), move=move)
                entries.append((record, _prepare(record, solver, first, copies, exact, plan)))
            else:
                for _ in range(plan.repeats):
                    tick(f"{family.name} {move:g} {solver.name}")
        for _ in range(plan.repeats):
            for record, entry in entries:
                entry.measure(plan.seconds)
                tick(f"{family.name} {move:g} {record.solver}")
        for record, entry in entries:
            entry.finish()
            records.append(record)
    return records


def _prepare(
    record: WarmRecord, solver: WarmSolver, first: Batch, copies: list[Batch], exact: list[Truth], plan: Plan
) -> Entry:
    """Sessions of a size that fits the time budget, their answers to all copies compared with the reference."""
    entry = Entry(record)
    try:
        size = record.batch = fitting_size(solver, first, first.q, False, plan)
        parts = [copy.take(0, size) for copy in copies]
        sessions = {
            "forward": solver.prepare_warm(first.take(0, size), parts),
            "cold": [solver.prepare(part, False) for part in parts],
        }
        judged = [Record("", "") for _ in parts]
        for found, session, truth, part in zip(judged, sessions["forward"], exact, parts, strict=True):
            judge(found, session.forward(), truth, part)
        _combine(record, judged)
        for kind, each in sessions.items():
            entry.calls[kind], entry.rates[kind] = (_in_turn(each), size), []
    except Exception as error:  # a peer that breaks is reported, and does not end the run
        record.error = f"{type(error).__name__}: {error}"
        entry.calls.clear()
    return entry


def _in_turn(sessions: list[Session]) -> Callable[[], Outcome]:
    """Each call solves the next copy."""
    turn = itertools.cycle(sessions)
    return lambda: next(turn).forward()


def _combine(record: Record, found: list[Record]) -> None:
    """The worst error of all copies, the largest median and number of failures, and mean counts."""
    record.x_error_max = max(r.x_error_max or 0.0 for r in found)
    record.x_error_median = max(r.x_error_median or 0.0 for r in found)
    record.unsolved = max(r.unsolved or 0 for r in found)
    record.flops = _mean([r.flops for r in found])
    record.changes = _mean([r.changes for r in found])
    counts = [r.fallbacks for r in found if r.fallbacks is not None]
    record.fallbacks = max(counts) if counts else None
    record.method = found[0].method


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
