"""Timing and accuracy of one family over all solvers, in one interleaved run.

Repeats go round all solvers before the next repeat starts, so that a drift of the machine (frequency, neighbours) hits
all of them alike; the median over repeats is the figure, its extremes are kept beside it. Accuracy is that of the very
answers that were timed, against the exact reference, on a sample of the problems.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpudiff.bench import reference
from gpudiff.bench.families import Array, Batch, Family, generate
from gpudiff.bench.solver import Gradients, Outcome, Session, Solver

NO_ANSWER = 1e99  # the error of NaN; JSON has no infinity
CORRECT = 1e-3  # largest relative error in x of an answer that counts: interior points at 1e-8 leave up to this
CORRECT_GRADIENT = 1e-2  # the same for the median error of gradients, which interior points leave less exact
UNSOLVED = 0.05  # largest fraction of problems a solver may give up on if its speed is to be compared


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    seconds: float  # per measurement
    repeats: int
    sample: int  # problems whose answers are compared with the reference
    seed: int
    batch: int | None = None  # problems per call; None takes the family's


@dataclass
class Record:
    """Everything measured about one solver on one family; what does not apply is None."""

    family: str
    solver: str
    batch: int = 0
    forward: float | None = None  # problems per second, median over repeats
    forward_range: tuple[float, float] | None = None
    forward_backward: float | None = None
    forward_backward_range: tuple[float, float] | None = None
    x_error_max: float | None = None  # ‖x − x*‖∞ / max(1, ‖x*‖∞)
    x_error_median: float | None = None
    gradient_error_max: float | None = None  # the same, the worst of the cotangents of q, b, A and P
    gradient_error_median: float | None = None
    unsolved: int | None = None  # problems of the batch that the solver itself does not call solved
    sample: int = 0
    flops: float | None = None  # per forward solve
    peak_fraction: float | None = None
    changes: float | None = None  # of the working set, mean per problem
    fallbacks: int | None = None  # problems of the batch that an active-set method handed to the interior point
    method: str | None = None  # the one that the solver chose
    error: str | None = None

    @property
    def correct(self) -> bool:
        """Whether the speed is worth comparing: (nearly) all solved, and every sampled answer right."""
        if self.error is not None or self.unsolved is None or self.x_error_max is None:
            return False
        return self.unsolved <= UNSOLVED * self.batch and self.x_error_max <= CORRECT

    @property
    def correct_gradient(self) -> bool:
        """Whether the speed with gradients is worth comparing."""
        return (
            self.correct and self.gradient_error_median is not None and self.gradient_error_median <= CORRECT_GRADIENT
        )


@dataclass
class Truth:
    """Reference answers for the first problems of a batch."""

    points: list[reference.Point]
    gradients: list[reference.Gradient]

    @property
    def margin(self) -> float:
        """The smallest margin of strict complementarity in the sample."""
        return min(point.margin for point in self.points)


def truth(batch: Batch, x_bar: Array, sample: int) -> Truth:
    """Exact solutions and gradients of the first ``sample`` problems."""
    found = points(batch, sample)
    return Truth(found.points, [reference.vjp(point, x_bar[i]) for i, point in enumerate(found.points)])


def points(batch: Batch, sample: int) -> Truth:
    """Exact solutions alone, where no gradient is to be judged."""
    return Truth([reference.solve(batch, i) for i in range(min(sample, batch.size))], [])


def run_family(
    family: Family, solvers: list[Solver], plan: Plan, tick: Callable[[str], None]
) -> tuple[list[Record], dict[str, Any]]:
    """Measures every solver that takes this family.

    Args:
        family: The case.
        solvers: gpudiff and peers, all available.
        plan: How much to measure.
        tick: Called with a short text after each step, ``steps(plan)`` times per solver in all.

    Returns:
        One record per solver that supports the family, and facts about its data.
    """
    batch = generate(family, plan.batch or family.batch, plan.seed)
    x_bar = np.random.default_rng([plan.seed, 1]).standard_normal(batch.q.shape)
    exact = truth(batch, x_bar, plan.sample)
    entries: list[Entry] = []
    for solver in solvers:
        if solver.supports(batch):
            entries.append(_prepare(family, solver, batch, x_bar, exact, plan))
            tick(f"{family.name} {solver.name}")
        else:
            for _ in range(steps(plan)):
                tick(f"{family.name} {solver.name}")
    for _ in range(plan.repeats):
        for entry in entries:
            entry.measure(plan.seconds)
            tick(f"{family.name} {entry.record.solver}")
    facts = {
        "family": family.name,
        "about": family.about,
        "n": batch.n,
        "m": batch.m,
        "cones": batch.cones,
        "shared": batch.shared,
        "batch": batch.size,
        "sample": len(exact.points),
        "margin": exact.margin,
        "reference_residual": max(point.residual for point in exact.points),
        "active": float(np.mean([_active(point, batch) for point in exact.points])),
    }
    return [entry.finish() for entry in entries], facts


def steps(plan: Plan) -> int:
    """Ticks per family and solver."""
    return 1 + plan.repeats


class Entry:
    """One solver on one family while it is being measured.

    Attributes:
        record: Where the figures go when it is finished: each into the field of the kind's name, extremes beside it.
        calls: What is timed, and its number of problems, by kind.
        rates: Problems per second, by kind, one of each repeat.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.calls: dict[str, tuple[Callable[[], Outcome], int]] = {}
        self.rates: dict[str, list[float]] = {}

    def measure(self, seconds: float) -> None:
        """One repeat of every kind."""
        for kind, (call, size) in self.calls.items():
            self.rates[kind].append(problems_per_second(call, size, seconds))

    def finish(self) -> Record:
        """The record, medians and extremes entered."""
        record = self.record
        for kind, rates in self.rates.items():
            if rates:
                setattr(record, kind, statistics.median(rates))
                setattr(record, kind + "_range", (min(rates), max(rates)))
        return record


