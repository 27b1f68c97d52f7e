"""Throughput of one family over batch sizes: speed with its accuracy, statuses, memory and share of the ceilings."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpudiff.bench.cuda.data import Pool
from gpudiff.bench.cuda.device import Device
from gpudiff.bench.cuda.solver import DeviceSession, DeviceSolver, result_bytes
from gpudiff.bench.families import Family
from gpudiff.bench.measure import Plan, Record, Truth, judge, truth
from gpudiff.bench.ours import Gpudiff

KINDS = ("forward", "forward_backward")
PEER_BATCHES = (1_000, 100_000)  # between which peers are measured
PEER_BYTES = 12 << 30  # of data, beyond which they are not
SLOW = 20.0  # seconds: a peer that would take longer for a call is not asked
MOST_CALLS = 2000
FLOPS_SAMPLE = 512


@dataclass
class DeviceRecord(Record):
    """One solver on one family at one batch size."""

    dtype: str = "float64"
    first_seconds: dict[str, float] = field(default_factory=dict[str, float])  # of the first call, compiling included
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    bytes: int | None = None  # per problem that a forward solve has to read and write
    bandwidth_fraction: float | None = None  # the same times the rate, over the measured bandwidth
    extra_bytes: dict[str, int] = field(default_factory=dict[str, int])  # device memory beyond data and results

    @property
    def intensity(self) -> float | None:
        """Floating-point operations per byte."""
        return None if not self.bytes or self.flops is None else self.flops / self.bytes


@dataclass(frozen=True)
class Clock:
    """When to stop: nothing new is started after ``limit`` seconds."""

    limit: float | None
    started: float = field(default_factory=time.perf_counter)

    def over(self) -> bool:
        """Whether the time is up."""
        return self.limit is not None and time.perf_counter() - self.started > self.limit


def run_family(
    device: Device,
    family: Family,
    solvers: Sequence[DeviceSolver],
    plan: Plan,
    dtype: str,
    batches: Sequence[int],
    clock: Clock,
    tick: Callable[[str], None],
) -> tuple[list[DeviceRecord], dict[str, Any]]:
    """Measures one family in one element type.

    Args:
        device: Where.
        family: What.
        solvers: gpudiff first; peers are measured in float64 alone, and at batch sizes within ``PEER_BATCHES``.
        plan: How much; ``seconds`` is the time of one repeat.
        dtype: Of the data.
        batches: Batch sizes in ascending order; those that do not fit into memory are left out.
        clock: When to stop.
        tick: Called with a short text for each solver and batch size, measured or not.

    Returns:
        Records, and facts about the data.
    """
    pool = Pool(device, family, max(batches), dtype, plan.seed)
    sample, x_bar = pool.sample(plan.sample)
    exact = truth(sample, x_bar, plan.sample)
    flops = flops_per_problem(pool, dtype)
    records: list[DeviceRecord] = []
    slowest: dict[str, float] = {}
    for batch in batches:
        for solver in solvers:
            tick(f"{family.name} {dtype} {batch} {solver.name}")
            ours = solver is solvers[0]
            if batch > pool.count or clock.over() or not solver.supports(pool.base):
                continue
            if not ours and (
                dtype != "float64"
                or not PEER_BATCHES[0] <= batch <= PEER_BATCHES[1]
                or batch * pool.size.data > PEER_BYTES
                or batch * slowest.get(solver.name, 0.0) > SLOW
            ):
                continue
            record = DeviceRecord(family.name, solver.name, batch, sample=min(batch, len(exact.points)), dtype=dtype)
            if ours:
                record.flops, record.bytes = flops, pool.size.forward
            _measure(device, solver, pool, record, exact, plan, ours)
            records.append(record)
            if record.forward or record.forward_backward:
                slowest[solver.name] = 1.0 / min(filter(None, (record.forward, record.forward_backward)))
            elif not ours:
                slowest[solver.name] = float("inf")  # it failed, and will not do better with more problems
            device.release()
    facts = {
        "family": family.name,
        "about": family.about,
        "n": pool.base.n,
        "m": pool.base.m,
        "cones": pool.base.cones,
        "shared": pool.base.shared,
        "dtype": dtype,
        "base": pool.base.size,
        "pool": pool.count,
        "margin": exact.margin,
        "flops": flops,
        "bytes_forward": pool.size.forward,
    }
    return records, facts


def flops_per_problem(pool: Pool, dtype: str) -> float:
    """Floating-point operations of a forward solve, as the CPU backend counts them for problems of the pool.

    The GPU runs the same algorithm on the same source; its own counters have no room for operations.
    """
    problems, _ = pool.sample(min(FLOPS_SAMPLE, pool.base.size))
    session = Gpudiff("cpu", dtype, threads=None).prepare(problems, derivatives=False)
    counted = session.forward().flops
    assert counted is not None
    return counted / problems.size


def _measure(
    device: Device, solver: DeviceSolver, pool: Pool, record: DeviceRecord, exact: Truth, plan: Plan, ours: bool
) -> None:
    """Fills in a record; what goes wrong with a peer, or with us, is written there and ends nothing else."""
    parts = pool.parts(record.batch)
    known = Truth(exact.points[: record.sample], exact.gradients[: record.sample])
    try:
        for kind in KINDS[: 1 + solver.differentiates]:
            session = solver.prepare_parts(parts, kind != "forward")
            call = getattr(session, kind)
            device.synchronize()
            start = time.perf_counter()
            answer = call(0)
            device.synchronize()
            record.first_seconds[kind] = time.perf_counter() - start
            _look(session, answer, record, known, pool)
            del answer
            rates = [record.batch / s for s in timed(device, call, len(parts), plan)]
            setattr(record, kind, statistics.median(rates))
            setattr(record, kind + "_range", (min(rates), max(rates)))
            if ours:
                _weigh(device, call, kind, record)
            del session, call
            device.release()
    except Exception as error:
        record.error = f"{type(error).__name__}: {str(error).strip()[:500]}"


def timed(device: Device, call: Callable[[int], Any], sets: int, plan: Plan) -> list[float]:
    """Seconds per call, ``plan.repeats`` times; each takes about ``plan.seconds``, and at least one call."""
    device.seconds(lambda k: call(k % sets), 2)  # warm-up
    once = device.seconds(lambda k: call(k % sets), min(sets, 3))
    calls = int(np.clip(plan.seconds / max(once, 1e-9), 1, MOST_CALLS))
    offset = 0
    found: list[float] = []
    for _ in range(plan.repeats):
        found.append(device.seconds(lambda k, at=offset: call((at + k) % sets), calls))
        offset += calls
    return found


def _look(session: DeviceSession, answer: Any, record: DeviceRecord, exact: Truth, pool: Pool) -> None:
    outcome = session.outcome(answer, record.sample)
    flops = record.flops
    judge(record, outcome, exact, pool.base)
    record.flops = flops  # known beforehand
    record.statuses = outcome.statuses


def _weigh(device: Device, call: Callable[[int], Any], kind: str, record: DeviceRecord) -> None:
    sizes: list[int] = []

    def weighed() -> Any:
        answer = call(0)
        sizes.append(result_bytes(answer))
        return answer

    device.release()
    peak = device.peak_bytes(weighed)
    if peak is not None:
        record.extra_bytes[kind] = peak - sizes[0]
