"""The figures that are no throughput: the first result, one problem alone, and a batch with a few hard problems."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from gpudiff.bench import machine
from gpudiff.bench.cuda.data import Part, Pool, upload
from gpudiff.bench.cuda.device import Device, to_host
from gpudiff.bench.cuda.measure import timed
from gpudiff.bench.cuda.solver import GpudiffOnDevice
from gpudiff.bench.families import FAMILIES, Batch, Family, generate
from gpudiff.bench.measure import Plan

SMALL, MIDDLE = "qp-8-16", "qp-32-72"
HARD_FRACTION = 0.01
_CANDIDATES = 512
_FIRST_RESULT = """
import json, time
start = time.perf_counter()
import numpy, torch
import gpudiff
from gpudiff.bench.families import FAMILIES, generate
imported = time.perf_counter()
device = {device!r}
batch = generate(next(f for f in FAMILIES if f.name == {family!r}), 64, 0)
P, q, A, b = (torch.from_numpy(getattr(batch, name)).to(device) for name in "PqAb")
synchronize = torch.cuda.synchronize if device == "cuda" else (lambda: None)
synchronize()
times = []
for _ in range(3):
    for backward in (False, True):
        begin = time.perf_counter()
        solution = gpudiff.solve(P, q, A, b, batch.cones, backend={backend!r})
        if backward:
            solution.vjp(x=torch.ones_like(q))
        synchronize()
        times.append(time.perf_counter() - begin)
assert bool(solution.ok.all())
print(json.dumps({{"import": imported - start, "forward": times[0], "forward_backward": times[1],
                  "again_forward": min(times[2::2]), "again_forward_backward": min(times[3::2])}}))
"""


def named(name: str) -> Family:
    """The family of this name."""
    return next(family for family in FAMILIES if family.name == name)


def first_result(device: Device, backend: str, family: str = MIDDLE) -> dict[str, dict[str, float]]:
    """Seconds to the first result in a fresh process: with nothing compiled, with everything on disk, and once running.

    Returns:
        For "cold" (an empty cache) and "warm" (the same cache, another process): "import" (of torch and gpudiff),
        "forward" and "forward_backward" (the first call of each, after the data are on the device), and the best of
        later calls, "again_…".

    Raises:
        RuntimeError: If the process fails; with what it printed.
    """
    code = _FIRST_RESULT.format(device=device.name, family=family, backend=backend)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for state in ("cold", "warm"):
            environment = {**os.environ, "GPUDIFF_CACHE_DIR": folder}
            command = machine.fresh_interpreter(code)
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
            if done.returncode != 0:
                raise RuntimeError(f"{state}: {(done.stderr or done.stdout).strip()[-1000:]}")
            found[state] = json.loads(done.stdout.splitlines()[-1])
    return found


def latency(
    device: Device, solver: GpudiffOnDevice, seed: int, repeats: int = 300
) -> dict[str, dict[str, float | str]]:
    """Median wall microseconds at B = 1 of a call and the wait for it, and of a CUDA graph's replay and the wait.

    Returns:
        Per family "forward_us", "forward_backward_us", "graph_forward_us", "graph_forward_backward_us"; or the reason
        why there is none, as text.
    """
    found: dict[str, dict[str, float | str]] = {}
    for name in (SMALL, MIDDLE):
        batch = upload(device, generate(named(name), 1, seed), "float64")
        session = solver.prepare_parts([Part(batch, device.normal((1, batch.n), "float64", seed))], True)
        figures: dict[str, float | str] = {}
        for kind in ("forward", "forward_backward"):
            call = getattr(session, kind)
            figures[kind + "_us"] = _wall(device, lambda call=call: call(0), repeats)
            try:
                replay = device.capture(lambda call=call: call(0))
                figures[f"graph_{kind}_us"] = _wall(device, replay, repeats)
            except Exception as error:
                figures[f"graph_{kind}_us"] = f"{type(error).__name__}: {str(error).strip()[:300]}"
        found[name] = figures
    return found


def _wall(device: Device, call: Callable[[], Any], repeats: int) -> float:
    times: list[float] = []
    for _ in range(repeats):
        device.synchronize()
        start = time.perf_counter()
        call()
        device.synchronize()
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times[repeats // 10 :])


def tail(device: Device, solver: GpudiffOnDevice, plan: Plan, batch: int = 100_000) -> dict[str, Any]:
    """A batch of dense QPs, and the same with 1 % of hard ones strewn in: how much longer it takes.

    Returns:
        "seconds" and "seconds_hard", their "ratio", the number of problems and of hard ones, the mean iterations of
        either kind as the device counts them, and "work_ratio", by which the sum of iterations grows: what the time
        would grow by if the work were perfectly balanced.
    """
    pool = Pool(device, named(MIDDLE), batch, "float64", plan.seed)
    size = min(batch, pool.count)
    count = max(1, int(HARD_FRACTION * size))
    part = pool.parts(size)[0]
    hard = upload(device, hard_problems(count, plan.seed), "float64")
    places = device.put(np.sort(np.random.default_rng(plan.seed).choice(size, count, replace=False)))
    found: dict[str, Any] = {"family": MIDDLE, "batch": size, "hard": count}
    iterations: list[Any] = []
    for name in ("seconds", "seconds_hard"):
        if name == "seconds_hard":
            for argument in ("P", "q", "A", "b"):
                getattr(part.batch, argument)[places] = getattr(hard, argument)
        session = solver.prepare_parts([part], False)
        found[name] = statistics.median(timed(device, session.forward, 1, plan))
        solution, _ = session.forward(0)
        iterations.append(to_host(solution.iterations).astype(np.int64))
        found["statuses" if name == "seconds" else "statuses_hard"] = session.outcome((solution, None), 1).statuses
    chosen = to_host(places)
    found["ratio"] = found["seconds_hard"] / found["seconds"]
    found["iterations"] = float(iterations[0].mean())
    found["iterations_hard"] = float(iterations[1][chosen].mean())
    found["work_ratio"] = float(iterations[1].sum() / iterations[0].sum())
    return found


def hard_problems(count: int, seed: int) -> Batch:
    """Dense QPs that take several times the usual number of iterations: the hardest of some, repeated.

    16 rows are the negatives of 16 others, with right-hand sides 1e-6 apart: the strip between the two is thin, and
    those of most problems do not meet, which is hard to tell.
    """
    import gpudiff as gd

    batch = generate(named(MIDDLE), _CANDIDATES, seed + 1)
    A, b = batch.A.copy(), batch.b.copy()
    A[:, 40:56], b[:, 40:56] = -A[:, 8:24], 1e-6 - b[:, 8:24]
    solution = gd.solve(batch.P, batch.q, A, b, batch.cones, backend="cpu")
    hardest = np.argsort(-np.asarray(solution.iterations), kind="stable")[: _CANDIDATES // 8]
    chosen = hardest[np.arange(count) % hardest.size]
    assert batch.P is not None
    return Batch(batch.P[chosen], batch.q[chosen], A[chosen], b[chosen], batch.cones)