def _prepare(family: Family, solver: Solver, batch: Batch, x_bar: Array, exact: Truth, plan: Plan) -> Entry:
    """Sessions of a size that fits the time budget, warmed up and checked against the reference."""
    record = Record(family.name, solver.name, sample=len(exact.points))
    entry = Entry(record)
    try:
        for kind in ("forward", "forward_backward")[: 1 + solver.differentiates]:
            derivatives = kind == "forward_backward"
            size = fitting_size(solver, batch, x_bar, derivatives, plan)
            part, part_bar = batch.take(0, size), np.ascontiguousarray(x_bar[:size])
            call = caller(solver.prepare(part, derivatives), part_bar, derivatives)
            outcome = call()
            judge(record, outcome, exact, part)
            record.batch = max(record.batch, size)
            entry.calls[kind], entry.rates[kind] = (call, size), []
    except Exception as error:  # a peer that breaks is reported, and does not end the run
        record.error = f"{type(error).__name__}: {error}"
        entry.calls.clear()
    return entry


def caller(session: Session, x_bar: Array, derivatives: bool) -> Callable[[], Outcome]:
    """What is to be timed, without arguments."""
    if derivatives:
        return lambda: session.forward_backward(x_bar)
    return session.forward


def fitting_size(solver: Solver, batch: Batch, x_bar: Array, derivatives: bool, plan: Plan) -> int:
    """As many problems as take about a third of the time budget, at least the sample, at most the batch."""
    trial = min(batch.size, max(16, plan.sample))
    call = caller(solver.prepare(batch.take(0, trial), derivatives), x_bar[:trial], derivatives)
    call()
    fits = problems_per_second(call, trial, 0.0) * plan.seconds / 3
    return int(min(batch.size, max(trial, fits)))


def problems_per_second(call: Callable[[], Any], size: int, seconds: float) -> float:
    """Problems per second over at least one call and at least ``seconds``."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        calls, start = 0, time.perf_counter()
        while True:
            call()
            calls += 1
            elapsed = time.perf_counter() - start
            if elapsed >= seconds:
                return size * calls / elapsed
    finally:
        if enabled:
            gc.enable()


def interleaved(calls: dict[str, Callable[[], Any]], plan: Plan) -> dict[str, list[float]]:
    """Seconds of calls that take turns: for each repeat the mean over as many as fit into the plan's time."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # warms up
    for _ in range(plan.repeats):
        for name, call in calls.items():
            seconds[name].append(1 / problems_per_second(call, 1, plan.seconds))
    return seconds


def judge(record: Record, outcome: Outcome, exact: Truth, batch: Batch) -> None:
    """Enters accuracy into the record; the worse of forward and forward_backward stays.

    Args:
        record: Where to.
        outcome: Answers, of at least as many problems as the reference has.
        exact: The reference.
        batch: The problems; of the batch itself only ``shared`` and ``size`` are looked at.
    """
    errors = [relative_error(outcome.x[i], point.x) for i, point in enumerate(exact.points)]
    record.x_error_max = max(record.x_error_max or 0.0, max(errors))
    record.x_error_median = max(record.x_error_median or 0.0, statistics.median(errors))
    record.unsolved = max(record.unsolved or 0, int((~outcome.solved).sum()))
    if outcome.gradients is None:
        record.flops = None if outcome.flops is None else outcome.flops / batch.size
        record.changes = None if outcome.changes is None else outcome.changes / batch.size
        record.fallbacks, record.method = outcome.fallbacks, outcome.method
        return
    errors = [gradient_error(outcome.gradients, g, i, batch.shared) for i, g in enumerate(exact.gradients)]
    record.gradient_error_max, record.gradient_error_median = max(errors), statistics.median(errors)


def gradient_error(found: Gradients, exact: reference.Gradient, i: int, shared: bool) -> float:
    """The largest relative error among the cotangents that a solver returns for problem i.

    That of P is symmetrised first (peers differ in how they spread it over the two triangles). Where P and A are shared
    their cotangents are sums over the batch, and q and b alone are compared.
    """
    errors = [
        relative_error(mine[i], want) for mine, want in ((found.q, exact.q), (found.b, exact.b)) if mine is not None
    ]
    if not shared and found.A is not None:
        at = found.A_at or ...
        errors.append(relative_error(_filled(found.A[i], at, exact.A)[at], exact.A[at]))
    if not shared and found.P is not None:
        at = found.P_at or ...
        P = _filled(found.P[i], at, exact.P)
        errors.append(relative_error(0.5 * (P + P.T)[at], exact.P[at]))
    return max(errors)


def _filled(values: Any, at: Any, like: Array) -> Array:
    """A matrix with these values at these places (``...`` for all) and zeros elsewhere."""
    matrix = np.zeros(like.shape)
    matrix[at] = values
    return matrix


def relative_error(found: Any, exact: Any) -> float:
    """‖found − exact‖∞ / max(1, ‖exact‖∞), which is NO_ANSWER if there is a NaN."""
    error = float(np.abs(found - exact).max(initial=0) / max(1.0, np.abs(exact).max(initial=0)))
    return error if np.isfinite(error) else NO_ANSWER


def _active(point: reference.Point, batch: Batch) -> int:
    """Rows other than equalities with a multiplier."""
    return int((np.abs(point.y[batch.cones["z"] :]) > 1e-9).sum())
